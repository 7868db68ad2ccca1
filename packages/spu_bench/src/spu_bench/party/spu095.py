"""One party of a run: a process that holds only its own secrets.

The server (rank 0) reads the weights, the client (rank 1) the image, a third party (rank 2) nothing. Each makes shares
of what it holds and sends every other party that party's share; the outputs' shares go to the client alone.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from spu import Io, Runtime, libspu
from spu import api as spu_api

from spu_bench import runtimes
from spu_bench.errors import SpuBenchError
from spu_bench.options import compiler_options, runtime_config, set_link_fields, with_needed
from spu_bench.party.exchange import Endpoint, Exchange, agree, listen, pack, unpack
from spu_bench.party.spu_profile import RunProfile, parse_profiles
from spu_bench.program import Array, Holder, Program
from spu_bench.record import Failure, Inference, PartyOutcome, write_whole
from spu_bench.session import Session

SERVER, CLIENT = 0, 1
ROLES = ("server", "client", "helper")
HOLDERS: dict[Holder, int | None] = {"public": None, "server": SERVER, "client": CLIENT}
"""Which rank holds what (None: every one)."""
_VISIBILITY = {
    "server": libspu.Visibility.VIS_SECRET,
    "client": libspu.Visibility.VIS_SECRET,
    "public": libspu.Visibility.VIS_PUBLIC,
}
_RECEIVE_TIMEOUT_MS = 120_000  # SPU's 30 s is less than a party may compute between two messages under CHEETAH

_DATA_FILES = {".npz", ".npy", ".json", ".toml", ".hlo"}

Shares = dict[str, libspu.Share]


class Party:
    """One party from its inputs to its outcome; `outcome` grows as the run goes on, and survives its failure."""

    def __init__(self, rank: int, program: Program, session: Session, *, interface: str | None = None) -> None:
        session.check_rank(rank)
        self.rank = rank
        self.program = program
        self.session = session
        self.interface = interface
        self.outcome = PartyOutcome(rank=rank, role=ROLES[min(rank, 2)])  # type: ignore[arg-type]
        needed = program.manifest.runtime_options
        options = with_needed(session.options, needed, session.protocol, runtimes.NEWEST)
        self._config = runtime_config(session.protocol, options)
        self._io = Io(len(session.party), self._config)

    def run(self, source: Path | None, on_loss: Callable[[int, str], None]) -> dict[str, Array] | None:
        """Run the whole session; the client gets the outputs by name, inputs stacked, every other party None.

        `source` is the client's input file (None: the sample in the Program). Raises SpuBenchError.
        """
        inputs = self._own_inputs(source)
        log = _ProfileLog()
        started = time.perf_counter()
        self._check_port_is_free()
        exchange = Exchange(self.rank, self._endpoints(1), timeout_s=self.session.connect_timeout_s, on_loss=on_loss)
        batches = self._agree(exchange, inputs)
        self.outcome.connect_s = time.perf_counter() - started
        executable = self._compile()
        exchange.barrier()  # SPU's link waits only seconds for a peer that still compiles
        runtime = Runtime(self._link(), self._config)
        started = time.perf_counter()
        self._share_weights(exchange, runtime, inputs)
        exchange.barrier()
        self.outcome.share_weights_s = time.perf_counter() - started
        outputs = self._infer_all(exchange, runtime, executable, inputs, batches, log)
        exchange.barrier()
        exchange.close()
        self._describe_process()
        return outputs

    def _own_inputs(self, source: Path | None) -> dict[Holder, dict[str, Array]]:
        return {
            holder: self.program.arrays(holder, source if holder == "client" else None)
            for holder, owner in HOLDERS.items()
            if owner in (None, self.rank)
        }

    def _compile(self) -> libspu.Executable:
        started = time.perf_counter()
        arguments = self.program.manifest.arguments
        module = libspu.CompilationSource(
            libspu.SourceIRType.XLA, self.program.module(), [_VISIBILITY[a.holder] for a in arguments]
        )
        try:
            code = spu_api.compile(module, compiler_options(self.session.options))
        except RuntimeError as error:
            raise SpuBenchError(
                f"SPU cannot compile the Program: {_first_line(error)}",
                "export it with the reference environment's JAX, see constraints/reference.txt.",
                "bad_input",
            ) from error
        executable = libspu.Executable(
            self.program.manifest.name,
            [a.name for a in arguments],
            [o.name for o in self.program.manifest.outputs],
            code,
        )
        self.outcome.compile_s = time.perf_counter() - started
        return executable

    def _endpoints(self, offset: int) -> list[Endpoint]:
        return [(party.address, party.port + offset) for party in self.session.party]

    def _check_port_is_free(self) -> None:
        listen(self._endpoints(0)[self.rank]).close()

    def _agree(self, exchange: Exchange, inputs: dict[Holder, dict[str, Array]]) -> int:
        """Check that all run the same thing; returns the number of batches that the client brings."""
        agree(
            exchange,
            {
                "Program": self.program.manifest.fingerprint,
                "link file": self.session.digest(),
                "SPU version": importlib.metadata.version("spu"),
            },
        )
        batches = 1
        if self.rank == CLIENT:
            for spec in self.program.held_by("client"):
                batches = max(batches, inputs["client"][spec.name].shape[0] // spec.shape[0] if spec.shape else 1)
        return int(exchange.all_to_all(str(batches).encode()).get(CLIENT, str(batches).encode()))

    def _link(self) -> libspu.link.Context:
        description = libspu.link.Desc()
        description.id = "spu-bench"
        description.recv_timeout_ms = _RECEIVE_TIMEOUT_MS
        set_link_fields(description, self.session.options)
        for rank, (address, port) in enumerate(self._endpoints(0)):
            description.add_party(f"party-{rank}", f"{address}:{port}")
        try:
            return libspu.link.create_brpc(description, self.rank)
        except RuntimeError as error:
            raise SpuBenchError(
                f"SPU's link could not be made: {_first_line(error)}",
                "check that the ports of the link file are free and reachable from every party.",
                "environment",
            ) from error

    def _share_weights(self, exchange: Exchange, runtime: Runtime, inputs: dict[Holder, dict[str, Array]]) -> None:
        for name, array in inputs["public"].items():
            runtime.set_var(name, self._io.make_shares(array, libspu.Visibility.VIS_PUBLIC)[self.rank])
        self._share(exchange, runtime, SERVER, inputs.get("server"))

    def _share(self, exchange: Exchange, runtime: Runtime, owner: int, arrays: dict[str, Array] | None) -> None:
        """Let `owner` make shares of its `arrays` and send each party its own; all set theirs in the runtime."""
        if self.rank == owner:
            shares = {
                name: self._io.make_shares(array, libspu.Visibility.VIS_SECRET, owner)
                for name, array in (arrays or {}).items()
            }
            for peer in exchange.peers:
                exchange.send(peer, _pack_shares({name: of_rank[peer] for name, of_rank in shares.items()}))
            mine: Shares = {name: of_rank[owner] for name, of_rank in shares.items()}
        else:
            mine = _unpack_shares(exchange.receive(owner))
        for name, share in mine.items():
            runtime.set_var(name, share)

    def _infer_all(
        self,
        exchange: Exchange,
        runtime: Runtime,
        executable: libspu.Executable,
        inputs: dict[Holder, dict[str, Array]],
        batches: int,
        log: _ProfileLog,
    ) -> dict[str, Array] | None:
        collected: dict[str, list[Array]] = {}
        order = [0] * self.session.warmup + list(range(batches)) * self.session.repeats
        for position, batch in enumerate(order):
            arrays = self._batch(inputs, batch)
            exchange.barrier()
            before = _interface_bytes(self.interface)
            times = [time.perf_counter()]
            self._share(exchange, runtime, CLIENT, arrays)
            exchange.barrier()
            times.append(time.perf_counter())
            worked = time.process_time()
            self._run_once(runtime, executable)
            worked = time.process_time() - worked
            times.append(time.perf_counter())
            outputs = self._reveal(exchange, runtime)
            times.append(time.perf_counter())
            exchange.barrier()
            after = _interface_bytes(self.interface)
            profile = log.next_profile()
            if position < self.session.warmup:
                continue
            input_s, run_s, reveal_s = np.diff(times).tolist()
            sent, received = ((b - a) for a, b in zip(before, after)) if before and after else (None, None)
            self.outcome.inferences.append(
                Inference(
                    input_s=input_s,
                    run_s=run_s,
                    reveal_s=reveal_s,
                    cpu_s=worked,
                    link=profile.link,
                    interface_sent_bytes=sent,
                    interface_received_bytes=received,
                )
            )
            self.outcome.operations = profile.operations
            self.outcome.shared_bytes = exchange.sent_bytes
            for name, array in outputs.items():
                collected.setdefault(name, []).append(array)
        if self.rank != CLIENT:
            return None
        return {name: np.concatenate(arrays) for name, arrays in collected.items()}

    def _batch(self, inputs: dict[Holder, dict[str, Array]], batch: int) -> dict[str, Array] | None:
        if self.rank != CLIENT:
            return None
        cut: dict[str, Array] = {}
        for spec in self.program.held_by("client"):
            size = spec.shape[0] if spec.shape else 1
            array = inputs["client"][spec.name]
            cut[spec.name] = array[batch * size : (batch + 1) * size] if spec.shape else array
        return cut

    def _run_once(self, runtime: Runtime, executable: libspu.Executable) -> None:
        try:
            runtime.run(executable)
        except RuntimeError as error:
            raise SpuBenchError(
                f"SPU failed while running the Program: {_first_line(error)}",
                "see the party's log for the operation at fault.",
                "failed",
            ) from error

    def _reveal(self, exchange: Exchange, runtime: Runtime) -> dict[str, Array]:
        """Send the outputs' shares to the client, who alone puts them together."""
        mine = {spec.name: runtime.get_var(spec.name) for spec in self.program.manifest.outputs}
        if self.rank != CLIENT:
            exchange.send(CLIENT, _pack_shares(mine))
            return {}
        shares = {peer: _unpack_shares(exchange.receive(peer)) for peer in exchange.peers}
        shares[CLIENT] = mine
        ranks = range(len(self.session.party))
        return {name: self._io.reconstruct([shares[rank][name] for rank in ranks]) for name in mine}

    def _describe_process(self) -> None:
        process = psutil.Process()
        times = process.cpu_times()
        self.outcome.cpu_s = times.user + times.system
        self.outcome.threads = int(os.environ.get("OMP_THREAD_LIMIT", "0"))
        self.outcome.peak_memory_bytes = _peak_memory_bytes()
        self.outcome.versions = {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("spu", "numpy", "spu_bench")},
        }


