"""The parties on hosts of their own, named in a file, over the link that is there."""

from __future__ import annotations

import json
import subprocess
import threading
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spu_bench import agent, runtimes
from spu_bench.errors import SpuBenchError
from spu_bench.executors.base import Host, PartyProcess
from spu_bench.executors.description import ExecutorDescription
from spu_bench.network import Network
from spu_bench.provenance import Machine
from spu_bench.source_files import source_hash


class HostEntry(BaseModel):
    """One host: where the other parties reach it, and how this machine does.

    `command` runs on the host what is put behind it, as ["ssh", "-o", "BatchMode=yes", "192.0.2.10"] does; `python` is
    an interpreter there that has spu_bench, of this very version.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    interface: str
    cores: int = Field(ge=1)
    command: tuple[str, ...] = Field(min_length=1)
    python: str = "python3"

    @property
    def agent(self) -> list[str]:
        """What starts the agent there."""
        return [*self.command, self.python, "-m", "spu_bench.agent"]


class HostsFile(BaseModel):
    """The content of a hosts file: an entry a party, in rank order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: tuple[HostEntry, ...] = Field(min_length=2)


class RemoteProcess:
    """A process on another host; what it writes appears in `directory`."""

    def __init__(self, near: subprocess.Popen[bytes], directory: Path) -> None:
        self._near, self._directory = near, directory
        self._status: int | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        assert self._near.stdout is not None
        status = None
        with suppress(ValueError, OSError):  # the stream broke off: the command's own status tells
            for name, content in agent.receive(self._near.stdout):
                if name:
                    part = self._directory / f"{name}.part"
                    part.parent.mkdir(parents=True, exist_ok=True)
                    part.write_bytes(content)
                    part.replace(self._directory / name)
                else:
                    status = json.loads(content)["status"]
        ended = self._near.wait()
        self._status = status if status is not None else ended or 1
        self._ended.set()

    def poll(self) -> int | None:
        return self._status if self._ended.is_set() else None

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout) or self._status is None:
            raise TimeoutError(f"the process on another host still runs after {timeout} s")
        return self._status

    def terminate(self) -> None:
        assert self._near.stdin is not None
        with suppress(OSError):
            self._near.stdin.close()  # the agent then ends what it started

    def kill(self) -> None:
        self.terminate()
        try:
            self._near.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._near.kill()


@dataclass
class RemoteHost:
    """One party's host; `local` is its directory as this machine sees it."""

    rank: int
    entry: HostEntry
    local: Path
    directory: str = "."

    @property
    def address(self) -> str:
        return self.entry.address

    @property
    def interface(self) -> str:
        return self.entry.interface

    @property
    def cores(self) -> int:
        return self.entry.cores

    def start(self, arguments: Sequence[str], *, environment: Mapping[str, str], log: str) -> PartyProcess:
        with open(self.local / log, "ab") as errors:
            near = subprocess.Popen(
                self.entry.agent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        assert near.stdin is not None
        order = {"arguments": list(arguments), "environment": dict(environment), "log": log}
        with suppress(BrokenPipeError):  # the command has ended: its status and its last words tell why
            for path in sorted(self.local.rglob("*")):
                if path.is_file():
                    agent.send(near.stdin, path.relative_to(self.local).as_posix(), path.read_bytes())
            agent.send(near.stdin, "", json.dumps(order).encode())
        return RemoteProcess(near, self.local)


class HostsExecutor:
    """Parties on the hosts of a file. Nothing is shaped: a network that asks for anything is what the probe checks."""

    name = "hosts"

    def __init__(self, path: str, runtime: runtimes.Runtime = runtimes.RUNTIMES[runtimes.NEWEST]) -> None:
        self._file = load_hosts(path)
        self._runtime = runtime
        self._abouts: list[dict[str, Any]] = []

    def missing(self, network: Network) -> str | None:
        return None

    def describe(self) -> ExecutorDescription:
        hosts = [Machine.model_validate(about["machine"]) for about in self._abouts]
        return ExecutorDescription(name="hosts", hosts=hosts)

    @contextmanager
    def open(self, network: Network, directories: Sequence[Path]) -> Iterator[list[Host]]:
        if len(self._file.host) < len(directories):
            raise SpuBenchError(
                f"The hosts file names {len(self._file.host)} hosts, the protocol takes {len(directories)}.",
                "name a host for each party.",
                "bad_input",
            )
        entries = self._file.host[: len(directories)]
        self._abouts = [_about(rank, entry) for rank, entry in enumerate(entries)]
        yield [RemoteHost(rank, entry, directories[rank]) for rank, entry in enumerate(entries)]


def load_hosts(path: str) -> HostsFile:
    """Read a hosts file; raises SpuBenchError that names the key at fault."""
    try:
        return HostsFile.model_validate(tomllib.loads(Path(path).read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SpuBenchError(f"{path}: {where}: {first['msg']}.", "correct the file.", "bad_input") from None
    except (OSError, ValueError) as error:
        raise SpuBenchError(
            f"{path or 'no file'} cannot be read as TOML: {error}.", "give --executor hosts:FILE.toml.", "bad_input"
        ) from error


def _about(rank: int, entry: HostEntry) -> dict[str, Any]:
    """Ask a host what it is; SpuBenchError ("environment") where it is not reached, or has another spu_bench."""
    try:
        done = subprocess.run([*entry.agent, "--about"], capture_output=True, text=True, timeout=120)
        said = (done.stderr.strip() or "no word").splitlines()[-1]
        about: dict[str, Any] | None = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        said, about = str(error), None
    if about is None:
        raise SpuBenchError(
            f"The host of party {rank} does not answer: {said}.",
            f"see that `{' '.join(entry.agent)} --about` prints what it is.",
            "environment",
        )
    if about["source"] != source_hash():
        raise SpuBenchError(
            f"The host of party {rank} has another version of spu_bench than this machine.",
            "install the same commit on all of them.",
            "environment",
        )
    return about
