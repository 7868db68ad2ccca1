"""From weights and a calibration to the whole numbers of the ring program, in float64 at export.

As in `tuned_fxp`, LayerNorm sees neither the mean over channels nor the scale of a token: what is written to the
residual stream is centred, and its scale chosen, in the weights. Here every weight also carries the power of two that
the next truncation removes, so that no multiplication by a constant is left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...calibration import Calibration, Range
from ...errors import ModelError
from ...types import NpArray, Params
from ..host_arrays import centred, float64, normed
from ..tuned_fxp.folding import SCORE_MARGIN
from ..tuned_fxp.supported import Kind, TunedModel
from .arithmetic import FRACTION_BITS
from .gelu import RESULT_BITS, GeluPlan
from .norm import EPS, NormFit, NormPlan, TokenRange
from .polynomials import even_form
from .structure import Folded, LayerPlan, RingPlan
from .weights import RELU_OCTAVES, RESULT, SCORE_BITS, SCORE_CUT, relu_factor, softmax_shift

STREAM_BITS = 12.0
WEIGHT_BITS = 10.0
"""Bits of the residual stream's standard deviation, and of the root mean square of a weight matrix."""
VALUE_BITS = 9.0
SCALE_BITS = 8.0
"""Bits of values, and of queries and keys of Scale heads."""
HIDDEN_BITS = 10.0
LOGIT_ROOT_BITS = 15.0
MOST_MISSING = 4.0
"""The stream loses up to half as many bits so that its squares need no truncation, which costs a round."""


class _Stream:
    """The residual stream between two MLPs: `scale` ring units for 1, `unit` for a variance of 1."""

    def __init__(self, channels: int, fits: Sequence[NormFit]) -> None:
        typical = math.exp(np.mean([0.25 * math.log(f.lo * f.hi) for f in fits]))
        self.scale = 2.0**STREAM_BITS / typical
        most = min(f.most_per_variance() for f in fits)
        missing = math.log2(self.scale**2 * channels / most)
        if 0.0 < missing <= MOST_MISSING:
            self.scale *= 2.0 ** (-0.5 * missing)
        self.unit = self.scale**2 * channels

    def written_by(self, kernel: NpArray, units: NpArray | float) -> tuple[NpArray, int, float]:
        """(kernel, cut, scale before it) for `kernel` (in, C) times inputs with `units` for 1 (scalar or in)."""
        columns = centred(kernel) * self.scale
        per_row = np.broadcast_to(1.0 / np.asarray(units), kernel.shape[:1])[:, None]
        rows = np.sqrt(np.mean(columns**2, axis=1, keepdims=True)) * per_row
        cut = max(0, math.ceil(WEIGHT_BITS - math.log2(float(np.median(rows)))))
        cut = min(cut, FRACTION_BITS)
        return columns * per_row * 2.0**cut, cut, self.scale * 2.0**cut


@dataclass(frozen=True)
class _Columns:
    """A kernel (C, k) after a LayerNorm with its bias (k,), and the ring units for 1 of each column's result."""

    kernel: NpArray
    bias: NpArray
    units: NpArray


def _after_norm(
    arrays: dict[str, NpArray], name: str, stream: _Stream, fit: NormFit, columns: _Columns, cut: int
) -> tuple[NormPlan, NpArray, NpArray]:
    """(plan, kernel, bias) of the product after the LayerNorm `name`, whose own arrays are added."""
    sizes = np.sqrt(np.mean(columns.kernel**2, axis=0)) * columns.units
    # Half of the columns keep WEIGHT_BITS or more; logits are not truncated, and share their bits with the root.
    wanted = float(np.median(sizes)) * 2.0 ** (cut - WEIGHT_BITS) / stream.scale if cut else 2.0**LOGIT_ROOT_BITS
    plan, own, root = fit.fold(stream.unit, wanted)
    arrays.update({f"{name}.{k}": v for k, v in own.items()})
    grown = columns.units * 2.0**cut
    return plan, columns.kernel * grown / (root * stream.scale), columns.bias * grown