def run_party(
    rank: int,
    program: Program,
    session: Session,
    *,
    source: Path | None = None,
    output: Path | None = None,
    outcome_path: Path | None = None,
    interface: str | None = None,
) -> PartyOutcome:
    """Be one party, and leave an outcome file also where it fails.

    `output` is where the client writes its outputs (npz), `outcome_path` where the outcome goes as JSON. When a peer
    is lost, also in the middle of SPU's computation, the process itself ends with status 1 and one line on stderr.
    """
    party = Party(rank, program, session, interface=interface)
    opened = watch_opened_files()
    ending = threading.Lock()

    def finish(error: SpuBenchError | None) -> None:
        party.outcome.opened_files = sorted(opened)
        if error is not None:
            party.outcome.failure = Failure(reason=error.reason, problem=error.problem, fix=error.fix)
        if outcome_path is not None:
            write_whole(outcome_path, party.outcome.model_dump_json(indent=1))

    def on_loss(peer: int, what: str) -> None:
        # SPU is deep in C++ and waits for a peer that will not come: only ending the process gets it out of there.
        if not ending.acquire(blocking=False):
            return
        error = SpuBenchError(
            f"Party {peer} was lost: it {what}.", f"see the log of party {peer}, then start all parties again.", "peer"
        )
        finish(error)
        print(f"error: {error}", file=sys.stderr, flush=True)
        os._exit(1)

    try:
        outputs = party.run(source, on_loss)
        if output is not None and outputs is not None:
            _save_npz(output, outputs)
    except SpuBenchError as error:
        if not ending.acquire(blocking=False):
            time.sleep(60)  # on_loss is already ending this process, and knows the cause better
        finish(error)
        raise
    finish(None)
    return party.outcome


