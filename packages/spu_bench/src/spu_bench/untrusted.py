"""Reading files that a stranger may have made: regular files only, of limited size and depth, errors in one line."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import psutil

from spu_bench.errors import SpuBenchError

MAX_DEPTH = 32
"""How deep tables and lists may be in one another, in JSON and TOML."""

MAX_TOML_BYTES = 1 << 20


def read_limited(path: Path, most_bytes: int, fix: str) -> bytes:
    """The content of a regular file of at most `most_bytes`. Raises SpuBenchError with `fix`."""
    try:
        # without O_NONBLOCK, opening a FIFO waits for a writer that may never come
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SpuBenchError(f"{path} is not a regular file.", fix, "bad_input")
            if status.st_size > most_bytes:
                raise SpuBenchError(
                    f"{path} has {status.st_size} bytes, more than the limit of {most_bytes}.", fix, "bad_input"
                )
            return stream.read(most_bytes)
    except FileNotFoundError:
        raise SpuBenchError(f"{path} is missing.", fix, "bad_input") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise SpuBenchError(f"{path} cannot be read ({reason}).", fix, "bad_input") from error


def read_inside(directory: Path, name: str, most_bytes: int, fix: str) -> bytes:
    """As `read_limited`, of the file `name` in `directory`; a symbolic link to another place is refused."""
    path = directory / name
    require_inside(directory, name, fix)
    return read_limited(path, most_bytes, fix)


def require_inside(directory: Path, name: str, fix: str) -> None:
    """Raise SpuBenchError where `name` in `directory` leads out of it."""
    path = directory / name
    try:
        inside = path.resolve().parent == directory.resolve()
    except (OSError, RuntimeError, ValueError):  # RuntimeError: a loop of links
        inside = False
    if not inside:
        raise SpuBenchError(f"{path} leads out of the Program's directory.", fix, "bad_input")


def parse_json(data: bytes, path: Path, fix: str) -> Any:
    """A JSON document of limited depth. Raises SpuBenchError with `fix`."""
    try:
        value = json.loads(data.decode("utf-8"))
        json.dumps(value).encode("ascii")
    except (ValueError, RecursionError) as error:
        raise SpuBenchError(f"{path} cannot be read as JSON ({one_line(str(error))}).", fix, "bad_input") from None
    return _require_shallow(value, path, fix)


def read_toml(path: Path, fix: str) -> dict[str, Any]:
    """The tables of a TOML file of limited size and depth. Raises SpuBenchError with `fix`."""
    data = read_limited(path, MAX_TOML_BYTES, fix)
    try:
        value = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SpuBenchError(f"{path} cannot be read as TOML: {one_line(str(error))}.", fix, "bad_input") from None
    _require_shallow(value, path, fix)
    return value


def require_memory(what: str, needed_bytes: int) -> None:
    """Raise SpuBenchError where this machine has less memory available than `what` takes."""
    available = psutil.virtual_memory().available
    if needed_bytes > available:
        raise SpuBenchError(
            f"{what} takes {needed_bytes / 2**30:.1f} GiB, this machine has {available / 2**30:.1f} GiB available.",
            "give fewer inputs, or take a machine with more memory.",
            "memory",
        )


def one_line(text: str, most: int = 300) -> str:
    """`text` on one line, without characters that a terminal obeys, cut after `most` characters."""
    line = " ".join(text.split())
    line = "".join(each if each.isprintable() else "?" for each in line)
    return line if len(line) <= most else line[:most] + "..."


def _require_shallow(value: Any, path: Path, fix: str) -> Any:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            below
            for each in level
            if isinstance(each, (dict, list))
            for below in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return value
    raise SpuBenchError(f"{path} is nested deeper than {MAX_DEPTH} levels.", fix, "bad_input")
