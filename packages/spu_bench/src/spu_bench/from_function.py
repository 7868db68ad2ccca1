"""From any JAX function to a Program. Needs JAX (`pip install spu_bench[jax]`); what runs a Program does not."""

from __future__ import annotations

import importlib.metadata
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters.partial_eval import dce_jaxpr

from spu_bench.array_conversion import refusal, to_program_type
from spu_bench.errors import SpuBenchError
from spu_bench.new_program import NewArgument, NewProgram
from spu_bench.party import OWNERS, Holder
from spu_bench.program import Array
from spu_bench.supported_operations import require_supported
from spu_bench.wire import bytes_field, fields

PARAMS = "params"
"""The name of all parameters in `holders`, and the first part of each one's name."""

_TOLERANCE = 1e-2

# {field number: None to drop it, or the same for the message in it}: of HloModuleProto the module's id (5), its table
# of source lines (17), and of every instruction (2) of every computation (3) the metadata (7), which names files too.
_PROVENANCE: dict[int, Any] = {5: None, 17: None, 3: {2: {7: None}}}


class ExportNote(UserWarning):
    """What was converted, left out or made a constant when a function was exported."""


@dataclass(frozen=True)
class _Leaf:
    """An array of the parameters or of the sample, as the user gave it and as the Program has it."""

    name: str
    holder: Holder
    given: Any
    value: Array
    batched: bool


def program_from_function(
    fn: Callable[..., Any],
    params: Any,
    sample: Any,
    *,
    name: str | None = None,
    holders: Mapping[str, Holder] | None = None,
    unbatched: Sequence[str] = (),
    labels: Sequence[int] | None = None,
) -> NewProgram:
    """A Program that computes `fn(params, ...)` with the parameters at the server and the inputs at the client.

    `params` is any pytree of arrays: a dict, the variables of Flax or Haiku, an Equinox module, an NNX state. `sample`
    is the client's input: an array, for `fn(params, array)`; a tuple, for `fn(params, *tuple)`; or a dict, for
    `fn(params, **dict)`. Arguments get their names from the paths in the trees ("params.layers.0.weight"), and so do
    the outputs, of which there may be any number, shape and type. What the function does not read is left out.

    `holders` puts an argument, or all whose names begin with it and a dot, with another party: {"params": "public"}.
    The first axis of every input is the batch, and equal in all; `unbatched` names the inputs that have none. `labels`
    are the classes of the sample.

    bfloat16, float16, float64, bool and whole numbers become float32 or int32, with a note (ExportNote). Raises
    SpuBenchError that names the array, or the operation, that cannot run.
    """
    arguments, static = _read_arguments(fn, params, sample, holders or {}, unbatched)
    batch = _batch(arguments)
    if labels is not None and len(labels) != batch:
        raise SpuBenchError(
            f"There are {len(labels)} labels for a batch of {batch}.", "give one label for each sample.", "bad_input"
        )
    notes = [note for leaf in arguments for note in [to_program_type(leaf.name, leaf.given)[1]] if note]
    call = _Call(fn, static, [leaf.given for leaf in arguments])
    kept, notes_on_trace = _trace(call, arguments)
    expected, outputs = _outputs(call, arguments)
    _require_same(expected, outputs)
    module = _lower(call.of([i for i, leaf in enumerate(arguments) if leaf in kept], arguments), kept)
    notes = [*[n for n in notes if n.split(":")[0] in {leaf.name for leaf in kept}], *notes_on_trace]
    for note in notes:
        warnings.warn(note, ExportNote, stacklevel=2)
    return NewProgram(
        name=name or getattr(fn, "__name__", type(fn).__name__).strip("<>"),
        module=module,
        arguments=[NewArgument(leaf.name, leaf.holder, leaf.value, leaf.batched) for leaf in kept],
        outputs=outputs,
        made_by={
            "spu_bench": importlib.metadata.version("spu_bench"),
            "jax": jax.__version__,
            **({} if labels is None else {"labels": [int(label) for label in labels]}),
        },
        notes=notes,
    )


class _Call:
    """The user's function of a flat list of arrays in the Program's types, giving a dict of outputs by name."""

    def __init__(self, fn: Callable[..., Any], static: Callable[[Sequence[Any]], tuple[Any, Any]], given: list[Any]):
        self._fn = fn
        self._static = static
        self._types = [jnp.asarray(each).dtype for each in given]

    def original(self, values: Sequence[Any]) -> dict[str, Any]:
        """Outputs for values in the user's own types."""
        args, kwargs = self._static([jnp.asarray(each) for each in values])
        return _named_outputs(self._fn(*args, **kwargs))

    def __call__(self, *values: Any) -> dict[str, Any]:
        """Outputs, in the Program's types, for values in the Program's types."""
        # A bool comes as int32 and is a bool for the function: `~mask` is another thing on whole numbers.
        typed = [each.astype(bool) if kind == jnp.bool_ else each for each, kind in zip(values, self._types)]
        args, kwargs = self._static(typed)
        return {name: _output_type(name, each) for name, each in _named_outputs(self._fn(*args, **kwargs)).items()}

    def of(self, positions: list[int], leaves: Sequence[_Leaf]) -> Callable[..., dict[str, Any]]:
        """The function of the arrays at `positions` alone; it does not read the others."""

        def program(*values: Any) -> dict[str, Any]:
            # zeros for what it does not read: the values of a secret must not get into the module
            everything: list[Any] = [jnp.zeros(leaf.value.shape, leaf.value.dtype) for leaf in leaves]
            for position, value in zip(positions, values):
                everything[position] = value
            return self(*everything)

        return program


