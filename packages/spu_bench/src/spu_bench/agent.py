"""A process on another host, reached by a command such as ssh: `python -m spu_bench.agent` is its far end.

In come the files of the process's directory and then its order; out go the JSON files that it writes, as they come, and
at its end all else that it wrote and its exit status. When the near end is gone, so are the process and its directory.
Standard library only, but for what the host is: the near end uses these frames too.
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
from typing import IO, Any

_POLL_S = 0.05
_Seen = dict[Path, tuple[int, int]]


def send(stream: IO[bytes], name: str, content: bytes) -> None:
    """Put a file on the stream: a line that names it and its size, then its bytes. An empty name is for a message."""
    stream.write(json.dumps({"name": name, "bytes": len(content)}).encode() + b"\n" + content)
    stream.flush()


def receive(stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """Files and messages until the stream ends; ValueError on what is none, or lies outside of the directory."""
    while line := stream.readline():
        head = json.loads(line)
        path = PurePosixPath(head["name"])
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{path} is no file of the directory")
        yield head["name"], stream.read(head["bytes"])


def about() -> dict[str, Any]:
    """What this host is: its machine, and its version of spu_bench."""
    from spu_bench import provenance

    return {"machine": provenance.machine().model_dump(mode="json"), "source": provenance.code().source}


def serve(incoming: IO[bytes], outgoing: IO[bytes]) -> None:
    """Take a directory and an order, run it, and give back what it wrote."""
    with tempfile.TemporaryDirectory(prefix="spu-bench-agent-") as folder:
        root = Path(folder)
        for name, content in receive(incoming):
            if not name:
                order = json.loads(content)
                break
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        else:
            return
        seen = {path: _state(path) for path in root.rglob("*") if path.is_file()}
        with open(root / order["log"], "ab") as log:
            process = subprocess.Popen(
                [sys.executable, *order["arguments"]],
                cwd=root,
                env={**os.environ, **order["environment"]},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        threading.Thread(target=_end_with, args=(incoming, process), daemon=True).start()
        while process.poll() is None:
            time.sleep(_POLL_S)
            _give(root, outgoing, seen, "*.json")
        _give(root, outgoing, seen, "*")
        send(outgoing, "", json.dumps({"status": process.returncode}).encode())


def _end_with(incoming: IO[bytes], process: subprocess.Popen[bytes]) -> None:
    incoming.read()
    process.kill()


def _state(path: Path) -> tuple[int, int]:
    known = path.stat()
    return known.st_mtime_ns, known.st_size


def _give(root: Path, outgoing: IO[bytes], seen: _Seen, pattern: str) -> None:
    """Send what is new or has changed. JSON files are written whole, so that none is half done."""
    for path in sorted(root.rglob(pattern)):
        if path.is_file() and seen.get(path) != _state(path):
            seen[path] = _state(path)
            send(outgoing, path.relative_to(root).as_posix(), path.read_bytes())


if __name__ == "__main__":
    if sys.argv[1:] == ["--about"]:
        print(json.dumps(about()))
    else:
        serve(sys.stdin.buffer, sys.stdout.buffer)
