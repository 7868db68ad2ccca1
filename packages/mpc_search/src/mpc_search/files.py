"""Files that a reader never sees half written."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

from pydantic import JsonValue


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` in one step, and make the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        new = Path(scratch) / "new"
        new.write_text(text)
        os.replace(new, path)


def canonical_sha256(value: JsonValue) -> str:
    """SHA-256 of a JSON value in canonical form: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
