"""What the backends of both versions of SPU have in common: how shares are made, sent and put together."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any, Optional

from spu_bench.errors import SpuBenchError
from spu_bench.party import CLIENT, OWNERS, Holder
from spu_bench.party.backend import Arrays, Dealer
from spu_bench.party.exchange import Exchange, pack, unpack
from spu_bench.party.task import Endpoint, Task

Share = Any
"""One party's share of an array, as that version of SPU has it."""


class SpuBackend(ABC):
    """What both versions share of a Backend. Their own `compile` sets `executable`, their `connect` sets `runtime`."""

    runtime: Any
    executable: Any
    io: Any
    dealer: Optional[Dealer] = None

    def __init__(self, task: Task) -> None:
        self.task = task
        self._log = open(task.log, errors="replace")  # noqa: SIM115 - SPU writes it until the process ends

    @abstractmethod
    def make_shares(self, array: Any, holder: Holder) -> list[Share]:
        """Shares of an array of `holder`, one for each rank."""

    @abstractmethod
    def to_bytes(self, share: Share) -> list[bytes]:
        """A share as it is sent."""

    @abstractmethod
    def from_bytes(self, parts: list[bytes]) -> Share:
        """The inverse of `to_bytes`."""

    def share(self, exchange: Exchange, holder: Holder, arrays: Optional[Arrays]) -> None:
        """The owner makes shares of its arrays and sends each party its own; all set theirs in the runtime."""
        owner = OWNERS[holder]
        if owner is None or owner == self.task.rank:
            shares = {name: self.make_shares(array, holder) for name, array in (arrays or {}).items()}
            for peer in exchange.peers if owner is not None else []:
                exchange.send(peer, pack({name: self.to_bytes(each[peer]) for name, each in shares.items()}))
            mine = {name: each[self.task.rank] for name, each in shares.items()}
        else:
            mine = self._unpack(exchange.receive(owner))
            if set(mine) != {spec["name"] for spec in self.task.arguments(holder)}:
                raise SpuBenchError(
                    f"Party {owner} sent shares of other arrays than the Program's.",
                    "start all parties again, and let nobody else reach their ports.",
                    "peer",
                )
        for name, share in mine.items():
            self.runtime.set_var(name, share)

    def compute(self) -> None:
        """As Backend."""
        self.runtime.run(self.executable)

    def reveal(self, exchange: Exchange) -> Arrays:
        """Send the outputs' shares to the client, who alone puts them together."""
        mine = {spec["name"]: self.runtime.get_var(spec["name"]) for spec in self.task.manifest["outputs"]}
        if self.task.rank != CLIENT:
            exchange.send(CLIENT, pack({name: self.to_bytes(share) for name, share in mine.items()}))
            return {}
        shares = {peer: self._unpack(exchange.receive(peer)) for peer in exchange.peers}
        shares[CLIENT] = mine
        return {name: self.io.reconstruct([shares[rank][name] for rank in sorted(shares)]) for name in mine}

    def module(self) -> bytes:
        """The serialized HLO module, which `launch` has checked."""
        with open(os.path.join(self.task.program, self.task.manifest["module"]["file"]), "rb") as stream:
            return stream.read()

    def new_log_lines(self) -> list[str]:
        """What SPU has logged since the last call."""
        return self._log.readlines()

    def _unpack(self, data: bytes) -> dict[str, Share]:
        return {name: self.from_bytes(parts) for name, parts in unpack(data).items()}


def describe_link(description: Any, endpoints: list[Endpoint], receive_timeout_s: float) -> None:
    """Fill in a link.Desc: its name, how long to wait for a message, and where each rank listens."""
    description.id = "spu-bench"
    description.recv_timeout_ms = int(receive_timeout_s * 1000)
    for rank, (address, port) in enumerate(endpoints):
        description.add_party(f"party-{rank}", f"{address}:{port}")
