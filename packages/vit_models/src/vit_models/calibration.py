"""`Calibration`: the ranges of a model's values on plaintext images, for which the tuned kernels are built."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import Any

from .errors import ModelError


@dataclass(frozen=True)
class Range:
    """Smallest and largest value seen."""

    lo: float
    hi: float


@dataclass(frozen=True)
class LayerTokens:
    """What whole-number kernels need of one layer, the class token apart from the other tokens.

    `pre_*` and `norm1_*` are variances (None: no such token, or it is not read), `hidden` the largest absolute value
    before the activation, `bound` the one that its polynomial is made for.
    """

    pre_class: Range | None
    pre_rest: Range | None
    norm1_class: Range | None
    norm1_rest: Range | None
    hidden: float
    bound: float


@dataclass(frozen=True)
class RingChoice:
    """What was chosen for whole-number kernels, for logits within `error`.

    `degrees` are those of GeLU's polynomials, one for each layer; `tolerance` is the relative error of
    1 / sqrt(variance). `logit_error` was reached on some of the images, and `headroom` is the largest number there as a
    share of what the ring's truncation can take.
    """

    degrees: tuple[int, ...]
    tolerance: float
    error: float
    logit_error: float
    headroom: float


@dataclass(frozen=True)
class Calibration:
    """The ranges that `Model.calibrate` saw, before any margin.

    `pre`, `norm1` (one for each layer) and `final` are variances of a token over its channels. `rows[layer][head]` is,
    over attention rows, log sum exp of the scores for Softmax heads, the sum of the positive scores for ReLU-Softmax
    heads, None for Scale heads. Variances may leave their range by the factor `margin` before the result is marked;
    inside, 1 / sqrt(variance) is right to `tolerance`. `model` is the SHA-256 of configuration, parameters, attention
    and plan. `tokens` (one for each layer) and `ring` are for whole-number kernels.
    """

    model: str
    images: int
    margin: float
    tolerance: float
    pre: tuple[Range, ...]
    norm1: tuple[Range, ...]
    final: Range
    rows: tuple[tuple[Range | None, ...], ...]
    tokens: tuple[LayerTokens, ...] = ()
    ring: RingChoice | None = None

    def to_dict(self) -> dict[str, Any]:
        """The calibration as JSON-ready values; parts that it does not have are left out."""
        values = json.loads(json.dumps(asdict(self)))
        return {"schema": 1, **{k: v for k, v in values.items() if v or k not in ("tokens", "ring")}}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON. A Program holds only this of its calibration: the server keeps the ranges."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    @staticmethod
    def from_dict(values: Any) -> Calibration:
        """Inverse of `to_dict`. Raises ModelError on anything else."""
        try:
            if values["schema"] != 1:
                raise ValueError(f"schema {values['schema']!r}")
            body = {k: v for k, v in values.items() if k != "schema"}
            body["pre"], body["norm1"] = (tuple(_range(r) for r in values[k]) for k in ("pre", "norm1"))
            check_settings(values["margin"], values["tolerance"])
            body["final"] = _range(values["final"])
            body["rows"] = tuple(tuple(None if r is None else _range(r) for r in layer) for layer in values["rows"])
            body["tokens"] = tuple(_layer_tokens(t) for t in values.get("tokens", ()))
            body["ring"] = None if values.get("ring") is None else _ring_choice(values["ring"])
            return Calibration(**body)
        except (TypeError, KeyError, ValueError) as error:
            raise ModelError(
                f"This is not a calibration: {error}.", "make one with Model.calibrate(params, images).", "bad_file"
            ) from None


def check_settings(margin: float, tolerance: float) -> None:
    """Raise ModelError unless margin > 1 and tolerance > 0."""
    if not margin > 1.0 or not tolerance > 0.0:
        raise ModelError(
            f"The margin is {margin} and the tolerance {tolerance}.", "use a margin above 1 and a tolerance above 0."
        )


def _layer_tokens(values: Any) -> LayerTokens:
    ranges = {k: None if v is None else _range(v) for k, v in values.items() if k not in ("hidden", "bound")}
    return LayerTokens(hidden=float(values["hidden"]), bound=float(values["bound"]), **ranges)


def _ring_choice(values: Any) -> RingChoice:
    return RingChoice(**{**values, "degrees": tuple(int(d) for d in values["degrees"])})


def _range(values: Any) -> Range:
    lo, hi = float(values["lo"]), float(values["hi"])
    if not (math.isfinite(lo) and math.isfinite(hi) and lo <= hi):
        raise ValueError(f"range [{lo}, {hi}]")
    return Range(lo, hi)
