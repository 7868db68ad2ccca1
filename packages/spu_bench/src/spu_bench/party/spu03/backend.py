"""The backend of SPU 0.3.1b0, in an environment of Python 3.8."""

from __future__ import annotations

import struct
import sys
from typing import Any, Callable, Mapping, Optional

import spu
from google.protobuf import json_format
from spu import spu_pb2
from spu.binding import _lib

from spu_bench.errors import SpuBenchError
from spu_bench.party import Holder, session_loop
from spu_bench.party.backend import Statistics
from spu_bench.party.exchange import Exchange
from spu_bench.party.reasons import reason_of
from spu_bench.party.spu03.layout import add_layout_formats
from spu_bench.party.spu_backend import SpuBackend, describe_link
from spu_bench.party.spu_profile import OperationStats, Traffic, parse_profiles_03
from spu_bench.party.task import Task

VISIBILITY = {"server": spu_pb2.VIS_SECRET, "client": spu_pb2.VIS_SECRET, "public": spu_pb2.VIS_PUBLIC}
_RECEIVE_TIMEOUT_S = 600.0  # one message of the larger models takes minutes over this link


class Spu03Backend(SpuBackend):
    """A party whose runtime is an SPU device of the paper's version. It does not count its link: a relay may."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self._config = _runtime_config({**task.options["runtime"], "protocol": task.protocol.upper()})
        self._description = _link_description(task)
        self.io = spu.Io(len(task.link), self._config)
        self._operations: list[OperationStats] = []

    @property
    def software(self) -> Mapping[str, str]:
        return {"spu": spu.__version__}

    def compile(self) -> None:
        manifest = self.task.manifest
        kinds = [VISIBILITY[each["holder"]] for each in manifest["arguments"]]
        self.executable = spu_pb2.ExecutableProto(
            name=manifest["name"],
            input_names=[each["name"] for each in manifest["arguments"]],
            output_names=[each["name"] for each in manifest["outputs"]],
            code=spu.compile(add_layout_formats(self.module()), "hlo", kinds),
        )

    def connect(self, exchange: Exchange, end: Callable[[SpuBenchError], None]) -> None:
        self.runtime = spu.Runtime(_lib.link.create_brpc(self._description, self.task.rank), self._config)

    def make_shares(self, array: Any, holder: Holder) -> list[Any]:
        shares: list[Any] = self.io.make_shares(array, VISIBILITY[holder])
        return shares

    def to_bytes(self, share: Any) -> list[bytes]:
        return [share.SerializeToString()]

    def from_bytes(self, parts: list[bytes]) -> Any:
        share = spu_pb2.ValueProto()
        share.ParseFromString(parts[0])
        return share

    def statistics(self) -> Statistics:
        for operations in parse_profiles_03(self.new_log_lines()):
            self._operations = operations
        return Statistics(self._counted(), self._operations)

    def _counted(self) -> Optional[Traffic]:
        if self.task.link_counter is None:
            return None
        with open(self.task.link_counter, "rb") as stream:
            return Traffic(*struct.unpack("<4q", stream.read(32)))


def _runtime_config(fields: Mapping[str, Any]) -> Any:
    """RuntimeConfig with these fields; raises SpuBenchError that names a wrong one."""
    config = spu_pb2.RuntimeConfig()
    try:
        json_format.ParseDict(fields, config)
    except json_format.ParseError as error:
        raise SpuBenchError(
            f"RuntimeConfig of SPU 0.3.1b0: {reason_of(error).rstrip('.')}.",
            f"use one of {', '.join(config.DESCRIPTOR.fields_by_name)}.",
            "bad_input",
        ) from None
    return config


def _link_description(task: Task) -> Any:
    """link.Desc with the fields of the options; raises SpuBenchError that names a wrong one."""
    description = _lib.link.Desc()
    describe_link(description, task.link, _RECEIVE_TIMEOUT_S)
    for name, value in task.options["link"].items():
        try:
            if not hasattr(description, name):
                raise TypeError
            setattr(description, name, value)
        except TypeError:
            raise SpuBenchError(
                f"SPU 0.3.1b0 has no link field {name!r} that takes {value!r}.",
                f"use one of {', '.join(each for each in dir(description) if each[0].islower())}.",
                "bad_input",
            ) from None
    return description


if __name__ == "__main__":
    sys.exit(session_loop.main(Spu03Backend))
