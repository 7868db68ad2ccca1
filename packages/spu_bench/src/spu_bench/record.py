"""The record of a measurement: typed, versioned, and the only source of a reported number."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from spu_bench.migrations import migrate
from spu_bench.network import Network
from spu_bench.network.probe import NetworkProbe
from spu_bench.options import Options
from spu_bench.party.spu_profile import OperationStats, Traffic
from spu_bench.samples import SampleStatistics
from spu_bench.watch import MachineWatch


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Request(_Strict):
    """What was asked for."""

    protocol: str
    network: Network
    executor: str
    runtime: str
    options: Options
    repeats: int
    warmup: int
    timeout_s: float


class ProgramIdentity(_Strict):
    """The Program that ran: its name, its fingerprint, and what made it."""

    name: str
    fingerprint: str
    made_by: dict[str, Any]


class Inference(_Strict):
    """One inference at one party: seconds of sharing the input, of the protocol, of revealing; the link's totals.

    `cpu_s` is the CPU time of all threads during the protocol, waiting in a spin included.
    `link` is None where it was not counted. `interface_*_bytes` are the kernel's counters of the interface that carries
    the link, headers included; on the loopback device they hold both directions.
    """

    input_s: float
    run_s: float
    reveal_s: float
    cpu_s: float
    link: Traffic | None
    interface_sent_bytes: int | None = None
    interface_received_bytes: int | None = None


class Failure(_Strict):
    """Why a run has no valid result: a word of `errors.REASONS`, what was wrong, what to do."""

    reason: str
    problem: str
    fix: str


class PartyOutcome(_Strict):
    """What one party reports of itself.

    Operations are those of the last inference; `threads` is the cap on compute threads (0: none was set), `cpu_s` the
    process's CPU time, `shared_bytes` what it sent of weights', inputs' and outputs' shares, beside SPU's link.
    `traffic_counted_by` says where the link's bytes and messages come from: "profile", SPU's own statistics of each
    inference; "relay", one more run of the same Program on loopback, over a relay that counted (spu_bench.relay);
    "crypten", CrypTen's own counters of each inference, whose messages are collective operations: gloo takes four
    one-way delays for each.
    """

    rank: int
    role: Literal["server", "client", "helper"]
    connect_s: float = 0.0
    share_weights_s: float = 0.0
    compile_s: float = 0.0
    inferences: list[Inference] = Field(default_factory=list)
    operations: list[OperationStats] = Field(default_factory=list)
    traffic_counted_by: Literal["profile", "relay", "crypten"] | None = "profile"
    shared_bytes: int = 0
    peak_memory_bytes: int = 0
    cpu_s: float = 0.0
    threads: int = 0
    opened_files: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    failure: Failure | None = None


class Accuracy(_Strict):
    """Logits under MPC against those in plaintext.

    Of `inputs` in all, `top1_equal` got the same class; `clear` are those whose two largest plaintext logits are more
    than CLEAR_MARGIN apart, `clear_equal` those of them with the same class. `max_abs_error` is over all logits,
    `errors` the largest of each inference (None in records from before it was kept).
    """

    inputs: int
    max_abs_error: float
    top1_equal: int
    clear: int
    clear_equal: int
    errors: list[float] | None = None


CLEAR_MARGIN = 0.1


class RunRecord(_Strict):
    """One measured cell.

    `samples_s` are the seconds of the protocol alone (the slower party's), one per inference after the warm-up.
    `messages` of a party are SPU's send actions, its rounds. `trust` is what the parties have to trust each other with
    (options.trust_model). A failed or invalid run has a `failure`, and whatever was seen before it failed.
    `link_before` and `link_after` are what a probe saw of the link around the run, `watch` what was seen of the machine
    during it. `overhead_s` is what the harness took around the parties' processes: to open and close their hosts, to
    shape and to probe their link. Both are None in records from before they were kept. `prediction` is what the cost
    model said of the same Program, protocol and network, where it was asked.
    """

    schema_version: Literal[2] = 2
    status: Literal["ok", "failed", "invalid"]
    failure: Failure | None = None
    request: Request
    program: ProgramIdentity | None = None
    trust: str | None = None
    samples_s: list[float] = Field(default_factory=list)
    statistics: SampleStatistics | None = None
    parties: list[PartyOutcome] = Field(default_factory=list)
    link_before: list[NetworkProbe] = Field(default_factory=list)
    link_after: list[NetworkProbe] = Field(default_factory=list)
    executor: dict[str, Any] = Field(default_factory=dict)
    accuracy: Accuracy | None = None
    logits: list[list[float]] | None = None
    machine: dict[str, Any] = Field(default_factory=dict)
    code: dict[str, Any] = Field(default_factory=dict)
    prediction: dict[str, Any] | None = None
    cell: dict[str, Any] | None = None
    cell_fingerprint: str | None = None
    started_at: str
    duration_s: float
    overhead_s: float | None = None
    watch: MachineWatch | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_any_version(cls, value: Any) -> Any:
        return migrate(value) if isinstance(value, dict) else value

    @property
    def rounds(self) -> int:
        """Messages one party sends in an inference, one after another: the larger of the parties'."""
        return max(traffic.sent_messages for traffic in self.traffic())

    @property
    def sent_bytes(self) -> list[int]:
        """Bytes that each party sent in the last inference, in rank order."""
        return [traffic.sent_bytes for traffic in self.traffic()]

    def traffic(self) -> list[Traffic]:
        """What each party sent and received in the last inference, in rank order."""
        counted = [party.inferences[-1].link for party in self.parties]
        return [traffic for traffic in counted if traffic is not None]

    def save(self, path: str | Path) -> None:
        """Write the record as JSON, whole or not at all."""
        write_whole(Path(path), self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> RunRecord:
        """Read a record of this schema or an older one; raises pydantic.ValidationError where it is none."""
        return cls.model_validate_json(Path(path).read_text())


def record_json_schema() -> str:
    """The JSON Schema of RunRecord, as committed beside the records."""
    return json.dumps(RunRecord.model_json_schema(), indent=1, sort_keys=True) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path` through a temporary file and a rename, so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


if __name__ == "__main__":
    print(record_json_schema(), end="")