def fold(model: TunedModel, params: Params, calibration: Calibration) -> Folded:
    """The ring program of `model` by the choice in `calibration`. Raises ModelError where no polynomial fits."""
    cfg, kinds = model.cfg, model.kinds
    choice = calibration.ring
    if choice is None or len(calibration.tokens) != cfg.layers:
        raise ModelError(
            "The calibration has no ranges for whole-number kernels.",
            "make one with Model.calibrate(params, images).",
            "mismatch",
        )
    w = float64(params)
    arrays: dict[str, NpArray] = {}
    seen, degrees, tolerance = calibration.tokens, choice.degrees, choice.tolerance

    def fitted(cls: Range | None, rest: Range | None) -> NormFit:
        return NormFit.of(TokenRange(cls, rest), calibration.margin, tolerance)

    pre = [fitted(None if i == 0 else t.pre_class, t.pre_rest) for i, t in enumerate(seen)]
    post = [fitted(t.norm1_class, t.norm1_rest) for t in seen]
    final = fitted(calibration.final, None)

    here = _Stream(cfg.dim, [pre[0], post[0]])
    kernel = w["tokenizer"]["0"]["kernel"].reshape(-1, cfg.dim)
    tokens = np.broadcast_to(w["positions"][0], (cfg.tokens, cfg.dim)).copy()
    tokens[0] += w["class_token"][0, 0]
    tokens[1:] += w["tokenizer"]["0"]["bias"]
    arrays["embed.kernel"], embedded, units = here.written_by(kernel, 2.0**FRACTION_BITS)
    arrays["embed.tokens"] = centred(tokens) * units

    layers = []
    for i in range(cfg.layers):
        block, name = w["blocks"][str(i)], f"blocks.{i}"
        heads = _Heads.of(model, i, calibration)
        gamma, beta = block["pre_norm"]["scale"][:, None], block["pre_norm"]["bias"]
        qkv = block["attention"]["qkv"]["kernel"]
        columns = _Columns(gamma * qkv, beta @ qkv, heads.columns)
        pre_plan, arrays[f"{name}.qkv.kernel"], arrays[f"{name}.qkv.bias"] = _after_norm(
            arrays, f"{name}.pre_norm", here, pre[i], columns, FRACTION_BITS
        )
        if i == 0:
            row = (normed(tokens[0], EPS) * gamma[:, 0] + beta) @ qkv
            arrays[f"{name}.class_qkv"] = row * heads.columns * 2.0**FRACTION_BITS
        if heads.shifts.size:
            arrays[f"{name}.score_shift"] = heads.shifts
        proj = block["attention"]["proj"]
        arrays[f"{name}.proj.kernel"], attended, units = here.written_by(proj["kernel"], heads.contexts)
        arrays[f"{name}.proj.bias"] = centred(proj["bias"]) * units

        last = i + 1 == cfg.layers
        after = _Stream(cfg.dim, [final] if last else [pre[i + 1], post[i + 1]])
        gamma, beta = block["norm1"]["scale"][:, None], block["norm1"]["bias"]
        one, two = block["linear1"], block["linear2"]
        kept = model.kept[i]
        plan, hidden, result = _activation(model.gelu, degrees[i], seen[i].bound)
        # One matrix takes the normed token into the MLP and to the residual beside it.
        columns = _Columns(
            np.concatenate([gamma * one["kernel"], centred(np.diag(gamma[:, 0]))], axis=1),
            np.concatenate([beta @ one["kernel"] + one["bias"], centred(beta + two["bias"])]),
            np.concatenate([np.full(cfg.mlp_width, hidden), np.full(cfg.dim, after.scale)]),
        )
        if kept == ():
            columns = _fused(gamma, beta, one, two, after.scale)
        post_plan, arrays[f"{name}.linear1.kernel"], arrays[f"{name}.linear1.bias"] = _after_norm(
            arrays, f"{name}.norm1", here, post[i], columns, FRACTION_BITS
        )
        written = FRACTION_BITS
        if kept != ():
            arrays[f"{name}.linear2.kernel"], written, _ = after.written_by(two["kernel"], result)
        layers.append(LayerPlan(pre_plan, kinds[i], attended, post_plan, plan, kept, written))
        here = after

    head, gamma, beta = w["head"], w["norm"]["scale"][:, None], w["norm"]["bias"]
    columns = _Columns(
        gamma * head["kernel"], beta @ head["kernel"] + head["bias"], np.full(cfg.num_classes, 2.0**FRACTION_BITS)
    )
    final_plan, arrays["head.kernel"], arrays["head.bias"] = _after_norm(arrays, "norm", here, final, columns, 0)
    return Folded(
        RingPlan(cfg, embedded, tuple(layers), final_plan), {k: np.asarray(np.rint(v)) for k, v in arrays.items()}
    )


