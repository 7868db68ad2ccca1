"""Real SPU parties over loopback for the dealer's tests: any JAX function of secret arrays."""

from __future__ import annotations

import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
import numpy.typing as npt
import spu_party
from spu import api, libspu

Arrays = Sequence[npt.NDArray[Any]]


class Failed(Exception):
    """A party ended; its messages are the text."""


class Parties:
    """Parties that hold shares of `arrays` and can run `functions` of them. A context manager."""

    def __init__(
        self,
        folder: Path,
        functions: Mapping[str, Callable[..., jax.Array]],
        arrays: Arrays,
        options: Sequence[Mapping[str, object]],
    ) -> None:
        """`options`: fields of RuntimeConfig, one mapping a party."""
        self._folder = folder
        configs = [_config(o) for o in options]
        self._io = api.Io(len(configs), configs[0])
        shares = [self._io.make_shares(array, libspu.Visibility.VIS_SECRET) for array in arrays]
        programs = {name: _compile(name, function, arrays) for name, function in functions.items()}
        addresses = _addresses(len(configs))
        self.processes: list[subprocess.Popen[str]] = []
        environment = {**os.environ, "OMP_THREAD_LIMIT": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        for rank, config in enumerate(configs):
            mine = {f"in{i}": (list(s[rank].share_chunks), s[rank].meta) for i, s in enumerate(shares)}
            job = {"rank": rank, "addresses": addresses, "config": config.SerializeToString(), "programs": programs}
            path = folder / f"job{rank}"
            path.write_bytes(pickle.dumps({**job, "shares": mine}))
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-X", "faulthandler", spu_party.__file__, str(path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=(folder / f"log{rank}").open("w"),
                    text=True,
                    env=environment,
                )
            )
        self._expect("ready")

    def __enter__(self) -> Parties:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def run(self, name: str) -> None:
        """Run one function on all parties. Raises Failed where one ends."""
        self._tell(f"run {name}")
        self._expect("done")

    def result(self) -> npt.NDArray[Any]:
        """The first output of the last run, opened. Ends the parties."""
        files = [self._folder / f"out{rank}" for rank in range(len(self.processes))]
        for process, file in zip(self.processes, files, strict=True):
            _pipe(process.stdin).write(f"end {file}\n")
            _pipe(process.stdin).flush()
        for process in self.processes:
            assert process.wait(30) == 0
        found = [pickle.loads(file.read_bytes())[0] for file in files]
        return np.asarray(self._io.reconstruct([spu_party.share(*one) for one in found]))

    def _tell(self, line: str) -> None:
        for process in self.processes:
            _pipe(process.stdin).write(line + "\n")
            _pipe(process.stdin).flush()

    def _expect(self, line: str) -> None:
        for process in self.processes:
            # SPU writes some of its log to standard output; the end of it is the end of the party
            if all(found.strip() != line for found in iter(_pipe(process.stdout).readline, "")):
                for other in self.processes:
                    other.kill()
                    other.wait()
                raise Failed("\n".join(log.read_text()[-4000:] for log in sorted(self._folder.glob("log?"))))


def _config(options: Mapping[str, object]) -> libspu.RuntimeConfig:
    config = libspu.RuntimeConfig()
    assert config.ParseFromJsonString(json.dumps({"protocol": "SEMI2K", "field": "FM64", **options}))
    return config


def _compile(name: str, function: Callable[..., jax.Array], arrays: Arrays) -> dict[str, object]:
    lowered = jax.jit(function, keep_unused=True).trace(*arrays).lower(lowering_platforms=("interpreter",))
    module = lowered.compiler_ir("hlo").as_serialized_hlo_module_proto()
    visible = [libspu.Visibility.VIS_SECRET] * len(arrays)
    source = libspu.CompilationSource(libspu.SourceIRType.XLA, module, visible)
    code = api.compile(source, libspu.CompilerOptions())
    return {"code": code, "inputs": [f"in{i}" for i in range(len(arrays))], "outputs": [f"{name}_out"]}


def _addresses(count: int) -> list[str]:
    """Free ports, each with the next one free too: a party of SPU uses two."""
    made: list[str] = []
    while len(made) < count:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            made.append(f"127.0.0.1:{port}")
    return made


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
