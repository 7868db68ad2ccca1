"""The backend of SPU 0.9.5, in the environment of this package."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Mapping
from typing import Any

from spu import Io, Runtime, libspu
from spu import api as spu_api

from spu_bench.errors import SpuBenchError
from spu_bench.options import Options, compiler_options, runtime_config, set_link_fields
from spu_bench.party import OWNERS, Holder, session_loop
from spu_bench.party.backend import Statistics
from spu_bench.party.exchange import Exchange
from spu_bench.party.spu_backend import SpuBackend, describe_link
from spu_bench.party.spu_profile import OperationStats, Traffic, parse_profiles
from spu_bench.party.task import Task

VISIBILITY = {
    "server": libspu.Visibility.VIS_SECRET,
    "client": libspu.Visibility.VIS_SECRET,
    "public": libspu.Visibility.VIS_PUBLIC,
}
_RECEIVE_TIMEOUT_S = 120.0  # SPU's 30 s is less than a party may compute between two messages under CHEETAH


class Spu095Backend(SpuBackend):
    """A party whose runtime is an SPU device. Its log has a profile of each run."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        log_to(task.log)
        self._options = Options(**task.options)
        self._config = runtime_config(task.protocol, self._options)
        self.io = Io(len(task.link), self._config)
        self._runs = self._profiles = 0
        self._traffic = Traffic()
        self._operations: list[OperationStats] = []

    @property
    def software(self) -> Mapping[str, str]:
        return {"spu": importlib.metadata.version("spu")}

    def compile(self) -> None:
        manifest = self.task.manifest
        kinds = [VISIBILITY[each["holder"]] for each in manifest["arguments"]]
        source = libspu.CompilationSource(libspu.SourceIRType.XLA, self.module(), kinds)
        self.executable = libspu.Executable(
            manifest["name"],
            [each["name"] for each in manifest["arguments"]],
            [each["name"] for each in manifest["outputs"]],
            spu_api.compile(source, compiler_options(self._options)),
        )

    def connect(self, exchange: Exchange, end: Callable[[SpuBenchError], None]) -> None:
        if self.task.dealer is not None:
            from spu_bench.party.dealer_client import DealerClient  # only here: it loads cryptography

            self.dealer = client = DealerClient(self.task.dealer, self.task.connect_timeout_s)
            settings = {**self._options.runtime, **client.begin(exchange, self.task.rank, end)}
            self._config = runtime_config(self.task.protocol, self._options.model_copy(update={"runtime": settings}))
        description = libspu.link.Desc()
        describe_link(description, self.task.link, _RECEIVE_TIMEOUT_S)
        set_link_fields(description, self._options)
        self.runtime = Runtime(libspu.link.create_brpc(description, self.task.rank), self._config)

    def make_shares(self, array: Any, holder: Holder) -> list[libspu.Share]:
        owner = OWNERS[holder]
        owned = () if owner is None else (owner,)
        shares: list[libspu.Share] = self.io.make_shares(array, VISIBILITY[holder], *owned)
        return shares

    def to_bytes(self, share: libspu.Share) -> list[bytes]:
        return [share.meta, *share.share_chunks]

    def from_bytes(self, parts: list[bytes]) -> libspu.Share:
        share = libspu.Share()
        share.meta, share.share_chunks = parts[0], parts[1:]
        return share

    def compute(self) -> None:
        self._runs += 1
        super().compute()

    def statistics(self) -> Statistics:
        for profile in parse_profiles(self.new_log_lines()):
            self._profiles += 1
            self._traffic += profile.link
            self._operations = profile.operations
        if self._profiles != self._runs:
            raise SpuBenchError(
                f"SPU's log holds {self._profiles} profiles of {self._runs} runs.",
                "leave enable_pphlo_profile on; another version of SPU needs a parser of its own.",
                "failed",
            )
        return Statistics(self._traffic, self._operations)


def log_to(path: str) -> None:
    """Let SPU write its log to the end of the file `path`, and not to the terminal."""
    settings = libspu.logging.LogOptions()
    settings.enable_console_logger = False
    settings.system_log_path = path
    libspu.logging.setup_logging(settings)


if __name__ == "__main__":
    sys.exit(session_loop.main(Spu095Backend))
