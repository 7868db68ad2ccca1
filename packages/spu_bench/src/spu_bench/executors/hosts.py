"""The executor `hosts`: the parties run on the hosts that a file names, over the network between them."""

from __future__ import annotations

import json
import subprocess
import threading
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spu_bench import runtimes
from spu_bench.errors import SpuBenchError, last_line
from spu_bench.executors import host_agent
from spu_bench.executors.base import Host, PartyProcess, ReportedProcess, no_helpers
from spu_bench.executors.description import ExecutorDescription
from spu_bench.network import Network
from spu_bench.provenance import Machine
from spu_bench.source_files import source_hash


class HostEntry(BaseModel):
    """One host: where the other parties reach it, and how this machine starts processes on it.

    `command` runs on the host the words that follow it, as ["ssh", "-o", "BatchMode=yes", "192.0.2.10"] does. `python`
    is an interpreter on the host, with the same version of spu_bench as this machine.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    interface: str
    cores: int = Field(ge=1)
    command: tuple[str, ...] = Field(min_length=1)
    python: str = "python3"

    @property
    def agent(self) -> list[str]:
        """The command that starts the agent on the host."""
        return [*self.command, self.python, "-m", "spu_bench.executors.host_agent"]


class HostsFile(BaseModel):
    """The content of a hosts file: one entry for each party, in rank order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: tuple[HostEntry, ...] = Field(min_length=2)


class RemoteProcess(ReportedProcess):
    """A process on another host. `connection` is the local command that reaches it; its files go to `directory`."""

    def __init__(self, connection: subprocess.Popen[bytes], directory: Path) -> None:
        super().__init__("the process on another host")
        self._connection, self._directory = connection, directory
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        assert self._connection.stdout is not None
        status = None
        with suppress(ValueError, OSError):  # the stream broke off: the command's exit status says why
            for name, content in host_agent.receive(self._connection.stdout):
                if name:
                    part = self._directory / f"{name}.part"
                    part.parent.mkdir(parents=True, exist_ok=True)
                    part.write_bytes(content)
                    part.replace(self._directory / name)
                else:
                    status = json.loads(content)["status"]
        ended = self._connection.wait()
        self._report_end(status if status is not None else ended or 1)

    def terminate(self) -> None:
        assert self._connection.stdin is not None
        with suppress(OSError):
            self._connection.stdin.close()  # the agent then ends the process

    def kill(self) -> None:
        self.terminate()
        try:
            self._connection.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._connection.kill()


@dataclass
class RemoteHost:
    """One party's host; `local` is the party's directory on this machine."""

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
            connection = subprocess.Popen(
                self.entry.agent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            )
        assert connection.stdin is not None
        task: host_agent.Task = {"arguments": list(arguments), "environment": dict(environment), "log": log}
        with suppress(BrokenPipeError):  # the command has ended: its exit status and log say why
            for path in sorted(self.local.rglob("*")):
                if path.is_file():
                    host_agent.send(connection.stdin, path.relative_to(self.local).as_posix(), path.read_bytes())
            host_agent.send(connection.stdin, "", json.dumps(task).encode())
        return RemoteProcess(connection, self.local)


class HostsExecutor:
    """The parties on the hosts of a file. Nothing is shaped; the probe compares the network with the requested one."""

    name = "hosts"

    def __init__(self, path: str, runtime: runtimes.Runtime = runtimes.RUNTIMES[runtimes.NEWEST]) -> None:
        self._file = load_hosts(path)
        self._runtime = runtime
        self._abouts: list[host_agent.About] = []

    def missing(self, network: Network) -> str | None:
        return None

    def describe(self) -> ExecutorDescription:
        hosts = [Machine.model_validate(about["machine"]) for about in self._abouts]
        return ExecutorDescription(name="hosts", hosts=hosts)

    @contextmanager
    def open(self, network: Network, directories: Sequence[Path], helpers: int = 0) -> Iterator[list[Host]]:
        no_helpers(self.name, helpers)
        if len(self._file.host) < len(directories):
            raise SpuBenchError(
                f"The hosts file has {len(self._file.host)} hosts, and the protocol requires {len(directories)}.",
                "add a [[host]] table for each party.",
                "bad_input",
            )
        entries = self._file.host[: len(directories)]
        self._abouts = [_about(rank, entry) for rank, entry in enumerate(entries)]
        yield [RemoteHost(rank, entry, directories[rank]) for rank, entry in enumerate(entries)]


def load_hosts(path: str) -> HostsFile:
    """Read a hosts file; raises SpuBenchError that names the wrong key."""
    try:
        return HostsFile.model_validate(tomllib.loads(Path(path).read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SpuBenchError(f"{path}: {where}: {first['msg']}.", "correct the file.", "bad_input") from None
    except (OSError, ValueError) as error:
        raise SpuBenchError(
            f"The hosts file {path!r} cannot be read as TOML: {error}.", "use --executor hosts:FILE.toml.", "bad_input"
        ) from error


def _about(rank: int, entry: HostEntry) -> host_agent.About:
    """Ask a host for its machine and version; SpuBenchError where it cannot be reached or has another version."""
    try:
        done = subprocess.run([*entry.agent, "--about"], capture_output=True, text=True, timeout=120)
        said = last_line(done.stderr, "it printed nothing")
        about: host_agent.About | None = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        said, about = str(error), None
    if about is None:
        raise SpuBenchError(
            f"The host of party {rank} does not answer: {said}.",
            f"correct the hosts file until `{' '.join(entry.agent)} --about` prints JSON.",
            "environment",
        )
    if about["source"] != source_hash():
        raise SpuBenchError(
            f"The host of party {rank} has another version of spu_bench than this machine.",
            "install the same commit on all hosts.",
            "environment",
        )
    return about
