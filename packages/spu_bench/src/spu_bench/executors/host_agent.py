"""The agent that runs a party's process on another host: `python -m spu_bench.executors.host_agent`.

A command such as ssh connects its standard input and output to the executor `hosts`. The agent receives the files of a
process's directory, then a `Task`. It sends the JSON files that the process writes, as they appear, and at the end all
other new files and the exit status. When the connection ends, it ends the process and removes the directory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TypedDict

from pydantic import JsonValue

from spu_bench import provenance
from spu_bench.source_files import source_hash

_POLL_S = 0.05
_Seen = dict[Path, tuple[int, int]]


class Task(TypedDict):
    """What the agent runs: Python's arguments, variables added to the environment, and the log file's name."""

    arguments: list[str]
    environment: dict[str, str]
    log: str


class About(TypedDict):
    """What a host is: its machine as in a record, and the hash of its spu_bench."""

    machine: dict[str, JsonValue]
    source: str


def send(stream: IO[bytes], name: str, content: bytes) -> None:
    """Write a file to the stream: a line with its name and size, then its bytes. A message has an empty name."""
    stream.write(json.dumps({"name": name, "bytes": len(content)}).encode() + b"\n" + content)
    stream.flush()


def receive(stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """Files and messages until the stream ends; ValueError for other data, or a path outside the directory."""
    while line := stream.readline():
        head = json.loads(line)
        path = PurePosixPath(head["name"])
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{path} is not in the directory")
        yield head["name"], stream.read(head["bytes"])


def about() -> About:
    """This host's machine and version of spu_bench."""
    return {"machine": provenance.machine().model_dump(mode="json"), "source": source_hash()}


def serve(incoming: IO[bytes], outgoing: IO[bytes]) -> None:
    """Receive a directory and a task, run the task, and send back its files."""
    with tempfile.TemporaryDirectory(prefix="spu-bench-agent-") as folder:
        root = Path(folder)
        for name, content in receive(incoming):
            if not name:
                task: Task = json.loads(content)
                break
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        else:
            return
        seen = {path: _state(path) for path in root.rglob("*") if path.is_file()}
        with open(root / task["log"], "ab") as log:
            process = subprocess.Popen(
                [sys.executable, *task["arguments"]],
                cwd=root,
                env={**os.environ, **task["environment"]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        threading.Thread(target=_end_with, args=(incoming, process), daemon=True).start()
        while process.poll() is None:
            time.sleep(_POLL_S)
            _send_new(root, outgoing, seen, "*.json")
        _send_new(root, outgoing, seen, "*")
        send(outgoing, "", json.dumps({"status": process.returncode}).encode())


def _end_with(incoming: IO[bytes], process: subprocess.Popen[bytes]) -> None:
    incoming.read()
    process.kill()


def _state(path: Path) -> tuple[int, int]:
    known = path.stat()
    return known.st_mtime_ns, known.st_size


def _send_new(root: Path, outgoing: IO[bytes], seen: _Seen, pattern: str) -> None:
    """Send files that are new or have changed. JSON files are written whole, so none is incomplete."""
    for path in sorted(root.rglob(pattern)):
        if path.is_file() and seen.get(path) != _state(path):
            seen[path] = _state(path)
            send(outgoing, path.relative_to(root).as_posix(), path.read_bytes())


if __name__ == "__main__":
    if sys.argv[1:] == ["--about"]:
        print(json.dumps(about()))
    else:
        serve(sys.stdin.buffer, sys.stdout.buffer)