def _read_arguments(
    fn: Callable[..., Any], params: Any, sample: Any, holders: Mapping[str, Holder], unbatched: Sequence[str]
) -> tuple[list[_Leaf], Callable[[Sequence[Any]], tuple[Any, Any]]]:
    """The arrays of both trees in their order, and how to put them, or others in their place, together again."""
    args, kwargs = _as_call(sample)
    names = _input_names(fn, len(args))
    inputs = {**dict(zip(names, args)), **kwargs}
    found: list[_Leaf] = []
    trees = []
    named: list[tuple[Holder, str, Any]] = [("server", PARAMS, params)]
    named += [("client", name, each) for name, each in inputs.items()]
    for holder, prefix, tree in named:
        paths, structure = jax.tree_util.tree_flatten_with_path(tree)
        slots: list[Any] = []
        for path, value in paths:
            name = ".".join([prefix, *_parts(path)])
            if _is_static(value) and holder == "server":
                slots.append(value)
                continue
            slots.append(_Slot(len(found)))
            found.append(_leaf(name, holder, value, holders, unbatched))
        trees.append((structure, slots))
    _require_known("holders", holders, found)
    _require_known("unbatched", unbatched, found)

    def rebuild(values: Sequence[Any]) -> tuple[Any, Any]:
        built = [
            jax.tree_util.tree_unflatten(s, [values[x.at] if isinstance(x, _Slot) else x for x in slots])
            for s, slots in trees
        ]
        return built[: 1 + len(args)], dict(zip(kwargs, built[1 + len(args) :]))

    return found, rebuild


@dataclass(frozen=True)
class _Slot:
    """Where an array of the flat list belongs in a tree."""

    at: int


def _as_call(sample: Any) -> tuple[list[Any], dict[str, Any]]:
    if isinstance(sample, Mapping):
        return [], dict(sample)
    return (list(sample) if isinstance(sample, (tuple, list)) else [sample]), {}


def _input_names(fn: Callable[..., Any], count: int) -> list[str]:
    """The function's own names of its inputs, where it has them."""
    try:
        parameters = list(inspect.signature(fn).parameters.values())[1:]
    except (TypeError, ValueError):
        parameters = []
    own = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    if len(own) >= count:
        return own[:count]
    return ["input"] if count == 1 else [f"input{position}" for position in range(count)]


def _parts(path: Any) -> list[str]:
    """The names along a path in a tree; the leaf that Flax NNX calls `value` has the name of its variable."""
    parts = []
    for key in path:
        for attribute in ("key", "idx", "name"):
            if (part := getattr(key, attribute, None)) is not None:
                parts.append(str(part))
                break
    return parts[:-1] if len(parts) > 1 and parts[-1] == "value" else parts


def _is_static(value: Any) -> bool:
    """Whether a leaf is part of the function, not an array: a number of heads, a name, an activation."""
    if isinstance(value, (bool, int, str)):
        return True
    return not isinstance(value, (float, np.generic)) and not hasattr(value, "dtype")


def _leaf(name: str, holder: Holder, value: Any, holders: Mapping[str, Holder], unbatched: Sequence[str]) -> _Leaf:
    if hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise refusal(name, "is a random key", "draw the random numbers outside of the function.")
    if not hasattr(value, "dtype"):
        value = np.asarray(value, dtype=np.float32 if isinstance(value, float) else None)
    owner = next((h for key, h in holders.items() if _covers(key, name)), holder)
    if owner not in OWNERS:
        raise SpuBenchError(f"{name!r} has the holder {owner!r}.", f"use one of {', '.join(OWNERS)}.", "bad_input")
    converted, _ = to_program_type(name, value)
    batched = owner != "client" or (converted.ndim > 0 and not any(_covers(key, name) for key in unbatched))
    return _Leaf(name, owner, value, converted, batched)


def _covers(key: str, name: str) -> bool:
    return name == key or name.startswith(key + ".")


def _require_known(option: str, keys: Any, leaves: list[_Leaf]) -> None:
    for key in keys:
        if not any(_covers(key, leaf.name) for leaf in leaves):
            known = ", ".join(leaf.name for leaf in leaves[:20])
            raise SpuBenchError(f"{option} names {key!r}, which no argument has.", f"use one of {known}.", "bad_input")


def _batch(leaves: list[_Leaf]) -> int | None:
    """The batch that all inputs of the client share."""
    sizes = {leaf.name: len(leaf.value) for leaf in leaves if leaf.holder == "client" and leaf.batched}
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise SpuBenchError(
            f"The first axis of each input is the batch, but they differ: {said}.",
            "name those without a batch axis in unbatched=[...].",
            "bad_input",
        )
    return next(iter(sizes.values()), None)


