"""Which polynomials a model's ring program takes: the fewest rounds for a stated error of the logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ...calibration import Calibration, RingChoice
from ...model import Model
from ...types import NpArray, Params
from ..tuned_fxp.supported import TunedModel
from .arithmetic import LIMIT, ExactRing, RealRing
from .polynomials import DEGREES, even_form
from .ring_pass import RingPass, whole
from .ring_weights import fold
from .structure import Folded

REAL_IMAGES, EXACT_IMAGES = 8, 4
POLYNOMIAL_SHARE = 0.3
"""Of the allowed error, what polynomials and rounded weights may take; the rest is for truncations."""
POLYNOMIALS = ("exact", "erf", "tanh")
NEGLIGIBLE = 2e-4
"""An error of GeLU that no search needs to go below."""
TOLERANCES = (4e-3, 2e-3, 1e-3, 5e-4, 2e-4)


def simulate(program: Folded, images: NpArray, seed: int | None = 0) -> NpArray:
    """Logits (B, classes) of images (B, height, width, C) as SPU's ring computes them, one image after another.

    Truncation rounds at random from `seed`, or to the nearest with None.
    """
    arrays = {name: whole(value) for name, value in program.arrays.items()}
    rng = None if seed is None else np.random.default_rng(seed)
    made = [RingPass(program.plan, arrays, ExactRing(rng))(images[i : i + 1]) for i in range(len(images))]
    return np.concatenate(made)


def real_logits(program: Folded, images: NpArray) -> tuple[NpArray, float]:
    """Logits without any truncation error, and the largest number that must stay in range as a share of 2^62."""
    ring = RealRing()
    made = [RingPass(program.plan, program.arrays, ring)(images[i : i + 1]) for i in range(len(images))]
    return np.concatenate(made), ring.largest / LIMIT


def traffic(program: Folded, images: NpArray) -> tuple[int, int]:
    """(rounds, bytes) that a party sends for `images` (B, height, width, C) in one call: SEMI2K on SPU 0.9.5."""
    ring = RealRing()
    RingPass(program.plan, program.arrays, ring)(images)
    return ring.rounds, ring.sent


def choose(model: Model, params: Params, images: NpArray, calibration: Calibration, error: float) -> Calibration:
    """`calibration` with the degrees of GeLU's polynomials and the tolerance of 1 / sqrt, for logits within `error`.

    A layer's degree is lowered where that adds the least error for the rounds that it saves, as long as the sum stays
    in POLYNOMIAL_SHARE of `error`. What is reached is part of the result, and checked at export.
    """
    images = np.asarray(images, dtype=np.float32)
    tuned, few = TunedModel.of(model, whole_numbers=True), images[:REAL_IMAGES]
    truth = np.asarray(model.apply(params, few), dtype=np.float64)

    def made(degrees: Sequence[int], tolerance: float) -> Folded:
        choice = RingChoice(tuple(degrees), tolerance, error, 0.0, 0.0)
        return fold(tuned, params, replace(calibration, ring=choice))

    def off(degrees: Sequence[int], tolerance: float) -> float:
        return float(np.abs(real_logits(made(degrees, tolerance), few)[0] - truth).max())

    finest = TOLERANCES[-1]
    if tuned.gelu not in POLYNOMIALS:
        best = degrees = [DEGREES[0]] * model.config.layers
    else:
        best = [_sufficient(tuned.gelu, layer.bound) for layer in calibration.tokens]
    # Rounded weights alone may take more than the share of the polynomials.
    allowed = max(POLYNOMIAL_SHARE * error, 1.25 * off(best, finest))
    if tuned.gelu in POLYNOMIALS:
        degrees = _lowered(best, lambda d: off(d, finest), allowed)
    tolerance = next((t for t in TOLERANCES if off(degrees, t) <= allowed), finest)
    program = made(degrees, tolerance)
    real, headroom = real_logits(program, few)
    exact = simulate(program, few[:EXACT_IMAGES])
    reached = max(np.abs(real - truth).max(), np.abs(exact - truth[:EXACT_IMAGES]).max())
    return replace(calibration, ring=RingChoice(tuple(degrees), tolerance, error, float(reached), headroom))


def _sufficient(gelu: str, bound: float) -> int:
    """The lowest degree whose polynomial errs by NEGLIGIBLE at most, or the highest there is."""
    name = "tanh" if gelu == "tanh" else "exact"
    return next((d for d in DEGREES if even_form(name, d, bound).error <= NEGLIGIBLE), DEGREES[-1])


def _lowered(best: list[int], off: Callable[[Sequence[int]], float], allowed: float) -> list[int]:
    """The lowest degrees whose errors together stay allowed, from `best` down."""
    base = off(best)
    steps: list[tuple[float, int, int]] = []
    for i in range(len(best)):
        for degree in sorted((d for d in DEGREES if d < best[i]), reverse=True):
            added = max(0.0, off([*best[:i], degree, *best[i + 1 :]]) - base)
            if base + added > allowed:
                break
            steps.append((added, i, degree))
    degrees, errors = list(best), [0.0] * len(best)
    # The cheapest polynomials for which the errors that they add together stay in what is left.
    for more, i, degree in sorted(steps):
        if degree < degrees[i] and base + sum(errors) - errors[i] + more <= allowed:
            degrees[i], errors[i] = degree, more
    while off(degrees) > allowed and degrees != best:
        worst = int(np.argmax(errors))
        degrees[worst], errors[worst] = best[worst], 0.0
    return degrees
