"""Parties started by hand, as two people on two hosts would."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import tomli_w


def free_port() -> int:
    """A port that is free, and whose successor is."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                second.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port


def write_link(path: Path, ports: Sequence[int], **settings: Any) -> Path:
    """A link file for parties on this machine."""
    parties = [{"address": "127.0.0.1", "port": port} for port in ports]
    path.write_text(tomli_w.dumps({"party": parties, "connect_timeout_s": 8.0, **settings}))
    return path


def start_party(rank: int, program: Path, link: Path, directory: Path, *more: str) -> subprocess.Popen[str]:
    """`spu-bench party` in `directory`, with its outcome there."""
    directory.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "spu_bench", "party", "--rank", str(rank), "--program", str(program)]
    command += ["--link", str(link), "--outcome", "outcome.json", *more]
    return subprocess.Popen(
        command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )


def cli(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`spu-bench` with these arguments, to its end."""
    command = [sys.executable, "-m", "spu_bench", *arguments]
    env = {**os.environ, **environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=180, check=False)


def one_line(errors: str) -> str:
    """The single line that a failure prints."""
    lines = errors.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and " Fix: " in lines[0], errors
    return lines[0]


def computing(party: subprocess.Popen[str]) -> psutil.Process:
    """The process that computes for `party`, itself or its child, once SPU's link is up and its work has begun."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert party.poll() is None, party.communicate()
        process = psutil.Process(party.pid)
        process = next(iter(process.children()), process)
        links = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]
        if len(links) >= 3 and process.io_counters().write_chars > 1 << 20:
            return process
        time.sleep(0.05)
    raise AssertionError("the party never computed")
