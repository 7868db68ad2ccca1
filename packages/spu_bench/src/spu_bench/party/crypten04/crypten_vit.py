"""The ViT family in CrypTen's own functions, as a user of CrypTen would write it.

CrypTen runs no HLO. It needs the Program's arrays by name, and what its `made_by` says of the model: a ViT-Lite with
Softmax, ReLU-Softmax or Scale attention, alone or mixed over heads. All heads run in one batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import crypten
import torch
from crypten.config import cfg

from spu_bench.errors import SpuBenchError
from spu_bench.party.task import Manifest

Tensor = Any
"""A crypten.CrypTensor: CrypTen has no types."""

_EPS = 1e-5
_MIXES = {"mix": ("relu_softmax", "scale"), "softmax_scale": ("softmax", "scale")}


def _softmax(scores: Tensor) -> Tensor:
    return scores.softmax(-1)


def _relu_softmax(scores: Tensor) -> Tensor:
    positive = scores.relu()
    # as CrypTen's own softmax does: a sum of ReLUs is never negative
    with cfg.temp_override({"functions.reciprocal_all_pos": True}):
        return positive * (positive.sum(-1, keepdim=True) + _EPS).reciprocal()


def _scale(scores: Tensor) -> Tensor:
    return scores.div(scores.size(-1))


def _tanh_gelu(x: Tensor) -> Tensor:
    inner = (x.square() * x * 0.044715 + x) * math.sqrt(2 / math.pi)
    return (inner.tanh() + 1) * x * 0.5


def _quad(x: Tensor) -> Tensor:
    return x.square() * 0.125 + x * 0.25 + 0.5


def _relu(x: Tensor) -> Tensor:
    return x.relu()


ATTENTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": _softmax,
    "relu_softmax": _relu_softmax,
    "scale": _scale,
}
GELUS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": _tanh_gelu, "quad": _quad, "relu": _relu}


@dataclass(frozen=True)
class Model:
    """A model of the family: `kinds` names the attention of every head, one row for each layer."""

    patch: int
    width: int
    kinds: tuple[tuple[str, ...], ...]
    gelu: str


def read(manifest: Manifest) -> Model:
    """The model that a Program's manifest describes; raises SpuBenchError where CrypTen cannot run it."""
    made_by = manifest["made_by"]
    config = made_by.get("config")
    if not isinstance(config, dict):
        raise _unsupported("a Program whose made_by names no model", "export it with vit_models.export_program.")
    if any(each["holder"] == "public" for each in manifest["arguments"]):
        raise _unsupported("public arguments", "export the Program with weights='server'.")
    if made_by.get("kernels") not in ("plain", "paper") or made_by.get("fuse"):
        raise _unsupported("kernels other than plain and paper", "export with kernels='plain' and without fuse.")
    if config["conv"] is not None or config["pool"] != "class":
        raise _unsupported(f"the tokenizer or pooling of {config['name']!r}", "take a model named vit_...")
    if made_by["gelu"] not in GELUS:
        # its erf is a Taylor series whose powers are not those of its argument: x^5 comes out as x^6 (0.4.1, power.py)
        raise _unsupported(f"a correct GeLU {made_by['gelu']!r}", f"export with gelu one of {', '.join(GELUS)}.")
    plan = made_by.get("plan") or {"attention": None, "gelu": None}
    if plan["gelu"] is not None:
        raise _unsupported("a plan that keeps GeLU for some tokens", "take a plan without a gelu part.")
    return Model(
        patch=config["patch"],
        width=config["head_dim"] or config["dim"] // config["heads"],
        kinds=tuple(
            _kinds(made_by["attention"], plan["attention"] and plan["attention"][layer], config["heads"])
            for layer in range(config["layers"])
        ),
        gelu=made_by["gelu"],
    )


