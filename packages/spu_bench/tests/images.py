"""Images of this very source, made by docker/build unless they are there."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

from requirements_of_tests import lacks_commands, lacks_root, require

from spu_bench.source_files import source_hash

BUILD = Path(__file__).resolve().parents[3] / "docker" / "build"


def image_of_this_source(engine: Any, runtime: str) -> str:
    """The name of the image that has `runtime`."""
    name = f"spu-bench:{source_hash()}-{runtime}"
    try:
        engine.images.get(name)
    except importlib.import_module("docker").errors.ImageNotFound:
        require(lacks_commands("debootstrap") or lacks_root())
        command = [sys.executable, BUILD, "--runtime", runtime, "--tag", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return name
