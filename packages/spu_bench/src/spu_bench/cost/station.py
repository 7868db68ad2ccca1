"""One party of a measurement of steps: a process that runs what it is told, one operation at a time.

Its orders come over a local connection from spu_bench.cost.pair. Nothing here is anyone's secret: the values are
random, and only their shapes, types and storage matter for what a step costs.
"""

from __future__ import annotations

import sys
import tempfile
import time
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

from spu import Runtime, libspu

from spu_bench.options import Options, runtime_config, set_link_fields
from spu_bench.party.spu_profile import parse_profiles


class Station:
    """The runtime of one party; its methods are the orders it takes."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory(prefix="spu-bench-") as scratch:
            path = Path(scratch) / "spu.log"
            settings = libspu.logging.LogOptions()
            settings.enable_console_logger = False
            settings.system_log_path = str(path)
            libspu.logging.setup_logging(settings)
            self._log = open(path)  # noqa: SIM115 - SPU and this process keep it open, without a name
        self._runtime: Any = None

    def connect(self, rank: int, protocol: str, options: Options, ports: list[int]) -> None:
        """Open SPU's link: this party listens at its own port, and finds the other at the port given for it."""
        description = libspu.link.Desc()
        description.id = "spu-bench-cost"
        description.recv_timeout_ms = 120_000
        set_link_fields(description, options)
        for party, port in enumerate(ports):
            description.add_party(f"party-{party}", f"127.0.0.1:{port}")
        self._runtime = Runtime(libspu.link.create_brpc(description, rank), runtime_config(protocol, options))

    def put(self, name: str, meta: bytes, chunks: list[bytes]) -> None:
        """Take this party's share of a value."""
        share = libspu.Share()
        share.meta, share.share_chunks = meta, chunks
        self._runtime.set_var(name, share)

    def run(self, module: bytes, operands: list[str], results: list[str]) -> dict[str, Any]:
        """Run a module; says what its operations and the whole took, what it sent, and how its results are stored."""
        executable = libspu.Executable("steps", operands, results, module)
        started, worked = time.perf_counter(), time.process_time()
        self._runtime.run(executable)
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - worked
        (profile,) = parse_profiles(self._log.readlines())
        return {
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "seconds": sum(operation.seconds for operation in profile.operations),
            "sent_bytes": profile.link.sent_bytes,
            "sent_messages": profile.link.sent_messages,
            "storage": [self._runtime.get_var_meta(name).storage_type for name in results],
        }


def main(address: str) -> None:
    """Serve the orders that come from `address` until it says goodbye."""
    station = Station()
    with Client(address, family="AF_UNIX") as orders:
        while (order := orders.recv()) is not None:
            name, arguments = order
            try:
                orders.send((True, getattr(station, name)(*arguments)))
            except Exception as error:  # whatever it was, the driver is to know, and it alone can say what was asked
                orders.send((False, str(error).splitlines()[0] if str(error) else type(error).__name__))


if __name__ == "__main__":
    main(sys.argv[1])