class _ProfileLog:
    """SPU's log file, and the profiles that have come since the last look."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory(prefix="spu-bench-") as scratch:
            path = Path(scratch) / "spu.log"
            settings = libspu.logging.LogOptions()
            settings.enable_console_logger = False
            settings.system_log_path = str(path)
            libspu.logging.setup_logging(settings)
            # Both SPU and this process keep the file open; without a name it is gone with them, however they end.
            self._log = open(path)  # noqa: SIM115

    def next_profile(self) -> RunProfile:
        """The profile of the run that has just ended."""
        profiles = parse_profiles(self._log.readlines())
        if len(profiles) != 1:
            raise SpuBenchError(
                f"SPU's log holds {len(profiles)} profiles of one run.",
                "leave enable_pphlo_profile on; another version of SPU needs a parser of its own.",
                "failed",
            )
        return profiles[0]


def _pack_shares(shares: Shares) -> bytes:
    return pack({name: [share.meta, *share.share_chunks] for name, share in shares.items()})


def _unpack_shares(data: bytes) -> Shares:
    shares: Shares = {}
    for name, (meta, *chunks) in unpack(data).items():
        shares[name] = libspu.Share()
        shares[name].meta = meta
        shares[name].share_chunks = chunks
    return shares


def watch_opened_files() -> set[str]:
    """Collect the data files that this process opens from now on, by their names below its directory."""
    opened: set[str] = set()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], (str, Path)) and Path(arguments[0]).suffix in _DATA_FILES:
            opened.add(os.path.relpath(arguments[0]))

    sys.addaudithook(note)
    return opened


def _interface_bytes(interface: str | None) -> tuple[int, int] | None:
    """Bytes (sent, received) that the kernel counted on `interface` in this process's network namespace."""
    if interface is None:
        return None
    with open("/proc/self/net/dev") as stream:
        for line in stream:
            name, _, counters = line.partition(":")
            if name.strip() == interface:
                values = counters.split()
                return int(values[8]), int(values[0])
    raise SpuBenchError(f"There is no network interface {interface!r}.", "name one that `ip link` shows.", "bad_input")


def _peak_memory_bytes() -> int:
    # VmHWM and not ru_maxrss: the latter starts at the size of the process that forked this one
    with open("/proc/self/status") as stream:
        for line in stream:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _save_npz(path: Path, arrays: dict[str, Array]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as stream:
        np.savez(stream, **arrays)
    os.replace(temporary, path)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
