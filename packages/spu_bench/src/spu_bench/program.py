"""Reading a Program: the directory that brings a model from JAX to MPC (docs/program-format.md)."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from spu_bench import npz
from spu_bench.errors import SpuBenchError
from spu_bench.party import Holder
from spu_bench.untrusted import one_line, parse_json, read_inside, require_inside

if TYPE_CHECKING:
    from spu_bench.new_program import NewProgram

Array = npz.Array

MAX_MANIFEST_BYTES = 16 << 20
MAX_MODULE_BYTES = 1 << 30
MAX_ELEMENTS = 1 << 31
"""Elements of all arrays of a Program together."""

EXPORT_ANEW = "export the Program again and copy the whole directory."

CACHED_OPERAND = b"make_cached_var"
"""The custom call by which a module asks SPU to keep an operand's mask. SPU 0.9.5 then draws the same part of a party's
stream twice (libspu/mpc/semi2k/beaver/beaver_impl/beaver_tfp.cc), which gives the mask, and so the operand, away."""


def _plain_text(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds characters that cannot be printed")
    return text


Name = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_plain_text)]
"""A name that messages, tables and pages can show as it is."""


class ArraySpec(BaseModel):
    """An argument or output: its name, shape, dtype and the checksum of its array."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    shape: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(max_length=32)]
    dtype: Literal["float32", "int32", "int64"]
    sha256: str


class Argument(ArraySpec):
    """A parameter of the module and the party that holds it; its first axis is the batch, if it is `batched`.

    That counts for the client's arguments alone: of those that are not batched, all inferences take the same.
    """

    holder: Holder
    batched: bool = True


class ModuleFile(BaseModel):
    """The serialized HloModuleProto, in a file beside the manifest."""

    file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$")
    sha256: str

    @model_validator(mode="after")
    def _not_an_array_file(self) -> Self:
        # the module's file goes to every party, the arrays' files do not
        if self.file.lower().endswith((".npz", ".json")):
            raise ValueError("file: names a file of another kind")
        return self


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
    name: Name
    module: ModuleFile
    arguments: list[Argument]
    outputs: list[ArraySpec] = Field(min_length=1)
    made_by: dict[str, Any]
    runtime_options: RuntimeOptions | None = None
    fingerprint: str

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [spec.name for spec in self._arrays()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two arrays have the name {twice[0]!r}")
        return self

    @model_validator(mode="after")
    def _whole_numbers(self) -> Self:
        if self.runtime_options is None and (wide := [spec.name for spec in self._arrays() if spec.dtype == "int64"]):
            raise ValueError(f"the array {wide[0]!r} is int64, which only a Program with runtime_options has")
        return self

    @model_validator(mode="after")
    def _size(self) -> Self:
        if sum(math.prod(spec.shape) for spec in self._arrays()) > MAX_ELEMENTS:
            raise ValueError(f"its arrays have more than {MAX_ELEMENTS} elements")
        return self

    def _arrays(self) -> list[ArraySpec]:
        return [*self.arguments, *self.outputs]


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
        data = read_inside(self.path, self.manifest.module.file, MAX_MODULE_BYTES, EXPORT_ANEW)
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
        if source is None:
            found = self._own_arrays(f"{holder}.npz", wanted)
        else:
            expected = {spec.name: npz.Expected(spec.shape, spec.dtype, is_stream=_is_batched(spec)) for spec in wanted}
            found = npz.read_npz(source, "give an npz file with the client's arrays.", expected)
        _require_equal_batches(
            source or self.path, {spec.name: _batches(spec, found[spec.name]) for spec in wanted if _is_batched(spec)}
        )
        return found

    @staticmethod
    def from_function(fn: Callable[..., Any], params: Any, sample: Any, **settings: Any) -> NewProgram:
        """A new Program that computes a JAX function: as `spu_bench.program_from_function`, which needs JAX."""
        module = importlib.import_module("spu_bench.from_function")
        made: NewProgram = module.program_from_function(fn, params, sample, **settings)
        return made

    def reference(self) -> dict[str, Array] | None:
        """The plaintext outputs for the arrays of client.npz, or None where the Program carries none."""
        if not os.path.lexists(self.path / "reference.npz"):
            return None
        return self._own_arrays("reference.npz", self.manifest.outputs)

    def _own_arrays(self, name: str, specs: Sequence[ArraySpec]) -> dict[str, Array]:
        """The arrays of a file of the Program, whose checksums are those of `specs`."""
        require_inside(self.path, name, EXPORT_ANEW)
        path = self.path / name
        found = npz.read_npz(path, EXPORT_ANEW, {spec.name: npz.Expected(spec.shape, spec.dtype) for spec in specs})
        for spec in specs:
            if array_checksum(found[spec.name]) != spec.sha256:
                raise _broken(path, f"holds an array {spec.name!r} that does not match its checksum")
        return {spec.name: found[spec.name] for spec in specs}


def load_program(path: str | Path) -> Program:
    """Read and check the manifest of the Program at `path`.

    Raises SpuBenchError where the directory, the manifest or its fingerprint is not right. Arrays are checked when the
    party that holds them reads them: a client's host need not have the server's arrays.
    """
    directory = Path(path)
    manifest_path = directory / "program.json"
    if not manifest_path.exists():
        raise SpuBenchError(
            f"There is no Program at {directory} (no program.json).",
            "give the directory that Program.save wrote.",
            "bad_input",
        )
    data = read_inside(directory, manifest_path.name, MAX_MANIFEST_BYTES, EXPORT_ANEW)
    raw = parse_json(data, manifest_path, EXPORT_ANEW)
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = one_line(".".join(map(str, first["loc"]))) or "the top level"
        raise _broken(manifest_path, f"is not a manifest of schema 1: {where}: {one_line(first['msg'])}") from None
    if manifest_fingerprint(raw) != manifest.fingerprint:
        raise _broken(manifest_path, "does not match its own fingerprint")
    return Program(directory, manifest)


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of an npz file; pickled objects are refused. Raises SpuBenchError where it cannot be read."""
    return npz.read_npz(path, EXPORT_ANEW)


def _is_batched(spec: ArraySpec) -> bool:
    return isinstance(spec, Argument) and spec.batched and bool(spec.shape) and spec.shape[0] > 0


def _batches(spec: ArraySpec, array: Array) -> int:
    return len(array) // spec.shape[0]


def _require_equal_batches(path: Path, batches: dict[str, int]) -> None:
    """Refuse arrays that hold different numbers of batches: the runs would have no input for some."""
    if len(set(batches.values())) > 1:
        said = ", ".join(f"{name!r} has {count}" for name, count in batches.items())
        raise SpuBenchError(
            f"The arrays in {path} hold different numbers of batches: {said}.",
            "give each array as many; one without a batch axis is named in unbatched=[...] when the Program is made.",
            "bad_input",
        )


def _broken(path: Path, what: str) -> SpuBenchError:
    return SpuBenchError(f"{path} {what}.", EXPORT_ANEW, "bad_input")
