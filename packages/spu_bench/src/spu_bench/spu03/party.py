"""One party on SPU 0.3.1b0: a process of Python 3.8 that holds only its own secrets, started by `launch`.

It does what spu_bench.party does on today's SPU. What it reports goes to a JSON file; the profile is in its log.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import struct
import sys
import threading
import time
from typing import Any, Dict, Optional

import numpy as np
import spu
from google.protobuf import json_format
from spu import spu_pb2
from spu.binding import _lib

from spu_bench.errors import SpuBenchError
from spu_bench.exchange import Exchange, agree, listen, pack, unpack
from spu_bench.spu03.layout import mend_layouts

SERVER, CLIENT = 0, 1
_HOLDERS = {"public": None, "server": SERVER, "client": CLIENT}
_DATA_FILES = {".npz", ".npy", ".json", ".toml", ".hlo"}

Arrays = Dict[str, Any]


class Party:
    """One party from its inputs to its outcome; `task` is what `launch` wrote."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = task
        self.rank = task["rank"]
        self.manifest = task["manifest"]
        self.outcome: dict[str, Any] = {"inferences": [], "opened_files": []}
        self._config = spu_pb2.RuntimeConfig()
        try:
            _parse(task["runtime_config"], self._config)
        except ValueError as error:
            raise SpuBenchError(
                f"RuntimeConfig of SPU 0.3.1b0: {error}.",
                "use one of {}.".format(", ".join(self._config.DESCRIPTOR.fields_by_name)),
                "bad_input",
            ) from error
        self._io = spu.Io(len(task["link"]), self._config)

    def run(self) -> Optional[Arrays]:
        """Run the whole session; the client gets the outputs by name, inputs stacked, the server None."""
        inputs = {holder: self._own(holder) for holder, owner in _HOLDERS.items() if owner in (None, self.rank)}
        listen(tuple(self.task["link"][self.rank])).close()
        started = time.perf_counter()
        exchange = Exchange(
            self.rank,
            [tuple(endpoint) for endpoint in self.task["exchange"]],
            timeout_s=self.task["connect_timeout_s"],
            on_loss=self._on_loss,
        )
        batches = self._agree(exchange, inputs)
        self.outcome["connect_s"] = time.perf_counter() - started
        executable = self._compile()
        exchange.barrier()  # SPU's link waits only seconds for a peer that still compiles
        runtime = spu.Runtime(self._link(), self._config)
        started = time.perf_counter()
        for name, array in inputs["public"].items():
            runtime.set_var(name, self._io.make_shares(array, spu_pb2.VIS_PUBLIC)[self.rank])
        self._share(exchange, runtime, SERVER, inputs.get("server"))
        exchange.barrier()
        self.outcome["share_weights_s"] = time.perf_counter() - started
        outputs = self._infer_all(exchange, runtime, executable, inputs.get("client"), batches)
        exchange.barrier()
        exchange.close()
        self.outcome["shared_bytes"] = exchange.sent_bytes
        return outputs

    def _own(self, holder: str) -> Arrays:
        """The arrays of `holder`, which the process that started this one has checked."""
        if not self._specs(holder):
            return {}
        own_input = self.task["source"] if holder == "client" else None
        with np.load(own_input or os.path.join(self.task["program"], holder + ".npz"), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def _agree(self, exchange: Exchange, inputs: dict[str, Arrays]) -> int:
        terms = {
            "Program": self.manifest["fingerprint"],
            "link file": self.task["digest"],
            "SPU version": spu.__version__,
        }
        agree(exchange, terms)
        batches = 1
        for spec in self._specs("client") if self.rank == CLIENT else []:
            batches = max(batches, len(inputs["client"][spec["name"]]) // spec["shape"][0] if spec["shape"] else 1)
        return int(exchange.all_to_all(str(batches).encode()).get(CLIENT, str(batches).encode()))

    def _specs(self, holder: str) -> list[dict[str, Any]]:
        return [each for each in self.manifest["arguments"] if each["holder"] == holder]

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
                f"SPU 0.3.1b0 cannot compile the Program: {_first_line(error)}",
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
        description.recv_timeout_ms = self.task["receive_timeout_ms"]
        for name, value in self.task["link_fields"].items():
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
                f"SPU's link could not be made: {_first_line(error)}",
                "check that the ports of the link file are free and reachable from every party.",
                "environment",
            ) from error

    def _share(self, exchange: Exchange, runtime: Any, owner: int, arrays: Optional[Arrays]) -> None:
        """Let `owner` make shares of its `arrays` and send each party its own; all set theirs in the runtime."""
        if self.rank == owner:
            shares = {name: self._io.make_shares(array, spu_pb2.VIS_SECRET) for name, array in (arrays or {}).items()}
            for peer in exchange.peers:
                exchange.send(
                    peer, pack({name: [of_rank[peer].SerializeToString()] for name, of_rank in shares.items()})
                )
            mine = {name: of_rank[owner] for name, of_rank in shares.items()}
        else:
            mine = _values(exchange.receive(owner))
        for name, share in mine.items():
            runtime.set_var(name, share)

    def _infer_all(
        self, exchange: Exchange, runtime: Any, executable: Any, client: Optional[Arrays], batches: int
    ) -> Optional[Arrays]:
        collected: dict[str, list[Any]] = {}
        order = [0] * self.task["warmup"] + list(range(batches)) * self.task["repeats"]
        for position, batch in enumerate(order):
            exchange.barrier()
            before = self._counters()
            times = [time.perf_counter()]
            self._share(exchange, runtime, CLIENT, self._batch(client, batch))
            exchange.barrier()
            times.append(time.perf_counter())
            worked = time.process_time()
            try:
                runtime.run(executable)
            except RuntimeError as error:
                raise SpuBenchError(
                    f"SPU failed while running the Program: {_first_line(error)}",
                    "see the party's log for the operation at fault.",
                    "failed",
                ) from error
            worked = time.process_time() - worked
            times.append(time.perf_counter())
            outputs = self._reveal(exchange, runtime)
            times.append(time.perf_counter())
            exchange.barrier()
            if position < self.task["warmup"]:
                continue
            counted = [after - start for start, after in zip(before, self._counters())]
            self.outcome["inferences"].append(
                {"times": np.diff(times).tolist(), "cpu_s": worked, "interface": counted[:2], "link": counted[2:]}
            )
            for name, array in outputs.items():
                collected.setdefault(name, []).append(array)
        if self.rank != CLIENT:
            return None
        return {name: np.concatenate(arrays) for name, arrays in collected.items()}

    def _batch(self, client: Optional[Arrays], batch: int) -> Optional[Arrays]:
        if client is None:
            return None
        cut = {}
        for spec in self._specs("client"):
            size = spec["shape"][0] if spec["shape"] else 1
            array = client[spec["name"]]
            cut[spec["name"]] = array[batch * size : (batch + 1) * size] if spec["shape"] else array
        return cut

    def _reveal(self, exchange: Exchange, runtime: Any) -> Arrays:
        """Send the outputs' shares to the client, who alone puts them together."""
        mine = {spec["name"]: runtime.get_var(spec["name"]) for spec in self.manifest["outputs"]}
        if self.rank != CLIENT:
            exchange.send(CLIENT, pack({name: [share.SerializeToString()] for name, share in mine.items()}))
            return {}
        shares = {peer: _values(exchange.receive(peer)) for peer in exchange.peers}
        shares[CLIENT] = mine
        return {name: self._io.reconstruct([shares[rank][name] for rank in sorted(shares)]) for name in mine}

    def _counters(self) -> list[int]:
        """Bytes sent and received on the interface; of SPU's link what the relay counted, where there is one."""
        counted: list[int] = []
        if self.task["interface"]:
            with open("/proc/self/net/dev") as stream:
                for line in stream:
                    name, _, counters = line.partition(":")
                    if name.strip() == self.task["interface"]:
                        values = counters.split()
                        counted = [int(values[8]), int(values[0])]
        counted = counted or [0, 0]
        if self.task["link_counter"]:
            with open(self.task["link_counter"], "rb") as stream:
                counted += struct.unpack("<4q", stream.read(32))
        return counted

    def describe_process(self) -> None:
        """What the process used, for the outcome."""
        times = os.times()
        peak = 0
        with open("/proc/self/status") as stream:
            for line in stream:
                if line.startswith("VmHWM:"):
                    peak = int(line.split()[1]) * 1024
        self.outcome.update(
            cpu_s=times.user + times.system,
            threads=int(os.environ.get("OMP_THREAD_LIMIT", "0")),
            peak_memory_bytes=peak,
            versions={"python": platform.python_version(), "spu": spu.__version__, "numpy": np.__version__},
        )

    def finish(self, error: Optional[SpuBenchError]) -> None:
        """Write the outcome, whole or not at all."""
        if error is not None:
            self.outcome["failure"] = {"reason": error.reason, "problem": error.problem, "fix": error.fix}
        path = self.task["report"]
        with open(path + ".part", "w") as stream:
            json.dump(self.outcome, stream)
        os.replace(path + ".part", path)

    def _on_loss(self, peer: int, what: str) -> None:
        # SPU is deep in C++ and waits for a peer that will not come: only ending the process gets it out of there.
        if not _ending.acquire(blocking=False):
            return
        fix = f"see the log of party {peer}, then start all parties again."
        self.finish(SpuBenchError(f"Party {peer} was lost: it {what}.", fix, "peer"))
        os._exit(1)


_ending = threading.Lock()


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
        raise ValueError(_first_line(error).rstrip(".")) from None


def _first_line(error: Exception) -> str:
    """What SPU complains of: it puts a line "what:" before it and a stack trace after."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() not in ("", "what:")]
    return (lines or [type(error).__name__])[0]


def main(task_path: str) -> int:
    """Be the party that the task file describes; the exit status is 0 or 1."""
    with open(task_path) as stream:
        task = json.load(stream)
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the process that started this one
    if os.getppid() != task["parent"]:  # it ended before that
        return 1
    opened = set()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and os.path.splitext(arguments[0])[1] in _DATA_FILES:
            opened.add(os.path.relpath(arguments[0]))

    party = None
    try:
        party = Party(task)
        sys.addaudithook(note)
        outputs = party.run()
        if outputs is not None and task["output"]:
            with open(task["output"] + ".part", "wb") as target:
                np.savez(target, **outputs)
            os.replace(task["output"] + ".part", task["output"])
        party.describe_process()
        party.outcome["opened_files"] = sorted(opened)
        party.finish(None)
    except SpuBenchError as error:
        if not _ending.acquire(blocking=False):
            time.sleep(60)  # the loss of a peer is already ending this process, and knows the cause better
        print(f"error: {error}", file=sys.stderr, flush=True)
        if party is None:
            with open(task["report"], "w") as stream:
                json.dump({"failure": {"reason": error.reason, "problem": error.problem, "fix": error.fix}}, stream)
        else:
            party.outcome["opened_files"] = sorted(opened)
            party.finish(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
