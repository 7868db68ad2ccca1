"""What a party's process reports of itself, as plain data: the fields of record.PartyOutcome."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from typing import Optional

from spu_bench.party.backend import Dealt
from spu_bench.party.spu_profile import OperationStats, Traffic


@dataclass
class InferenceReport:
    """One inference, as record.Inference."""

    input_s: float
    run_s: float
    reveal_s: float
    cpu_s: float
    link: Optional[Traffic]
    interface_sent_bytes: Optional[int]
    interface_received_bytes: Optional[int]
    dealt: Optional[Dealt] = None


@dataclass
class PartyReport:
    """A party, as record.PartyOutcome. It grows while the session runs, so that a failure leaves what was seen.

    `failure` holds the parts of the SpuBenchError that ended the session.
    """

    connect_s: float = 0.0
    compile_s: float = 0.0
    share_weights_s: float = 0.0
    inferences: list[InferenceReport] = field(default_factory=list)
    operations: list[OperationStats] = field(default_factory=list)
    shared_bytes: int = 0
    peak_memory_bytes: int = 0
    threads: int = 0
    opened_files: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    failure: Optional[dict[str, str]] = None

    def save(self, path: str) -> None:
        """Write the report as JSON, whole or not at all."""
        with open(path + ".part", "w") as stream:
            json.dump(dataclasses.asdict(self), stream)
        os.replace(path + ".part", path)