@dataclass(frozen=True)
class _Heads:
    """Ring units of a layer's heads: of the columns of qkv, of the contexts; and the shifts of Softmax scores."""

    columns: NpArray
    contexts: NpArray
    shifts: NpArray

    @staticmethod
    def of(model: TunedModel, layer: int, calibration: Calibration) -> _Heads:
        cfg = model.cfg
        per_head = [
            _head_units(kind, cfg.width, cfg.tokens, r) for kind, r in zip(model.kinds[layer], calibration.rows[layer])
        ]
        half = np.repeat([units for units, _, _ in per_head], cfg.width)
        values = np.full(half.shape, 2.0**VALUE_BITS)
        contexts = np.repeat([context for _, context, _ in per_head], cfg.width)
        shifts = np.array([shift for _, _, shift in per_head if shift is not None])
        return _Heads(np.concatenate([half, half, values]), contexts, shifts)


def _head_units(kind: Kind, width: int, tokens: int, r: Range | None) -> tuple[float, float, float | None]:
    """(units of queries and keys, units of the context, shift of the scores)."""
    root = width**-0.5
    if kind == "scale":
        return 2.0**SCALE_BITS, 2.0 ** (2 * SCALE_BITS + VALUE_BITS) * tokens / root, None
    assert r is not None
    context = RESULT * 2.0**VALUE_BITS
    if kind == "relu_softmax":
        factor = relu_factor(r.lo, r.hi, SCORE_MARGIN) * root
        return math.sqrt(factor * 2.0**RELU_OCTAVES.bits), context, None
    factor, shift = softmax_shift(r.lo, r.hi, SCORE_MARGIN)
    one = 2.0 ** (SCORE_BITS + SCORE_CUT)
    return math.sqrt(factor * root * one), context, shift * one


def _fused(gamma: NpArray, beta: NpArray, one: Any, two: Any, units: float) -> _Columns:
    """norm1, both linears as one matrix, and the residual: all of an MLP without activation."""
    kernel = one["kernel"] @ two["kernel"]
    bias = (beta @ one["kernel"] + one["bias"]) @ two["kernel"] + two["bias"] + beta
    both = centred(gamma * kernel + np.diag(gamma[:, 0]))
    return _Columns(both, centred(bias), np.full(len(beta), units))


def _activation(name: str, degree: int, bound: float) -> tuple[GeluPlan | None, float, float]:
    """(plan, ring units of the hidden values, ring units of the activated ones)."""
    if name in ("relu", "identity"):
        return None, 2.0**STREAM_BITS, 2.0**STREAM_BITS
    if name == "quad":
        plan = GeluPlan.quad(2.0**STREAM_BITS)
        return plan, 2.0**STREAM_BITS, plan.result
    form = even_form("tanh" if name == "tanh" else "exact", degree, bound)
    units = 2.0**HIDDEN_BITS
    if degree == 4:
        units = (2.0**RESULT_BITS * abs(form.lead)) ** 0.25 / bound
    plan = GeluPlan.of(form, units)
    return plan, units, plan.result
