"""What steps cost on this machine: measured once, kept in a file, and read by every prediction."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spu_bench import provenance
from spu_bench.errors import SpuBenchError
from spu_bench.options import Options
from spu_bench.record import write_whole


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StepCost(_Strict):
    """What one operation costs between two parties.

    `seconds` is what it takes on the loopback device. `turns` counts the one-way delays on its critical path, and
    `path_bytes` the bytes on it: what it would take more over a link of another delay and rate. `sent_bytes` and
    `sent_messages` are those of the server and the client; `message_bytes` lists what is sent in one
    direction without a wait, that of the two with more volume, as pairs of size and count: the messages of a protocol
    in lockstep, what follows one another in any other. `top_ups` is how often a run finds the parties'
    stock of oblivious transfers empty, on average, and makes a new one. `storage` is how SPU keeps the results.
    """

    operation: str
    seconds: float
    turns: float = 0.0
    path_bytes: int = 0
    sent_bytes: tuple[int, int] = (0, 0)
    sent_messages: tuple[int, int] = (0, 0)
    message_bytes: tuple[tuple[int, int], ...] = ()
    top_ups: float = 0.0
    storage: tuple[str, ...]


TOP_UP = "oblivious transfers"
"""The name of a top-up among operations: making a new stock of oblivious transfers, whatever step finds it empty."""


def sizes(messages: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Sizes of messages as pairs of size and count, the largest first."""
    return tuple(sorted(Counter(messages).items(), reverse=True))


class StepTable(_Strict):
    """Costs of steps under one protocol and one set of SPU's options, by `Step.key`; the cost of a top-up.

    `waited` is a run's time over the busier party's CPU time, when the steps were measured: near 1 on an idle machine.
    """

    protocol: str
    options: Options
    steps: dict[str, StepCost] = Field(default_factory=dict)
    top_up: StepCost | None = None
    waited: float = 1.0


class Calibration(_Strict):
    """All that is known of what steps cost on one machine, with one version of SPU.

    `wake_s` is what a turn costs beyond the link's delay where parties have to wait for it (None: not measured), and
    `wake_from` says on which link it was measured.
    """

    schema_version: int = 1
    machine: dict[str, str | int]
    spu: str
    wake_s: float | None = None
    wake_from: str = ""
    tables: dict[str, StepTable] = Field(default_factory=dict)

    def table(self, protocol: str, options: Options) -> StepTable:
        """The table of this protocol and these options, a new one where there is none yet."""
        own = options.model_dump_json(include={"runtime", "link"})
        key = f"{protocol}-{hashlib.sha256(own.encode()).hexdigest()[:12]}"
        return self.tables.setdefault(key, StepTable(protocol=protocol, options=options))

    def save(self, path: Path) -> None:
        """Write the calibration as JSON, whole or not at all."""
        write_whole(path, self.model_dump_json(indent=1) + "\n")


def default_path() -> Path:
    """Where this user's calibration lies: spu-bench/calibration.json below XDG_CACHE_HOME, or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spu-bench" / "calibration.json"


def load(path: Path) -> Calibration:
    """The calibration at `path`, an empty one where there is no file.

    Raises SpuBenchError where the file is none, or is of another machine or version of SPU.
    """
    machine, spu = _this_machine(), importlib.metadata.version("spu")
    if not path.exists():
        return Calibration(machine=machine, spu=spu)
    again = "delete it, and run `spu-bench calibrate`, or name another file with --calibration."
    try:
        found = Calibration.model_validate_json(path.read_text())
    except (ValidationError, OSError, UnicodeDecodeError) as error:
        raise SpuBenchError(f"{path} is no calibration: {str(error).splitlines()[0]}.", again, "bad_input") from None
    for what, here, there in (("SPU", spu, found.spu), ("machine", machine, found.machine)):
        if here != there:
            raise SpuBenchError(
                f"{path} was measured with another {what}: {there}, here it is {here}.", again, "bad_input"
            )
    return found


def _this_machine() -> dict[str, str | int]:
    seen = provenance.machine()
    return {"cpu": seen.cpu, "cores": os.cpu_count() or 0, "memory_bytes": seen.memory_bytes}
