"""The original's checkpoints: its names and layouts of every array, to ours and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from .config import ViTConfig
from .errors import ModelError
from .foreign_layout import refuse_foreign, without_wrappers
from .initial import initial_params
from .model import Model
from .params import flatten, unflatten
from .plan import AttentionPlan
from .types import NpArray, ParamDict, Params

State = Mapping[str, Any]


@dataclass(frozen=True)
class _Layout:
    """How one array is converted: `ours(theirs)` and `theirs(ours)`."""

    ours: Callable[[NpArray], NpArray]
    theirs: Callable[[NpArray], NpArray]


_SAME = _Layout(lambda a: a, lambda a: a)
_LINEAR = _Layout(lambda a: a.T, lambda a: a.T)
_CONV = _Layout(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))
_BATCHED = _Layout(lambda a: a.reshape(a.shape[1:]), lambda a: a[None])
_TWICE_BATCHED = _Layout(lambda a: a.reshape(a.shape[2:]), lambda a: a[None, None])
# Layer-wise alpha and beta are vectors of one number in the original, and broadcastable scalars here.
_ALPHA = _Layout(
    lambda a: a.reshape((1, 1, 1) if a.size == 1 else a.shape[1:]),
    lambda a: a.reshape(-1) if a.size == 1 else a[None],
)
_BETA = _Layout(
    lambda a: a.reshape((1, 1) if a.size == 1 else a.shape[1:]),
    lambda a: a.reshape(-1) if a.size == 1 else a[None],
)

_ATTENTION_EXTRAS = {
    "alpha": ("alpha", _ALPHA),
    "xnorm.gamma": ("gamma_xnorm", _BATCHED),
    **{f"the_x.t{i}_kernel": (f"t{i}.weight", _LINEAR) for i in (1, 2, 3)},
    **{f"the_x.t{i}_bias": (f"t{i}.bias", _SAME) for i in (1, 2, 3)},
    **{f"linformer_{p}.e": ("E", _TWICE_BATCHED) for p in (30, 50, 70)},
}


def _theirs(name: str) -> tuple[str, _Layout]:
    """Original name and layout of our dotted parameter name."""
    part, *rest = name.split(".")
    if part == "tokenizer":
        leaf = rest[1]
        return f"tokenizer.conv_layers.{rest[0]}.0.{_leaf(leaf)}", _CONV if leaf == "kernel" else _SAME
    if part == "class_token":
        return "classifier.class_emb", _SAME
    if part == "positions":
        return "classifier.positional_emb", _SAME
    if part in ("norm", "head", "pool"):
        module = {"norm": "norm", "head": "fc", "pool": "attention_pool"}[part]
        return f"classifier.{module}.{_leaf(rest[0])}", _LINEAR if rest[0] == "kernel" else _SAME
    block, rest = f"classifier.blocks.{rest[0]}", rest[1:]
    if rest == ["beta"]:
        return f"{block}.beta", _BETA
    if rest[0] == "attention":
        extra = _ATTENTION_EXTRAS.get(".".join(rest[1:]))
        if extra is not None:
            return f"{block}.self_attn.{extra[0]}", extra[1]
        block, rest = f"{block}.self_attn", rest[1:]
    return f"{block}.{rest[0]}.{_leaf(rest[1])}", _LINEAR if rest[1] == "kernel" else _SAME


def _leaf(name: str) -> str:
    return {"kernel": "weight", "scale": "weight", "bias": "bias"}[name]


def from_torch_state(
    state: State, cfg: ViTConfig, *, attention: str = "softmax", strict: bool = True, dtype: Any = jnp.float32
) -> ParamDict:
    """Our parameters from a checkpoint's {name: array} with the original's names (see `load_torch_state`).

    alpha (1,), (1, H, 1, 1) or (1, 1, N, 1) and beta (1,) or (1, N, 1) of a block, if present, become (1, 1, 1),
    (H, 1, 1), (1, N, 1) and (1, 1), (N, 1). "module." and "_orig_mod." before names are dropped. `attention` names
    variants with parameters of their own. Raises ModelError naming the missing arrays, those of a wrong shape or with
    values that are not finite, and with `strict` the surplus ones; a checkpoint of another library is refused by its
    name. Source: the original's src/utils/transformers.py and tokenizer.py.
    """
    arrays = {without_wrappers(name): as_numpy(value) for name, value in state.items()}
    refuse_foreign(arrays)
    if len(arrays) < len(state):
        raise ModelError(
            "The checkpoint has arrays of one name with and without 'module.' or '_orig_mod.' before it.",
            "pass one of the two state dicts.",
            "mismatch",
        )
    expected = flatten(initial_params(Model(cfg, attention), 0))
    shapes: dict[str, tuple[int, ...]] = {name: tuple(value.shape) for name, value in expected.items()}
    problems: list[str] = []
    for ours, layout, allowed in _optional_arrays(cfg):
        theirs = _theirs(ours)[0]
        if theirs not in arrays:
            continue
        shape = layout.ours(arrays[theirs]).shape if arrays[theirs].ndim else None
        if shape is not None and shape in allowed:
            shapes[ours] = shape
        else:
            fitting = " or ".join(str(layout.theirs(np.empty(s)).shape) for s in allowed)
            problems.append(f"{theirs} has shape {arrays.pop(theirs).shape}, expected {fitting}")
    flat: dict[str, Any] = {}
    missing = []
    for name, shape in shapes.items():
        theirs, layout = _theirs(name)
        if theirs not in arrays:
            missing.append(theirs)
            continue
        value = arrays.pop(theirs)
        try:
            ours_value = layout.ours(value)
        except (ValueError, IndexError):
            ours_value = value
        if ours_value.shape != shape:
            problems.append(f"{theirs} has shape {value.shape}, expected {layout.theirs(np.empty(shape)).shape}")
            continue
        if not np.issubdtype(value.dtype, np.number) or not np.isfinite(value).all():
            problems.append(f"{theirs} has values that are not finite numbers")
            continue
        flat[name] = jnp.asarray(ours_value, dtype=dtype)
    if missing:
        problems.insert(0, f"missing: {_some(sorted(missing))}")
    if strict and arrays:
        problems.append(f"surplus: {_some(sorted(arrays))} (strict=False ignores them)")
    if problems:
        more = len(problems) - _MOST_NAMES
        problems = [*problems[:_MOST_NAMES], *([f"{more} problems more"] if more > 0 else [])]
        raise ModelError(
            f"The checkpoint does not fit {cfg.name}: {'; '.join(problems)}.",
            "pass the config and attention that it was trained with.",
            "mismatch",
        )
    return unflatten(flat)


_MOST_NAMES = 8
"""Names in one list of an error."""


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _optional_arrays(cfg: ViTConfig) -> Iterator[tuple[str, _Layout, tuple[tuple[int, ...], ...]]]:
    """Our name, layout and allowed shapes of every array that a checkpoint may have: alpha and beta of each block."""
    for i in range(cfg.layers):
        yield f"blocks.{i}.attention.alpha", _ALPHA, ((1, 1, 1), (cfg.heads, 1, 1), (1, cfg.tokens, 1))
        yield f"blocks.{i}.beta", _BETA, ((1, 1), (cfg.tokens, 1))


def to_torch_state(params: Params, cfg: ViTConfig, plan: AttentionPlan | None = None) -> dict[str, NpArray]:
    """The original's {name: float32 array} from our parameters; a plan becomes alpha and beta of exact 0 and 1.

    Raises ModelError on a plan for another config, and on parameters without a name in the original (fused linears).
    """
    if plan is not None:
        plan.check(cfg)
    out: dict[str, NpArray] = {}
    for name, value in flatten(params).items():
        if ".fused." in name:
            raise ModelError(
                f"{name} has no counterpart in the original.",
                "convert the parameters before fuse_params.",
                "unsupported",
            )
        theirs, layout = _theirs(name)
        out[theirs] = np.ascontiguousarray(layout.theirs(np.asarray(value, dtype=np.float32)))
    shapes = {"layer": (1,), "head": (1, -1, 1, 1), "row": (1, 1, -1, 1), "token": (1, -1, 1)}
    attention, gelu = (None, None) if plan is None else (plan.attention, plan.gelu)
    for layers, suffix in ((attention, "self_attn.alpha"), (gelu, "beta")):
        for i, choice in enumerate(layers or ()):
            value = np.asarray(choice.on, dtype=np.float32).reshape(shapes[choice.level])
            out[f"classifier.blocks.{i}.{suffix}"] = value
    return out


def as_numpy(value: Any) -> NpArray:
    """A NumPy or JAX array, or a PyTorch tensor, as a NumPy array; bfloat16 of PyTorch as float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    return np.asarray(value)
