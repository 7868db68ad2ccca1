"""`NewProgram`: a Program in memory, and the one way in which this package writes one (docs/program-format.md)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spu_bench.errors import SpuBenchError
from spu_bench.party import OWNERS, Holder
from spu_bench.program import Array, Manifest, array_checksum, manifest_fingerprint


@dataclass(frozen=True, eq=False)
class NewArgument:
    """A parameter of the module: its name, its holder, its value, and whether its first axis is the batch."""

    name: str
    holder: Holder
    value: Array
    batched: bool = True


@dataclass(frozen=True, eq=False)
class NewProgram:
    """A Program that is not written yet; `notes` says what was converted or left out when it was made."""

    name: str
    module: bytes
    arguments: Sequence[NewArgument]
    outputs: Mapping[str, Array]
    made_by: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def manifest(self) -> dict[str, Any]:
        """The content of program.json, with its fingerprint. Raises ValidationError for a dtype not in the format."""
        manifest: dict[str, Any] = {
            "schema": 1,
            "name": self.name,
            "module": {"file": "module.hlo", "sha256": hashlib.sha256(self.module).hexdigest()},
            "arguments": [
                # only where it is not: the fingerprint is of all keys
                {**_spec(each.name, each.value), "holder": each.holder, **({} if each.batched else {"batched": False})}
                for each in self.arguments
            ],
            "outputs": [_spec(name, value) for name, value in self.outputs.items()],
            "made_by": dict(self.made_by),
        }
        manifest["fingerprint"] = manifest_fingerprint(manifest)
        Manifest.model_validate(manifest)
        return manifest

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the manifest: of module, arguments, outputs and what made them."""
        return str(self.manifest()["fingerprint"])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the directory, whole or not at all, and return its path; an earlier Program there is replaced.

        Raises SpuBenchError where `path` is there and is not a Program: nothing else is ever removed.
        """
        target = Path(path)
        is_program = (target / "program.json").is_file()
        if target.exists() and not is_program and (not target.is_dir() or any(target.iterdir())):
            raise SpuBenchError(
                f"{target} exists and is not a Program.", "give another path, or remove it.", "bad_input"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        manifest = json.dumps(self.manifest(), indent=1, sort_keys=True) + "\n"
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as scratch:
            new, old = Path(scratch) / "new", Path(scratch) / "old"
            new.mkdir()
            (new / "module.hlo").write_bytes(self.module)
            (new / "program.json").write_text(manifest)
            parts = {str(holder): {e.name: e.value for e in self.arguments if e.holder == holder} for holder in OWNERS}
            for part, arrays in {**parts, "reference": dict(self.outputs)}.items():
                if arrays:
                    _write_npz(new / f"{part}.npz", arrays)
            if target.exists():
                target.rename(old)  # a directory cannot be renamed over one that is not empty
            try:
                new.rename(target)
            except OSError:
                if old.exists():
                    shutil.move(old, target)
                raise
        return target


def _write_npz(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)


def _spec(name: str, array: Array) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "dtype": array.dtype.name, "sha256": array_checksum(array)}
