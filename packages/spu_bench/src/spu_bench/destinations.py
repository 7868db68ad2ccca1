"""Where a command writes: checked before anything runs, and nothing lost where a write fails after all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from spu_bench.errors import SpuBenchError
from spu_bench.record import write_whole

_FIX = "give a file in a directory that you can write to."


def check_file(path: Path) -> None:
    """Raise SpuBenchError where no file can be written at `path`; makes its directory."""
    if path.is_dir():
        raise SpuBenchError(f"{path} is a directory.", _FIX, "bad_input")
    if path.exists() and not path.is_file():
        raise SpuBenchError(f"{path} is not a regular file.", _FIX, "bad_input")
    check_directory(path.parent)


def check_directory(path: Path) -> None:
    """Raise SpuBenchError where no file can be written into the directory `path`; makes it where it is missing."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        handle, trial = tempfile.mkstemp(dir=path, prefix=".spu-bench-")
        os.close(handle)
        os.unlink(trial)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SpuBenchError(f"Nothing can be written to {path} ({reason}).", _FIX, "bad_input") from None


def write_result(path: Path, text: str) -> None:
    """Write `text` to `path`, for its owner alone.

    Raises SpuBenchError where that fails, and says in which temporary file the text is instead.
    """
    try:
        write_whole(path, text)
    except OSError as error:
        raise SpuBenchError(
            f"{path} cannot be written ({error.strerror}). {_kept(path, text)}",
            "free disk space, or correct the rights of the directory.",
            "environment",
        ) from None


def _kept(path: Path, text: str) -> str:
    try:
        handle, other = tempfile.mkstemp(prefix="spu-bench-", suffix=f"-{path.name}")
    except OSError:
        return "No temporary file could be made either."
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
    except OSError:
        os.unlink(other)
        return "Nor could a temporary file."
    return f"What should be in it is in {other}."
