"""From a model's weights and a calibration to the weights of the tuned forward pass: constant factors are folded in.

LayerNorm does not depend on the mean over channels, nor on the scale of a token. So the weights of everything that is
added to the residual stream are centred and scaled here, once, in float64: the stream then has mean zero, and the scale
at which the polynomial for 1 / sqrt(variance) needs no factor of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...calibration import Calibration, Range
from ...config import ViTConfig
from ...errors import ModelError
from ...types import NpArray, Params
from ..host_arrays import centred, float64, normed
from .fits import (
    EXP_SQUARINGS,
    EXP_TOP,
    Factors,
    capacity_width,
    exp_root,
    gelu_gap,
    inverse_sqrt,
    reciprocal_octave,
)
from .functions import RELU_OCTAVES, SOFTMAX_OCTAVES
from .supported import Kind, TunedModel

EPS = 1e-5
LEVELS = (2, 7)
"""Fewest and most sequential multiplications for 1 / sqrt: degree 4 to 128."""

SCORE_MARGIN = 8.0
"""Row sums may exceed the calibrated ones by this factor at least."""


@dataclass(frozen=True)
class Norm:
    """One LayerNorm: u = times x sum of squares - centre, |u| <= width where the calibration holds."""

    times: int
    width: float
    arrays: dict[str, NpArray]


@dataclass(frozen=True)
class Folded:
    """Arrays of the tuned forward pass by dotted name, and the static part of every LayerNorm."""

    arrays: dict[str, NpArray]
    norms: dict[str, Norm]


def _step(r: Range) -> float:
    """Increase of u per unit of variance when u has the width that suits the range: 2 width / (hi - lo)."""
    return 4.0 / (math.sqrt(r.lo) + math.sqrt(r.hi)) ** 2


class _Stream:
    """The residual stream between two MLPs: `scale` multiplies its values, after centring."""

    def __init__(self, channels: int, ranges: list[Range], tolerance: float) -> None:
        step = min(_step(r) for r in ranges)
        self.scale = math.sqrt(step / channels)
        self._step, self._tolerance = step, tolerance

    def norm(self, of: Range) -> tuple[Norm, float]:
        """The LayerNorm over the range `of`, and the factor of its result.

        The range is widened until a whole number times the sum of squares is u.
        """
        times = max(1, math.floor(_step(of) / self._step + 1e-9))
        lo, hi = of.lo, (2.0 / math.sqrt(times * self._step) - math.sqrt(of.lo)) ** 2
        width = capacity_width(lo, hi)
        factors = _fit(lo, hi, width, self._tolerance)
        centre = width * (hi + lo) / (hi - lo) - times * self._step * EPS
        arrays = {"linear": factors.linear, "constant": factors.constant, "centre": np.array(centre)}
        return Norm(times, width, arrays), factors.gain / self.scale


def _fit(lo: float, hi: float, width: float, tolerance: float) -> Factors:
    for levels in range(LEVELS[0], LEVELS[1] + 1):
        factors = inverse_sqrt(lo, hi, width, levels)
        if factors.error <= tolerance:
            return factors
    raise ModelError(
        f"No polynomial of degree {2 ** LEVELS[1]} or less gives 1 / sqrt(variance) on [{lo:.3g}, {hi:.3g}] within "
        f"{tolerance:g}.",
        "calibrate with a smaller margin, or raise tolerance.",
        "unsupported",
    )


def fold(model: TunedModel, params: Params, calibration: Calibration) -> Folded:
    """Arrays of the tuned forward pass. Raises ModelError where no polynomial fits a calibrated range."""
    cfg, kinds = model.cfg, model.kinds
    weights = float64(params)
    arrays: dict[str, NpArray] = {}
    norms: dict[str, Norm] = {}
    slope = _slope(model.gelu)

    def stream(*ranges: Range) -> tuple[_Stream, list[Range]]:
        widened = [_widened(r, calibration.margin) for r in ranges]
        return _Stream(cfg.dim, widened, calibration.tolerance), widened

    def add_norm(name: str, of: _Stream, r: Range) -> float:
        norms[name], gain = of.norm(r)
        arrays.update({f"{name}.{k}": v for k, v in norms[name].arrays.items()})
        return gain

    here, (pre, post) = stream(calibration.pre[0], calibration.norm1[0])
    kernel = weights["tokenizer"]["0"]["kernel"].reshape(-1, cfg.dim)
    tokens = np.broadcast_to(weights["positions"][0], (cfg.tokens, cfg.dim)).copy()
    tokens[0] += weights["class_token"][0, 0]
    tokens[1:] += weights["tokenizer"]["0"]["bias"]
    arrays["embed.kernel"], arrays["embed.tokens"] = (centred(a) * here.scale for a in (kernel, tokens))

    for i in range(cfg.layers):
        block, name = weights["blocks"][str(i)], f"blocks.{i}"
        attention = block["attention"]
        scales, shift = _head_scales(cfg, kinds[i], calibration.rows[i])
        qkv = attention["qkv"]["kernel"] * scales
        gain = add_norm(f"{name}.pre_norm", here, pre)
        gamma, beta = block["pre_norm"]["scale"][:, None], block["pre_norm"]["bias"]
        arrays[f"{name}.qkv.kernel"], arrays[f"{name}.qkv.bias"] = gain * gamma * qkv, beta @ qkv
        if i == 0:
            arrays[f"{name}.class_qkv"] = (normed(tokens[0], EPS) * gamma[:, 0] + beta) @ qkv
        if shift.size:
            arrays[f"{name}.score_shift"] = shift
        values = _value_scales(cfg, kinds[i])
        arrays[f"{name}.proj.kernel"] = centred(attention["proj"]["kernel"] * values[:, None]) * here.scale
        arrays[f"{name}.proj.bias"] = centred(attention["proj"]["bias"]) * here.scale

        gain = add_norm(f"{name}.norm1", here, post)
        last = i + 1 == cfg.layers
        after = stream(calibration.final) if last else stream(calibration.pre[i + 1], calibration.norm1[i + 1])
        gamma, beta = block["norm1"]["scale"][:, None], block["norm1"]["bias"]
        one, two = block["linear1"], block["linear2"]
        # One matrix takes the normed token into the MLP and to the residual beside it.
        both = np.concatenate([gamma * one["kernel"] * slope, centred(np.diag(gamma[:, 0])) * after[0].scale], 1)
        past = centred(beta + two["bias"]) * after[0].scale
        arrays[f"{name}.linear1.kernel"] = gain * both
        arrays[f"{name}.linear1.bias"] = np.concatenate([(beta @ one["kernel"] + one["bias"]) * slope, past])
        arrays[f"{name}.linear2.kernel"] = centred(two["kernel"]) * (after[0].scale / slope)
        here, ranges = after
        if not last:
            pre, post = ranges

    gain = add_norm("norm", here, ranges[0])
    head, gamma, beta = weights["head"], weights["norm"]["scale"][:, None], weights["norm"]["bias"]
    arrays["head.kernel"], arrays["head.bias"] = (
        gain * gamma * head["kernel"],
        beta @ head["kernel"] + head["bias"],
    )
    return Folded({k: np.asarray(v, dtype=np.float32) for k, v in arrays.items()}, norms)


def _head_scales(cfg: ViTConfig, kinds: tuple[Kind, ...], rows: tuple[Range | None, ...]) -> tuple[NpArray, NpArray]:
    """Factors of the columns of qkv, and what is added to the scores of each Softmax head."""
    factors: list[float] = []
    shift: list[float] = []
    root, start = cfg.width**-0.5, reciprocal_octave()[1]
    for kind, r in zip(kinds, rows):
        if kind == "scale":
            factor = root * cfg.tokens**-0.5
        elif kind == "relu_softmax":
            assert r is not None
            top = start * 2.0 ** RELU_OCTAVES[1] / SCORE_MARGIN
            factor = root * min(top / r.hi, 4.0 * start / max(r.lo, 1e-3))
        else:
            assert r is not None
            form, _ = exp_root()
            # The largest row sum at the top of the octaves; where all fit lower, the smallest two octaves up.
            high = start * 2.0 ** SOFTMAX_OCTAVES[1] / SCORE_MARGIN
            top = max(r.hi + math.log(EXP_TOP / high), r.lo + math.log(EXP_TOP / (4.0 * start)))
            factor = root * form.slope / 2**EXP_SQUARINGS
            shift.append(-form.slope / 2**EXP_SQUARINGS * top - form.shift)
        factors.append(factor)
    # Half of a factor to the queries, half to the keys: neither loses bits.
    half = np.repeat(np.sqrt(factors), cfg.width)
    return np.concatenate([half, half, np.full(half.shape, cfg.tokens**-0.5)]), np.array(shift)


def _value_scales(cfg: ViTConfig, kinds: tuple[Kind, ...]) -> NpArray:
    """The factor of each head's context in proj: 1 for Scale, which has N^-1/2 in its scores and in its values."""
    return np.repeat([1.0 if kind == "scale" else cfg.tokens**0.5 for kind in kinds], cfg.width)


def _slope(gelu: str) -> float:
    return 1.0 if gelu == "relu" else gelu_gap("tanh" if gelu == "tanh" else "exact")[0].slope


def _widened(r: Range, margin: float) -> Range:
    return Range(r.lo / margin + EPS, r.hi * margin + EPS)
