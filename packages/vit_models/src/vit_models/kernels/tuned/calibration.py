"""`calibrate`: the ranges of a model's own values on plaintext images, which the tuned kernels are built for."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...config import ViTConfig
from ...heads import attention_layer, resolve, split_heads
from ...mlp import mlp_layer
from ...forward import activation_of, embed, norm
from ...params import flatten
from ...plan import AttentionPlan
from ...types import AnyArray, NpArray, Params
from ...variants import scores
from .. import get_kernels

KINDS = ("softmax", "relu_softmax", "scale")
GELUS = ("exact", "erf", "tanh", "relu")
CHUNK = 32


@dataclass(frozen=True)
class Range:
    """Smallest and largest value seen."""

    lo: float
    hi: float


@dataclass(frozen=True)
class Calibration:
    """What `calibrate` saw, before any margin.

    `pre`, `norm1` (one a layer) and `final` are variances of a token over its channels. `rows[layer][head]` is, over
    attention rows, log sum exp of the scores for Softmax heads, their sum of positive scores for ReLU-Softmax heads,
    None for Scale heads. Variances may leave their range by the factor `margin` before the result is marked; inside,
    1 / sqrt(variance) is right to `tolerance`. `model` is the SHA-256 of configuration, parameters, attention and plan.
    """

    model: str
    images: int
    margin: float
    tolerance: float
    pre: tuple[Range, ...]
    norm1: tuple[Range, ...]
    final: Range
    rows: tuple[tuple[Range | None, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """The calibration as JSON-ready values."""
        return {"schema": 1, **json.loads(json.dumps(asdict(self)))}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON: what a Program says of its calibration, whose ranges are the server's."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    @staticmethod
    def from_dict(values: Any) -> Calibration:
        """Inverse of `to_dict`. Raises ValueError on anything else."""
        try:
            if values["schema"] != 1:
                raise ValueError(f"schema {values['schema']!r}")
            body = {k: v for k, v in values.items() if k != "schema"}
            body["pre"], body["norm1"] = (tuple(_range(r) for r in values[k]) for k in ("pre", "norm1"))
            _check_settings(values["margin"], values["tolerance"])
            body["final"] = _range(values["final"])
            body["rows"] = tuple(tuple(None if r is None else _range(r) for r in layer) for layer in values["rows"])
            return Calibration(**body)
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"not a calibration ({error}); make one with calibrate(cfg, params, images)") from None

    def check(self, cfg: ViTConfig, params: Params, plan: AttentionPlan | None, attention: str | None) -> None:
        """Raise ValueError, naming the fix, unless this was made for just this model."""
        if self.model != _fingerprint(cfg, params, head_kinds(cfg, plan, attention)):
            raise ValueError(
                "the calibration was made for another model (configuration, weights, attention or plan); "
                "run calibrate(cfg, params, images, plan=..., attention=...) for this one"
            )


def _check_settings(margin: float, tolerance: float) -> None:
    if not margin > 1.0 or not tolerance > 0.0:
        raise ValueError(f"margin must exceed 1 and tolerance 0, got {margin} and {tolerance}")


def _range(values: Any) -> Range:
    lo, hi = float(values["lo"]), float(values["hi"])
    if not (math.isfinite(lo) and math.isfinite(hi) and lo <= hi):
        raise ValueError(f"range [{lo}, {hi}]")
    return Range(lo, hi)


def head_kinds(cfg: ViTConfig, plan: AttentionPlan | None, attention: str | None) -> list[list[str]]:
    """The variant of every head of every layer. Raises ValueError on what the tuned kernels do not compute."""
    if cfg.conv is not None or cfg.pool != "class":
        raise ValueError(
            "tuned kernels take a model with patch embedding and class token; use kernels='plain' for others"
        )
    if plan is not None and plan.gelu is not None:
        raise ValueError("tuned kernels take no plan with a gelu part; use kernels='plain' for one")
    kinds = []
    for mode in resolve(cfg, attention, plan):
        if mode.off is None:
            names = [mode.on.name] * cfg.heads
        elif mode.choice is None or mode.choice.level == "row":
            raise ValueError(
                "tuned kernels take a plan of heads or layers; use kernels='plain' for rows, or for the search form"
            )
        else:
            bits = mode.choice.on * (cfg.heads if mode.choice.level == "layer" else 1)
            names = [mode.on.name if bit else mode.off.name for bit in bits]
        if unknown := sorted(set(names) - set(KINDS)):
            raise ValueError(f"tuned kernels know {', '.join(KINDS)}, not {unknown[0]}; use kernels='plain' for it")
        kinds.append(names)
    return kinds


def calibrate(
    cfg: ViTConfig,
    params: Params,
    images: AnyArray,
    *,
    plan: AttentionPlan | None = None,
    attention: str | None = None,
    gelu: str = "exact",
    margin: float = 1.25,
    tolerance: float = 1e-3,
) -> Calibration:
    """The ranges that the tuned kernels need, from a plaintext run over `images` (batch, height, width, channels).

    Some 256 images of the training set are enough; the other arguments are those of `export_program`. Raises ValueError
    on what the tuned kernels do not compute, and on values that are not finite.
    """
    _check_settings(margin, tolerance)
    kinds = head_kinds(cfg, plan, attention)
    images = np.asarray(images, dtype=np.float32)
    if images.ndim != 4 or not len(images):
        raise ValueError(f"calibration takes images (batch, height, width, channels), got shape {images.shape}")
    tree = jax.tree_util.tree_map(jnp.asarray, dict(params))
    observe = jax.jit(lambda x: list(_observed(cfg, tree, x, kinds, plan, attention, gelu)))
    seen: list[list[NpArray]] = []
    for start in range(0, len(images), CHUNK):
        seen.append([np.asarray(v) for v in observe(images[start : start + CHUNK])])
    lows, highs = (fn([[fn(v) for v in chunk] for chunk in seen], axis=0) for fn in (np.min, np.max))
    if not (np.isfinite(lows).all() and np.isfinite(highs).all()):
        raise ValueError("the model's values are not finite on these images; check parameters and images")
    found = iter(Range(float(lo), float(hi)) for lo, hi in zip(lows, highs))
    pre, norm1, rows = [], [], []
    for layer in kinds:
        pre.append(next(found))
        rows.append(tuple(None if kind == "scale" else next(found) for kind in layer))
        norm1.append(next(found))
    return Calibration(
        model=_fingerprint(cfg, params, kinds),
        images=len(images),
        margin=margin,
        tolerance=tolerance,
        pre=tuple(pre),
        norm1=tuple(norm1),
        final=next(found),
        rows=tuple(rows),
    )


def _observed(
    cfg: ViTConfig,
    params: Any,
    images: Any,
    kinds: list[list[str]],
    plan: AttentionPlan | None,
    attention: str | None,
    gelu: str,
) -> Iterator[Any]:
    """What is calibrated, in the order of the computation: variances and row sums of every layer, the last variances."""
    plain = get_kernels("plain")
    act = activation_of(plain, gelu)
    x = embed(cfg, params, images)
    for i, (mode, names) in enumerate(zip(resolve(cfg, attention, plan), kinds)):
        block = params["blocks"][str(i)]
        # The class token enters the first layer as a constant, which needs no range.
        yield jnp.var(x[:, 1:] if i == 0 else x, axis=-1)
        h = norm(plain, block["pre_norm"], x)
        q, k, _ = split_heads(cfg, h @ block["attention"]["qkv"]["kernel"])
        a = scores(q, k)
        for head, kind in enumerate(names):
            if kind == "softmax":
                yield jax.nn.logsumexp(a[:, head], axis=-1)
            elif kind == "relu_softmax":
                yield jnp.sum(jnp.maximum(a[:, head], 0.0), axis=-1)
        x = x + attention_layer(cfg, block["attention"], h, mode, plain, lambda w: w)
        # After the last attention only the class token is read.
        yield jnp.var(x[:, :1] if i + 1 == cfg.layers else x, axis=-1)
        x = norm(plain, block["norm1"], x)
        x = x + mlp_layer(block, x, act, plain, None, False, lambda w: w)
    yield jnp.var(x[:, :1], axis=-1)


def _fingerprint(cfg: ViTConfig, params: Params, kinds: list[list[str]]) -> str:
    digest = hashlib.sha256(json.dumps([cfg.to_dict(), kinds], sort_keys=True).encode())
    for name, value in flatten(params).items():
        array = np.ascontiguousarray(np.asarray(value), dtype="<f4")
        digest.update(f"{name}:{array.shape}:".encode() + array.tobytes())
    return digest.hexdigest()
