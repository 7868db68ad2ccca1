"""A hash of this package's source, by which an image is known to hold the same code as the process that uses it.

Standard library only: the script that builds the image runs this file by its path.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

LABEL = "spu-bench.source"


@cache
def source_hash() -> str:
    """SHA-256 over the names and contents of the package's modules, its first 16 digits; one answer per process."""
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
