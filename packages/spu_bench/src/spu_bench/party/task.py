"""What a party's process has to know, as plain data: `launch` writes it, and the session loop reads it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Optional, Tuple, TypedDict

from spu_bench.party import Holder

Endpoint = Tuple[str, int]


class ArraySpec(TypedDict):
    """An argument or an output of the module; `holder` and `batched` are those of an argument (program.Argument)."""

    name: str
    shape: list[int]
    dtype: str
    holder: Holder
    batched: bool


class Manifest(TypedDict):
    """The content of program.json (spu_bench.program.Manifest), already checked."""

    name: str
    module: dict[str, str]
    arguments: list[ArraySpec]
    outputs: list[ArraySpec]
    made_by: dict[str, Any]
    fingerprint: str


class DealerTask(TypedDict):
    """The table [dealer] of the link file (session.DealerAddress)."""

    address: str
    port: int
    transport: str
    key_file: Optional[str]
    certificate: Optional[str]
    private_key: Optional[str]
    ca: Optional[str]
    insecure: bool


class Tables(TypedDict):
    """The options of a session: settings of the runtime, of its compiler, and of its link, each by its own name."""

    runtime: dict[str, Any]
    compiler: dict[str, Any]
    link: dict[str, Any]


@dataclass(frozen=True)
class Task:
    """A party's part of a session.

    `runtime` is the runtime's name in messages, `program` the Program's directory, `source` the client's own input
    (None: the sample), `output` where the client's outputs go. The process leaves its report in the file `report`, and
    its log and that of the runtime in `log`. `interface` is the network interface whose bytes are counted (None: not
    counted), `device` the one with this party's address. `link` and `exchange` are the addresses of all parties in rank
    order, as this party sees them; `link_counter` is the file in which a CountingRelay counts (None: there is no
    relay). `digest` is what all parties must agree on. `dealer` is the third party that deals.
    """

    rank: int
    runtime: str
    protocol: str
    program: str
    manifest: Manifest
    source: Optional[str]
    output: Optional[str]
    report: str
    log: str
    interface: Optional[str]
    device: Optional[str]
    link: list[Endpoint]
    exchange: list[Endpoint]
    link_counter: Optional[str]
    digest: str
    repeats: int
    warmup: int
    connect_timeout_s: float
    options: Tables
    dealer: Optional[DealerTask] = None

    def arguments(self, holder: Holder) -> list[ArraySpec]:
        """The Program's arguments that `holder` has."""
        return [each for each in self.manifest["arguments"] if each["holder"] == holder]

    def save(self, path: str) -> None:
        """Write the task as JSON."""
        with open(path, "w") as stream:
            json.dump(dataclasses.asdict(self), stream)


def load_task(path: str) -> Task:
    """Read a task that `Task.save` wrote."""
    with open(path) as stream:
        raw = json.load(stream)
    for name in ("link", "exchange"):
        raw[name] = [(address, port) for address, port in raw[name]]
    return Task(**raw)
