"""Parties started by hand, as two people on two hosts would."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
