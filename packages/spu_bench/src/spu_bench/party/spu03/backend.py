"""One party on SPU 0.3.1b0: a process of Python 3.8 that holds only its own secrets, started by `launch`.

It does what spu_bench.party does on today's SPU. The profile is in its log.
"""

from __future__ import annotations

import os
import struct
import sys
import time
from typing import Any, ClassVar, Optional

import spu
from google.protobuf import json_format
from spu import spu_pb2
from spu.binding import _lib

from spu_bench.errors import SpuBenchError
from spu_bench.party.exchange import Exchange, pack, unpack
from spu_bench.party.session_loop import CLIENT, HOLDERS, Arrays, Guest, first_line, main
from spu_bench.party.spu03.layout import mend_layouts

_RECEIVE_TIMEOUT_MS = 600_000  # one message of the larger models takes minutes over this link


class Party(Guest):
    """A party whose runtime is an SPU device."""

    software: ClassVar = {"spu": spu.__version__}

    def __init__(self, task: dict[str, Any]) -> None:
        super().__init__(task)
        self._config = spu_pb2.RuntimeConfig()
        try:
            _parse({**task["options"]["runtime"], "protocol": task["protocol"].upper()}, self._config)
        except ValueError as error:
            raise SpuBenchError(
                f"RuntimeConfig of SPU 0.3.1b0: {error}.",
                "use one of {}.".format(", ".join(self._config.DESCRIPTOR.fields_by_name)),
                "bad_input",
            ) from error
        self._io = spu.Io(len(task["link"]), self._config)

    def prepare(self, exchange: Exchange) -> None:
        self._executable = self._compile()
        exchange.barrier()  # SPU's link waits only seconds for a peer that still compiles
        self._runtime = spu.Runtime(self._link(), self._config)

    def share(self, exchange: Exchange, holder: str, arrays: Optional[Arrays]) -> None:
        """The owner makes shares of its `arrays` and sends each party its own; all set theirs in the runtime."""
        owner = HOLDERS[holder]
        if owner is None:
            mine = {
                name: self._io.make_shares(array, spu_pb2.VIS_PUBLIC)[self.rank]
                for name, array in (arrays or {}).items()
            }
        elif self.rank == owner:
            shares = {name: self._io.make_shares(array, spu_pb2.VIS_SECRET) for name, array in (arrays or {}).items()}
            for peer in exchange.peers:
                exchange.send(
                    peer, pack({name: [of_rank[peer].SerializeToString()] for name, of_rank in shares.items()})
                )
            mine = {name: of_rank[owner] for name, of_rank in shares.items()}
        else:
            mine = _values(exchange.receive(owner))
        for name, share in mine.items():
            self._runtime.set_var(name, share)

    def compute(self) -> None:
        self._runtime.run(self._executable)

    def reveal(self, exchange: Exchange) -> Arrays:
        """Send the outputs' shares to the client, who alone puts them together."""
        mine = {spec["name"]: self._runtime.get_var(spec["name"]) for spec in self.manifest["outputs"]}
        if self.rank != CLIENT:
            exchange.send(CLIENT, pack({name: [share.SerializeToString()] for name, share in mine.items()}))
            return {}
        shares = {peer: _values(exchange.receive(peer)) for peer in exchange.peers}
        shares[CLIENT] = mine
        return {name: self._io.reconstruct([shares[rank][name] for rank in sorted(shares)]) for name in mine}

    def traffic(self) -> list[int]:
        """What the relay counted of SPU's link, where there is one."""
        if not self.task["link_counter"]:
            return []
        with open(self.task["link_counter"], "rb") as stream:
            return list(struct.unpack("<4q", stream.read(32)))

    def _compile(self) -> spu_pb2.ExecutableProto:
        started = time.perf_counter()
        with open(os.path.join(self.task["program"], self.manifest["module"]["file"]), "rb") as stream:
            module = stream.read()
        kinds = [
            spu_pb2.VIS_PUBLIC if each["holder"] == "public" else spu_pb2.VIS_SECRET
            for each in self.manifest["arguments"]
        ]
        try:
            code = spu.compile(mend_layouts(module), "hlo", kinds)
        except (RuntimeError, ValueError) as error:
            raise SpuBenchError(
                f"SPU 0.3.1b0 cannot compile the Program: {first_line(error)}",
                "it knows fewer operations than today's: export the Program without the one it names.",
                "bad_input",
            ) from error
        self.outcome["compile_s"] = time.perf_counter() - started
        return spu_pb2.ExecutableProto(
            name=self.manifest["name"],
            input_names=[each["name"] for each in self.manifest["arguments"]],
            output_names=[each["name"] for each in self.manifest["outputs"]],
            code=code,
        )

    def _link(self) -> Any:
        description = _lib.link.Desc()
        description.id = "spu-bench"
        description.recv_timeout_ms = _RECEIVE_TIMEOUT_MS
        for name, value in self.task["options"]["link"].items():
            try:
                if not hasattr(description, name):
                    raise TypeError
                setattr(description, name, value)
            except TypeError:
                raise SpuBenchError(
                    f"SPU 0.3.1b0 has no link field {name!r} that takes {value!r}.",
                    "use one of {}.".format(", ".join(each for each in dir(description) if each[0].islower())),
                    "bad_input",
                ) from None
        for rank, (address, port) in enumerate(self.task["link"]):
            description.add_party(f"party-{rank}", f"{address}:{port}")
        try:
            return _lib.link.create_brpc(description, self.rank)
        except RuntimeError as error:
            raise SpuBenchError(
                f"SPU's link could not be made: {first_line(error)}",
                "check that the ports of the link file are free and reachable from every party.",
                "environment",
            ) from error


def _values(data: bytes) -> dict[str, Any]:
    values = {}
    for name, (serialized,) in unpack(data).items():
        values[name] = spu_pb2.ValueProto()
        values[name].ParseFromString(serialized)
    return values


def _parse(fields: dict[str, Any], message: Any) -> None:
    try:
        json_format.ParseDict(fields, message)
    except json_format.ParseError as error:
        raise ValueError(first_line(error).rstrip(".")) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Party))
