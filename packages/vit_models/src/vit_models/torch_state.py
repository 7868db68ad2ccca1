"""Checkpoints of the original repository: its names and layouts to ours and back, and the plan inside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from .config import ViTConfig
from .params import flatten, init, unflatten
from .plan import AttentionPlan, Choice, Layers, top_k
from .types import NpArray, Params

State = Mapping[str, Any]


@dataclass(frozen=True)
class _Layout:
    """How one array crosses: `ours(theirs)` and `theirs(ours)`."""

    ours: Callable[[NpArray], NpArray]
    theirs: Callable[[NpArray], NpArray]


_SAME = _Layout(lambda a: a, lambda a: a)
_LINEAR = _Layout(lambda a: a.T, lambda a: a.T)
_CONV = _Layout(lambda a: a.transpose(2, 3, 1, 0), lambda a: a.transpose(3, 2, 0, 1))
_BATCHED = _Layout(lambda a: a.reshape(a.shape[1:]), lambda a: a[None])
_TWICE_BATCHED = _Layout(lambda a: a.reshape(a.shape[2:]), lambda a: a[None, None])
# Layer-wise alpha and beta are vectors of one number there, and broadcastable scalars here.
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
) -> dict[str, Any]:
    """Our parameters from a checkpoint's {name: array} with the original's names (see `load_torch_state`).

    alpha (1,), (1, H, 1, 1) or (1, 1, N, 1) and beta (1,) or (1, N, 1) of a block are taken over where they are
    there, as (1, 1, 1), (H, 1, 1), (1, N, 1) and (1, 1), (N, 1). A leading "module." of names is dropped. `attention`
    names variants with parameters of their own. Raises ValueError naming every missing array, every array of a wrong
    shape, and with `strict` every surplus one. Source: the original's src/utils/transformers.py and tokenizer.py.
    """
    arrays = {k.removeprefix("module."): _numpy(v) for k, v in state.items()}
    template = flatten(init(cfg, 0, attention=attention))
    shapes = {name: tuple(value.shape) for name, value in template.items()}
    problems: list[str] = []
    for i in range(cfg.layers):
        block = f"classifier.blocks.{i}"
        _optional(
            arrays, f"{block}.self_attn.alpha", f"blocks.{i}.attention.alpha", _ALPHA,
            ((1, 1, 1), (cfg.heads, 1, 1), (1, cfg.tokens, 1)), shapes, problems,
        )  # fmt: skip
        _optional(arrays, f"{block}.beta", f"blocks.{i}.beta", _BETA, ((1, 1), (cfg.tokens, 1)), shapes, problems)
    flat: dict[str, Any] = {}
    missing = []
    for name, shape in shapes.items():
        theirs, layout = _theirs(name)
        if theirs not in arrays:
            missing.append(theirs)
            continue
        value = arrays.pop(theirs)
        try:
            ours = layout.ours(value)
        except (ValueError, IndexError):
            ours = value
        if ours.shape != shape:
            expected = layout.theirs(np.empty(shape)).shape
            problems.append(f"{theirs} has shape {value.shape}, expected {expected}")
            continue
        flat[name] = jnp.asarray(ours, dtype=dtype)
    if missing:
        problems.insert(0, f"missing: {', '.join(sorted(missing))}")
    if strict and arrays:
        problems.append(f"surplus: {', '.join(sorted(arrays))} (strict=False ignores them)")
    if problems:
        raise ValueError(f"checkpoint does not fit {cfg.name}: {'; '.join(problems)}")
    return unflatten(flat)


def _optional(
    arrays: dict[str, NpArray],
    theirs: str,
    ours: str,
    layout: _Layout,
    allowed: tuple[tuple[int, ...], ...],
    shapes: dict[str, tuple[int, ...]],
    problems: list[str],
) -> None:
    """Expect `theirs` in the shape it has, if that is an allowed one; note a problem and drop it otherwise."""
    if theirs not in arrays:
        return
    shape = layout.ours(arrays[theirs]).shape if arrays[theirs].ndim else None
    if shape in allowed and shape is not None:
        shapes[ours] = shape
        return
    expected = " or ".join(str(layout.theirs(np.empty(s)).shape) for s in allowed)
    problems.append(f"{theirs} has shape {arrays.pop(theirs).shape}, expected {expected}")


def to_torch_state(params: Params, cfg: ViTConfig, plan: AttentionPlan | None = None) -> dict[str, NpArray]:
    """The original's {name: float32 array} from our parameters; a plan becomes alpha and beta of exact 0 and 1.

    Raises ValueError on a plan for another config, or parameters that the original has no name for (fused linears).
    """
    if plan is not None:
        plan.check(cfg)
    out: dict[str, NpArray] = {}
    for name, value in flatten(params).items():
        if ".fused." in name:
            raise ValueError(f"{name} has no counterpart in the original; export the parameters before fuse_params")
        theirs, layout = _theirs(name)
        out[theirs] = np.ascontiguousarray(layout.theirs(np.asarray(value, dtype=np.float32)))
    shapes = {"layer": (1,), "head": (1, -1, 1, 1), "row": (1, 1, -1, 1), "token": (1, -1, 1)}
    for part, suffix in (("attention", "self_attn.alpha"), ("gelu", "beta")):
        layers: Layers | None = getattr(plan, part) if plan is not None else None
        for i, choice in enumerate(layers or ()):
            value = np.asarray(choice.on, dtype=np.float32).reshape(shapes[choice.level])
            out[f"classifier.blocks.{i}.{suffix}"] = value
    return out


def infer_plan(params: Params, cfg: ViTConfig, *, mu: float | None = None, post_relu: bool = True) -> AttentionPlan:
    """The plan that alpha and beta among `params` describe, each at the level its shape says.

    Exact 0 and 1 are taken as they are. Searched alphas need `mu`: they are then ranked over all layers as in
    `AttentionPlan.from_alpha`. beta must be 0 and 1. Raises ValueError where there is no alpha and no beta, where only
    some layers have one, or where values are not binary and no mu is given.
    """
    alphas = _collected(params, cfg, "alpha")
    betas = _collected(params, cfg, "beta")
    if alphas is None and betas is None:
        raise ValueError("parameters have neither alpha nor beta, so there is no plan to infer")
    attention: Layers | None = None
    if alphas is not None:
        levels = ["layer" if a.size == 1 else "head" if a.shape[0] > 1 else "row" for a in alphas]
        flat = [a.reshape(-1) for a in alphas]
        if mu is not None:
            kept = top_k(np.concatenate(flat), mu).reshape(-1)
            flat = np.split(kept, np.cumsum([len(f) for f in flat])[:-1])
        attention = _choices(levels, flat, "alpha", "; pass mu=... to binarise searched values")
    gelu: Layers | None = None
    if betas is not None:
        gelu = _choices(
            ["layer" if b.size == 1 else "token" for b in betas], [b.reshape(-1) for b in betas], "beta", ""
        )
    plan = AttentionPlan(attention, gelu, post_relu if gelu is not None else False)
    plan.check(cfg)
    return plan


def _collected(params: Params, cfg: ViTConfig, name: str) -> list[NpArray] | None:
    found = []
    for i in range(cfg.layers):
        block = params["blocks"][str(i)]
        holder = block["attention"] if name == "alpha" else block
        if name in holder:
            found.append(np.asarray(holder[name]))
    if found and len(found) != cfg.layers:
        raise ValueError(f"{len(found)} of {cfg.layers} layers have {name}; a plan needs all or none")
    return found or None


def _choices(levels: list[str], values: list[NpArray], name: str, hint: str) -> Layers:
    for i, v in enumerate(values):
        if not np.all((v == 0) | (v == 1)):
            raise ValueError(f"{name} of layer {i} is not exactly 0 and 1{hint}")
    return tuple(Choice(level, tuple(int(x) for x in v)) for level, v in zip(levels, values))


def load_torch_state(path: str | os.PathLike[str], prefix: str = "") -> dict[str, NpArray]:
    """{name: array} of a checkpoint file: npz with the original's names, or .pth / .pth.tar as its trainer saved it.

    With `prefix` only names that begin with it are taken, without it. Torch files need the extra `vit_models[torch]`
    and are read with weights-only loading, so that nothing in them is executed. Raises ImportError without torch,
    ValueError where there is no state dict of arrays.
    """
    path = Path(path)
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as data:
            found: dict[str, Any] = {name: data[name] for name in data.files}
    else:
        found = _read_torch(path)
    return {k[len(prefix) :]: _numpy(v) for k, v in found.items() if k.startswith(prefix)}


def _read_torch(path: Path) -> dict[str, Any]:
    try:
        import torch  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise ImportError(f"reading {path.name} needs PyTorch; install vit_models[torch]") from None
    import argparse

    # The trainer keeps its command line beside the weights; a Namespace holds values and runs nothing.
    with torch.serialization.safe_globals([argparse.Namespace]):
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    state = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None
    if not isinstance(state, dict) or not all(hasattr(v, "shape") for v in state.values()):
        raise ValueError(f"{path} holds no state dict of arrays")
    return state


def _numpy(value: Any) -> NpArray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)
