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

DTYPES = ("float32", "int32")
"""The types of a Program's arrays; one of whole ring numbers (`RuntimeOptions`) has int64 too."""

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
        """The content of program.json, with its fingerprint.

        Raises ModelError that names an array of another type than DTYPES, or with values that are not finite.
        """
        dtypes = DTYPES if self.runtime_options is None else (*DTYPES, "int64")
        for name, value in [*((a.name, a.value) for a in self.arguments), *self.outputs]:
            _check(name, value, dtypes)
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

        Raises ModelError where `path` exists and is not a Program directory: nothing else is ever removed; and as
        `manifest` does.
        """
        target, manifest = Path(path), self.manifest()
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
            (work / "program.json").write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
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


def _check(name: str, value: NpArray, dtypes: tuple[str, ...]) -> None:
    if value.dtype.name not in dtypes:
        to = DTYPES[0] if value.dtype.kind not in "iub" else DTYPES[1]
        problem = f"The array {name!r} is {value.dtype.name}; a Program has {' and '.join(dtypes)}."
        raise ModelError(problem, f"convert it with .astype('{to}').")
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        raise ModelError(
            f"The array {name!r} holds values that are NaN or infinite.", "replace them, or train the model again."
        )


def _describe(value: NpArray) -> dict[str, Any]:
    dtype, shape = value.dtype.name, list(value.shape)
    digest = hashlib.sha256(f"{dtype}:{','.join(map(str, shape))}:".encode("ascii"))
    digest.update(np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False).tobytes())
    return {"shape": shape, "dtype": dtype, "sha256": digest.hexdigest()}