def _kinds(attention: str, choice: Any, heads: int) -> tuple[str, ...]:
    """The variant of each head of a layer."""
    on, *off = _MIXES.get(attention) or attention.split("+")
    for kind in (on, *off):
        if kind not in ATTENTIONS:
            raise _unsupported(f"the attention {kind!r}", f"take one of {', '.join(ATTENTIONS)}, or a mix of two.")
    if not off:
        return (on,) * heads
    if choice is None or choice["level"] not in ("head", "layer"):
        raise _unsupported("a mix over rows, or in its search form", "take a plan of heads or layers.")
    bits: list[int] = choice["on"] * (heads if choice["level"] == "layer" else 1)
    return tuple(on if bit else off[0] for bit in bits)


def _unsupported(what: str, fix: str) -> SpuBenchError:
    return SpuBenchError(f"CrypTen 0.4.1 cannot run this Program: it does not support {what}.", fix, "bad_input")


def evaluate(model: Model, held: dict[str, Tensor]) -> Tensor:
    """Logits (B, classes) of `held`, the Program's arguments by name as shares."""
    x = _embed(model, held)
    for layer, kinds in enumerate(model.kinds):
        block = _Arrays(held, f"params.blocks.{layer}.")
        x = x + _attention(model, kinds, block.below("attention."), _norm(block.below("pre_norm."), x))
        x = _norm(block.below("norm1."), x)
        hidden = _linear(block.below("linear1."), x)
        x = x + _linear(block.below("linear2."), GELUS[model.gelu](hidden))
    params = _Arrays(held, "params.")
    return _linear(params.below("head."), _norm(params.below("norm."), x)[:, 0])


@dataclass(frozen=True)
class _Arrays:
    """The arrays whose names start with `prefix`, by the rest of their names."""

    held: dict[str, Tensor]
    prefix: str

    def __getitem__(self, name: str) -> Tensor:
        return self.held[self.prefix + name]

    def below(self, prefix: str) -> _Arrays:
        return _Arrays(self.held, self.prefix + prefix)


def _embed(model: Model, held: dict[str, Tensor]) -> Tensor:
    """Tokens (B, N, C) of the images (B, H, W, channels): the convolution of patches as one product."""
    params = _Arrays(held, "params.")
    batch, height, width, channels = held["images"].size()
    p = model.patch
    patches = held["images"].reshape(batch, height // p, p, width // p, p, channels).permute(0, 1, 3, 2, 4, 5)
    kernel = params["tokenizer.0.kernel"]
    tokens = patches.reshape(batch, -1, p * p * channels).matmul(kernel.reshape(p * p * channels, -1))
    first = params["class_token"].expand(batch, 1, kernel.size(-1))
    return crypten.cat([first, tokens + params["tokenizer.0.bias"]], dim=1) + params["positions"]


def _norm(params: _Arrays, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return centred * (variance + _EPS).inv_sqrt() * params["scale"] + params["bias"]


def _linear(params: _Arrays, x: Tensor) -> Tensor:
    return x.matmul(params["kernel"]) + params["bias"]


def _attention(model: Model, kinds: tuple[str, ...], params: _Arrays, x: Tensor) -> Tensor:
    batch, tokens, _ = x.size()
    heads = len(kinds)
    qkv = x.matmul(params["qkv.kernel"]).reshape(batch, tokens, 3, heads, model.width).permute(2, 0, 3, 1, 4)
    q, k, v = qkv[0], qkv[1], qkv[2]
    scores = q.matmul(k.transpose(-2, -1)) * model.width**-0.5
    groups = {kind: [head for head in range(heads) if kinds[head] == kind] for kind in dict.fromkeys(kinds)}
    order = [head for group in groups.values() for head in group]
    weights = crypten.cat([ATTENTIONS[kind](_heads(scores, group)) for kind, group in groups.items()], dim=1)
    context = _heads(weights.matmul(_heads(v, order)), [order.index(head) for head in range(heads)])
    return _linear(params.below("proj."), context.transpose(1, 2).reshape(batch, tokens, heads * model.width))


def _heads(x: Tensor, which: list[int]) -> Tensor:
    return x if which == list(range(x.size(1))) else x.index_select(1, torch.tensor(which))
