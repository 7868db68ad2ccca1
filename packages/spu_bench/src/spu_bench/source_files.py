"""A hash of this package's source files, which tells whether an image or another host has the same code.

Standard library only: docker/build runs this file by its path.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

SOURCE_LABEL = "spu-bench.source"
"""The Docker label that holds an image's `source_hash`."""


@cache
def source_hash() -> str:
    """The first 16 hex digits of a SHA-256 over the names and contents of the package's modules, computed once."""
    root = Path(__file__).resolve().parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
