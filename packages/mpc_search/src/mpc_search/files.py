"""Files that a reader never sees half written."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pydantic import JsonValue

from mpc_search.errors import SearchError, first_line


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` in one step, and make the folders above it. Raises SearchError where it cannot be."""
    with scratch_beside(path) as scratch:
        new = scratch / "new"
        new.write_text(text)
        os.replace(new, path)


@contextlib.contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """A new folder beside `path`, which is deleted at the end; the folders above are made.

    Raises SearchError, also for any OSError within: where `path` names no file, or its folder cannot be written.
    """
    try:
        if path.name in ("", ".."):
            raise OSError(errno.EINVAL, "it names no file")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
            yield Path(scratch)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise SearchError(
            f"{str(path)[:200]!r} cannot be written ({why}).",
            "give another path, in a folder that you can write to and with space for it.",
            "environment",
        ) from error


def canonical_sha256(value: JsonValue) -> str:
    """SHA-256 of a JSON value in canonical form: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
