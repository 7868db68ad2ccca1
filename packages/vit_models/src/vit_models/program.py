"""`Program`: the directory that carries a model to an MPC runtime (see docs/program-format.md)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .errors import ModelError
from .types import Holder, NpArray

HOLDERS: tuple[Holder, ...] = ("server", "client", "public")


@dataclass(frozen=True, eq=False)
class Argument:
    """One module parameter: dotted name, who holds it (server, client or public), and its value."""

    name: str
    holder: Holder
    value: NpArray


@dataclass(frozen=True)
class RuntimeOptions:
    """What a Program of whole ring numbers needs of the runtime; under any other setting its result is garbage.

    `protocol` by spu_bench's name, the others fields of SPU's RuntimeConfig.
    """

    protocol: str
    field: str
    fxp_fraction_bits: int
    trunc_allow_msb_error: bool


@dataclass(frozen=True, eq=False)
class Program:
    """Serialized HLO with its arguments in module order, and the plaintext outputs for the client's sample."""

    name: str
    module: bytes
    arguments: tuple[Argument, ...]
    outputs: tuple[tuple[str, NpArray], ...]
    made_by: dict[str, Any] = field(default_factory=dict)
    runtime_options: RuntimeOptions | None = None

    def manifest(self) -> dict[str, Any]:
        """The content of program.json, with its fingerprint."""
        body: dict[str, Any] = {
            "schema": 1,
            "name": self.name,
            "module": {"file": "module.hlo", "sha256": hashlib.sha256(self.module).hexdigest()},
            "arguments": [{"name": a.name, "holder": a.holder, **_describe(a.value)} for a in self.arguments],
            "outputs": [{"name": name, **_describe(value)} for name, value in self.outputs],
            "made_by": self.made_by,
            # only where there are any: the fingerprint is of all keys
            **({} if self.runtime_options is None else {"runtime_options": asdict(self.runtime_options)}),
        }
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return {**body, "fingerprint": hashlib.sha256(canonical.encode("ascii")).hexdigest()}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the manifest: of module, arguments, outputs and what made them."""
        return str(self.manifest()["fingerprint"])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the directory, whole or not at all; an existing Program there is replaced.

        Raises ModelError where `path` exists and is not a Program directory: nothing else is ever removed.
        """
        target = Path(path)
        if target.exists() and not (
            target.is_dir() and ((target / "program.json").exists() or not any(target.iterdir()))
        ):
            raise ModelError(f"{target} exists and is not a Program.", "give another path, or remove it.", "bad_file")
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            work.chmod(0o755)
            (work / "module.hlo").write_bytes(self.module)
            for holder in HOLDERS:
                held = {a.name: a.value for a in self.arguments if a.holder == holder}
                if held:
                    _write_npz(work / f"{holder}.npz", held)
            _write_npz(work / "reference.npz", dict(self.outputs))
            (work / "program.json").write_text(json.dumps(self.manifest(), indent=1, sort_keys=True) + "\n")
            if target.exists():
                # A directory cannot be renamed over one that is not empty: the old Program is moved away first.
                old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
                os.rename(target, old / "program")
                os.rename(work, target)
                shutil.rmtree(old)
            else:
                os.rename(work, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return target


def _write_npz(path: Path, arrays: dict[str, Any]) -> None:
    np.savez(path, **arrays)


def _describe(value: NpArray) -> dict[str, Any]:
    dtype, shape = value.dtype.name, list(value.shape)
    digest = hashlib.sha256(f"{dtype}:{','.join(map(str, shape))}:".encode("ascii"))
    digest.update(np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False).tobytes())
    return {"shape": shape, "dtype": dtype, "sha256": digest.hexdigest()}
