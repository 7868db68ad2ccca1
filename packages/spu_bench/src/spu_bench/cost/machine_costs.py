"""`MachineCosts`: what steps cost on one machine. It is measured once, saved in a file, and read by predictions."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError

from spu_bench import provenance
from spu_bench.errors import SpuBenchError
from spu_bench.options import Options
from spu_bench.record import write_whole
from spu_bench.strict import Strict

FILE_NAME = "machine-costs.json"
_EARLIER_FILE_NAME = "calibration.json"


class StepCost(Strict):
    """What one operation costs between two parties.

    - `seconds`: its time on the loopback device.
    - `turns`: the one-way delays on its critical path. `path_bytes`: the bytes on that path.
    - `sent_bytes`, `sent_messages`: of the server and of the client.
    - `message_bytes`: pairs of size and count of what is sent without a wait, in the direction with more bytes. Under a
      protocol in lockstep these are the messages, under another one the messages that follow each other.
    - `top_ups`: how often a run, on average, finds the stock of oblivious transfers empty and makes a new one.
    - `storage`: how SPU stores the results.
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
"""The name among operations of a top-up, which makes a new stock of oblivious transfers in any step."""


def sizes(messages: Iterable[int]) -> tuple[tuple[int, int], ...]:
    """Sizes of messages as pairs of size and count, the largest first."""
    return tuple(sorted(Counter(messages).items(), reverse=True))


class StepTable(Strict):
    """The costs of steps under one protocol and one set of SPU's options, by `Step.key`, and the cost of a top-up.

    `waited` is the time of a run divided by the CPU time of the busier party, when the steps were measured. It is near
    1 on an idle machine.
    """

    protocol: str
    options: Options
    steps: dict[str, StepCost] = Field(default_factory=dict)
    top_up: StepCost | None = None
    waited: float = 1.0


class MachineCosts(Strict):
    """What steps cost on one machine with one version of SPU.

    `wake_s` is the wake-up time: the seconds that a turn takes beyond the network's delay (None: not measured).
    `wake_from` says where it was measured.
    """

    schema_version: int = 1
    machine: dict[str, str | int]
    spu: str
    wake_s: float | None = None
    wake_from: str = ""
    tables: dict[str, StepTable] = Field(default_factory=dict)

    def table(self, protocol: str, options: Options) -> StepTable:
        """The table of this protocol and these options; an empty one is added where there is none."""
        own = options.model_dump_json(include={"runtime", "link"})
        key = f"{protocol}-{hashlib.sha256(own.encode()).hexdigest()[:12]}"
        return self.tables.setdefault(key, StepTable(protocol=protocol, options=options))

    def save(self, path: Path) -> None:
        """Write the file as JSON, either whole or not at all."""
        write_whole(path, self.model_dump_json(indent=1) + "\n", 0o644)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file at `path`; without that file, the costs are empty.

        A calibration.json beside a missing machine-costs.json is the same file under its earlier name, and is read.
        Raises SpuBenchError where the file is not valid, or is of another machine or version of SPU.
        """
        machine, spu = _this_machine(), importlib.metadata.version("spu")
        earlier = path.with_name(_EARLIER_FILE_NAME)
        if path.name == FILE_NAME and not path.exists() and earlier.exists():
            path = earlier
        if not path.exists():
            return cls(machine=machine, spu=spu)
        fix = f"delete {path}, and run `spu-bench profile-machine PROGRAM`, or name another file with --machine-costs."
        try:
            found = cls.model_validate_json(path.read_text())
        except (ValidationError, OSError, UnicodeDecodeError) as error:
            first = str(error).splitlines()[0]
            raise SpuBenchError(f"{path} does not hold machine costs: {first}.", fix, "bad_input") from None
        for what, here, there in (("SPU", spu, found.spu), ("machine", machine, found.machine)):
            if here != there:
                problem = f"{path} was measured with another {what}: {there}, and here it is {here}."
                raise SpuBenchError(problem, fix, "bad_input")
        return found


def default_path() -> Path:
    """The user's own file: spu-bench/machine-costs.json below XDG_CACHE_HOME, or below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spu-bench" / FILE_NAME


def _this_machine() -> dict[str, str | int]:
    seen = provenance.machine()
    return {"cpu": seen.cpu, "cores": os.cpu_count() or 0, "memory_bytes": seen.memory_bytes}
