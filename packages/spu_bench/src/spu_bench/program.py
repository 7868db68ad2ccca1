"""Reading a Program: the directory that brings a model from JAX to MPC (docs/program-format.md)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spu_bench.errors import SpuBenchError
from spu_bench.party import Holder

Array = npt.NDArray[Any]
EXPORT_ANEW = "export the Program again and copy the whole directory."

CACHED_OPERAND = b"make_cached_var"
"""The custom call by which a module asks SPU to keep an operand's mask. SPU 0.9.5 then draws the same part of a party's
stream twice (libspu/mpc/semi2k/beaver/beaver_impl/beaver_tfp.cc), which gives the mask, and so the operand, away."""


class ArraySpec(BaseModel):
    """An argument or output: its name, shape, dtype and the checksum of its array."""

    model_config = ConfigDict(extra="forbid")

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "int32", "int64"]
    sha256: str


class Argument(ArraySpec):
    """A parameter of the module and the party that holds it."""

    holder: Holder


class ModuleFile(BaseModel):
    """The serialized HloModuleProto."""

    file: str
    sha256: str


class RuntimeOptions(BaseModel):
    """What a Program of whole ring numbers needs; under any other setting its result is garbage.

    `protocol` is one of spu_bench's, the others are fields of SPU's RuntimeConfig.
    """

    model_config = ConfigDict(extra="forbid")

    protocol: str
    field: Literal["FM32", "FM64", "FM128"]
    fxp_fraction_bits: int
    trunc_allow_msb_error: bool

    def settings(self) -> dict[str, Any]:
        """The fields of RuntimeConfig by name."""
        return {name: value for name, value in self if name != "protocol"}


class Manifest(BaseModel):
    """The content of `program.json`, schema 1."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = Field(alias="schema")
    name: str
    module: ModuleFile
    arguments: list[Argument]
    outputs: list[ArraySpec]
    made_by: dict[str, Any]
    runtime_options: RuntimeOptions | None = None
    fingerprint: str


def array_checksum(array: Array) -> str:
    """SHA-256 of an array: of its dtype, shape and bytes, as the format page defines it."""
    ordered = np.ascontiguousarray(array)
    ordered = ordered.astype(ordered.dtype.newbyteorder("<"), copy=False)
    head = f"{array.dtype.name}:{','.join(map(str, array.shape))}:"
    return hashlib.sha256(head.encode("ascii") + ordered.tobytes()).hexdigest()


def manifest_fingerprint(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest without its own fingerprint, as canonical JSON."""
    rest = {key: value for key, value in manifest.items() if key != "fingerprint"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


@dataclass(frozen=True)
class Program:
    """A Program on disk. Its manifest is checked; its arrays are read only by the party that holds them."""

    path: Path
    manifest: Manifest

    def held_by(self, holder: Holder) -> list[Argument]:
        """The arguments of `holder`, in the module's order."""
        return [argument for argument in self.manifest.arguments if argument.holder == holder]

    def module(self) -> bytes:
        """The serialized HLO module. Raises SpuBenchError where its checksum is not the manifest's."""
        path = self.path / self.manifest.module.file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _broken(path, f"cannot be read ({error.strerror})") from error
        if hashlib.sha256(data).hexdigest() != self.manifest.module.sha256:
            raise _broken(path, "does not match its checksum")
        if CACHED_OPERAND in data:
            raise SpuBenchError(
                f"{path} marks operands that SPU opens once and keeps. This gives one party's secrets to the other.",
                "export the Program without the mark, see docs/security.md.",
                "bad_input",
            )
        return data

    def arrays(self, holder: Holder, source: Path | None = None) -> dict[str, Array]:
        """The arrays of `holder` by name: `<holder>.npz`, checked against the manifest, or the file `source`.

        A `source` is the client's own input: shapes and dtypes are checked (the leading axis may be any multiple of
        the Program's batch), checksums are not. Raises SpuBenchError that names the array at fault.
        """
        wanted = self.held_by(holder)
        if not wanted:
            return {}
        path = source or self.path / f"{holder}.npz"
        found = read_npz(path)
        for spec in wanted:
            if spec.name not in found:
                raise _broken(path, f"has no array {spec.name!r} of the {holder}")
            check_array(path, spec, found[spec.name], is_sample=source is None)
        if surplus := sorted(set(found) - {spec.name for spec in wanted}):
            raise _broken(path, f"holds arrays that the Program does not name: {', '.join(surplus)}")
        return {spec.name: found[spec.name] for spec in wanted}

    def reference(self) -> dict[str, Array] | None:
        """The plaintext outputs for the arrays of client.npz, or None where the Program carries none."""
        path = self.path / "reference.npz"
        if not path.exists():
            return None
        found = read_npz(path)
        for spec in self.manifest.outputs:
            if spec.name not in found:
                raise _broken(path, f"has no output {spec.name!r}")
            check_array(path, spec, found[spec.name], is_sample=True)
        return found


def load_program(path: str | Path) -> Program:
    """Read and check the manifest of the Program at `path`.

    Raises SpuBenchError where the directory, the manifest or its fingerprint is not right. Arrays are checked when the
    party that holds them reads them: a client's host need not have the server's arrays.
    """
    directory = Path(path)
    manifest_path = directory / "program.json"
    try:
        raw = json.loads(manifest_path.read_text())
    except FileNotFoundError:
        raise SpuBenchError(
            f"There is no Program at {directory} (no program.json).",
            "give the directory that Program.save wrote.",
            "bad_input",
        ) from None
    except (OSError, ValueError) as error:
        raise _broken(manifest_path, f"cannot be read as JSON ({error})") from error
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the top level"
        raise _broken(manifest_path, f"is not a manifest of schema 1: {where}: {first['msg']}") from None
    if manifest_fingerprint(raw) != manifest.fingerprint:
        raise _broken(manifest_path, "does not match its own fingerprint")
    return Program(directory, manifest)


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of an npz file; pickled objects are refused. Raises SpuBenchError where it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise _broken(path, "is missing") from None
    except Exception as error:  # numpy and zipfile raise half a dozen kinds for a truncated archive
        raise _broken(path, f"cannot be read ({error})") from error


def check_array(path: Path, spec: ArraySpec, array: Array, *, is_sample: bool) -> None:
    """Check one array against its spec; raises SpuBenchError that names it."""
    if array.dtype.name != spec.dtype:
        raise SpuBenchError(
            f"The array {spec.name!r} in {path} is {array.dtype.name}, the Program takes {spec.dtype}.",
            f"convert it with .astype('{spec.dtype}').",
            "bad_input",
        )
    fits = array.shape == spec.shape
    if not is_sample and spec.shape and array.ndim == len(spec.shape) and array.shape[0] > 0:
        # a client may send a stream of inputs: several batches of the Program, one after another
        fits = array.shape[1:] == spec.shape[1:] and array.shape[0] % spec.shape[0] == 0
    if not fits:
        raise SpuBenchError(
            f"The array {spec.name!r} in {path} has shape {array.shape}, the Program takes {spec.shape}.",
            "give it that shape; of a client's input the first axis may be a multiple."
            if not is_sample
            else EXPORT_ANEW,
            "bad_input",
        )
    if is_sample and array_checksum(array) != spec.sha256:
        raise _broken(path, f"holds an array {spec.name!r} that does not match its checksum")


def _broken(path: Path, what: str) -> SpuBenchError:
    return SpuBenchError(f"{path} {what}.", EXPORT_ANEW, "bad_input")