def _trace(call: _Call, leaves: list[_Leaf]) -> tuple[list[_Leaf], list[str]]:
    """The arrays that the function reads, and notes; SpuBenchError where it does what SPU cannot run."""
    try:
        closed = jax.make_jaxpr(call)(*[jax.ShapeDtypeStruct(leaf.value.shape, leaf.value.dtype) for leaf in leaves])
    except jax.errors.JAXTypeError as error:
        raise SpuBenchError(
            f"JAX cannot trace the function: {str(error).strip().splitlines()[0]}",
            "decide nothing in Python by the value of an array; use jax.numpy.where.",
            "bad_input",
        ) from error
    require_supported(closed.jaxpr, [leaf.holder != "public" for leaf in leaves])
    _, is_read = dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    notes = [f"{leaf.name}: the function does not read it; left out." for leaf, r in zip(leaves, is_read) if not r]
    for constant in closed.consts:
        if np.size(constant) > 1:
            notes.append(
                f"An array of shape {np.shape(constant)} that the function captured is a constant of the module, which "
                "both parties see: pass it in params if it is secret."
            )
    kept = [leaf for leaf, r in zip(leaves, is_read) if r]
    if not any(leaf.holder == "client" for leaf in kept):
        raise SpuBenchError("The function reads no input of the client.", "give it one in sample.", "bad_input")
    return kept, notes


def _outputs(call: _Call, leaves: list[_Leaf]) -> tuple[dict[str, Array], dict[str, Array]]:
    """The outputs of the function as it was given, and those of the function as the Program computes it."""
    given = {name: np.asarray(each) for name, each in jax.jit(call.original)([leaf.given for leaf in leaves]).items()}
    made = {name: np.asarray(each) for name, each in jax.jit(call)(*[leaf.value for leaf in leaves]).items()}
    if not given:
        raise SpuBenchError("The function has no output.", "let it return an array, a tuple or a dict.", "bad_input")
    return given, {name: to_program_type(name, each)[0] for name, each in made.items()}


def _require_same(expected: dict[str, Array], outputs: dict[str, Array]) -> None:
    """Refuse a function that computes something else when its arguments are float32 and int32."""
    for name, value in outputs.items():
        before = expected[name].astype(np.float64)
        if not np.allclose(before, value, atol=_TOLERANCE * max(1.0, float(np.abs(before).max(initial=0)))):
            raise refusal(
                name,
                "comes out otherwise when all arguments are float32 and int32 (whole numbers of fewer bits wrap)",
                "convert the arguments yourself, with .astype('float32') or .astype('int32').",
            )


def _named_outputs(tree: Any) -> dict[str, Any]:
    """The outputs by the names of their paths: "output" for one, "output0", ... for a tuple, a dict's own keys."""
    named: dict[str, Any] = {}
    for path, value in jax.tree_util.tree_flatten_with_path(tree)[0]:
        parts = _parts(path)
        if not parts or parts[0].isdigit():
            parts = [f"output{parts[0] if parts else ''}", *parts[1:]]
        named[".".join(parts)] = jnp.asarray(value)
    return named


def _output_type(name: str, value: Any) -> Any:
    if jnp.issubdtype(value.dtype, jnp.floating):
        return value.astype(jnp.float32)
    if value.dtype == jnp.bool_ or jnp.issubdtype(value.dtype, jnp.integer):
        return value.astype(jnp.int32)
    raise refusal(name, f"is an output of type {value.dtype}", "return its parts with .astype('float32').")


def _lower(program: Callable[..., Any], leaves: list[_Leaf]) -> bytes:
    """The serialized HloModuleProto, for XLA's interpreter platform, without what names times and files."""
    shapes = [jax.ShapeDtypeStruct(leaf.value.shape, leaf.value.dtype) for leaf in leaves]

    def in_order(*values: Any) -> tuple[Any, ...]:
        return tuple(program(*values).values())  # a dict's outputs would be sorted by name

    try:
        lowered = jax.jit(in_order, keep_unused=True).trace(*shapes).lower(lowering_platforms=("interpreter",))
        module: Any = lowered.compiler_ir("hlo")
    except (NotImplementedError, ValueError) as error:
        raise SpuBenchError(
            f"The function has an operation that SPU cannot run: {str(error).strip().splitlines()[0]}.",
            "compute it outside of the function, and pass the result as an argument.",
            "bad_input",
        ) from error
    return _without(bytes(module.as_serialized_hlo_module_proto()), _PROVENANCE)


def _without(message: bytes, dropped: Mapping[int, Any]) -> bytes:
    """A serialized message without the fields `dropped`."""
    kept = []
    for field in fields(message):
        inner = dropped.get(field.number, {})
        if inner:
            kept.append(bytes_field(field.number, _without(message[field.value : field.end], inner)))
        elif inner is not None:
            kept.append(message[field.start : field.end])
    return b"".join(kept)
