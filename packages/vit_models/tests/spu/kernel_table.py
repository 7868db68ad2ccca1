"""Measure the tuned kernels beside the plain ones and published candidates, and write the table into docs/kernels.md.

    python packages/vit_models/tests/spu/kernel_table.py docs/kernels.md

Rounds and bytes are what the first of two parties sends on SPU, the error is that of the result. Candidates follow the
formulas of their papers in SPU's own operations; they stand here since only this comparison needs them.
"""

import math
import os
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from two_parties import run

import vit_models as vm
from vit_models import activations
from vit_models.kernels import plain
from vit_models.kernels.tuned_fxp import fits, functions

MARKERS = re.compile(r"(<!-- measured kernels -->\n).*?(<!-- end of measured -->)", re.DOTALL)
RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Candidate:
    """A way to compute `task` on `inputs`; `unscale` takes its result back to that of the task."""

    task: str
    name: str
    function: Callable[..., jax.Array]
    inputs: tuple[np.ndarray, ...]
    unscale: float = 1.0


def puma_gelu(x):
    """Four pieces with borders -4, -1.95 and 3 (PUMA, Dong et al., 2023), polynomials refitted, comparisons stacked."""
    low = fitted(gelu64, -4.0, -1.95, 3)
    middle = fitted(gelu64, -1.95, 3.0, 6)
    below4, below2, above = jnp.stack([-4.0 - x, -1.95 - x, x - 3.0]) > 0
    x2 = x * x
    x3, x4 = jnp.split(jnp.concatenate([x, x2]) * jnp.concatenate([x2, x2]), 2)
    x6 = x3 * x3
    a = low[0] + low[1] * x + low[2] * x2 + low[3] * x3
    x5 = x2 * x3
    b = sum(c * p for c, p in zip(middle[1:], (x, x2, x3, x4, x5, x6))) + middle[0]
    return jnp.where(below4, 0.0, jnp.where(below2, a, jnp.where(above, x, b)))


def shaft_gelu(x):
    """x (1 + erf(x / sqrt 2)) / 2, erf as a sine series of 8 terms on the clipped input (SHAFT, Kei and Chow, 2025)."""
    period, terms = 8.0, np.arange(1, 9)
    nodes = np.linspace(-4.5, 4.5, 901)
    sines = np.sin(np.pi * terms * nodes[:, None] / period)
    b = np.linalg.lstsq(sines, np.vectorize(math.erf)(nodes * math.sqrt(0.5)), rcond=None)[0]
    c = jnp.clip(x, -4.5, 4.5)
    waves = jnp.sin(c[..., None] * jnp.asarray(np.pi * terms / period, x.dtype))
    return 0.5 * x * (1.0 + waves @ jnp.asarray(b, x.dtype))


def clipped_exponential_softmax(squarings, bound):
    """(1 + (x - max) / 2^t)^(2^t) where x - max exceeds the bound, else 0: PUMA (t 5, -14), BumbleBee (t 6, -13)."""

    def softmax(x):
        x = x - jnp.max(x, axis=-1, keepdims=True)
        y = 1.0 + x * 0.5**squarings
        for _ in range(squarings):
            y = y * y
        y = jnp.where(x > bound, y, 0.0)
        return y * (1.0 / jnp.sum(y, axis=-1, keepdims=True))

    return softmax


def shaft_softmax(steps):
    """Euler's steps for y' = (x - <x, y>) y from y = 1 / N on the clipped input (SHAFT, Kei and Chow, 2025)."""

    def softmax(x):
        x = jnp.clip(x, -8.0, 8.0)
        y = jnp.full_like(x, 1.0 / x.shape[-1])
        for _ in range(steps):
            xy = x * y
            y = y + (xy - jnp.sum(xy, axis=-1, keepdims=True) * y) * (1.0 / steps)
        return y

    return softmax


def fitted(f, lo, hi, degree):
    return fits.minimax(f, lo, hi, degree)[0].convert(kind=np.polynomial.Polynomial).coef.tolist()


def gelu64(x):
    return 0.5 * x * (1.0 + np.vectorize(math.erf)(x * math.sqrt(0.5)))


def softmax64(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def relu_softmax64(x):
    r = np.maximum(x, 0)
    return r / (r.sum(-1, keepdims=True) + 1e-5)


HIDDEN = np.clip(RNG.normal(0, 1.5, (65, 512)), -6, 6)
SCORES = RNG.normal(0, 2, (4, 65, 65))
TOKENS = RNG.normal(0, 1, (65, 256)) * RNG.uniform(0.7, 1.6, (65, 1))
GELU, EXP = fits.gelu_gap("exact")[0], fits.exp_root()[0]
VARIANCE = TOKENS.var(-1)
WIDTH = fits.capacity_width(VARIANCE.min(), VARIANCE.max())
FACTORS = fits.inverse_sqrt(VARIANCE.min(), VARIANCE.max(), WIDTH, 3)
STEP = 2 * WIDTH / np.ptp(VARIANCE)
CENTRE = WIDTH * (VARIANCE.max() + VARIANCE.min()) / np.ptp(VARIANCE)
# As `fold` does: tokens arrive centred, with the scale at which their sum of squares needs no factor.
STREAM = (TOKENS - TOKENS.mean(-1, keepdims=True)) * math.sqrt(STEP / 256)
ONES, ZEROS = np.ones(256), np.zeros(256)


def inverse_sqrt(d):
    squares = jnp.sum(jnp.where(jnp.eye(65, dtype=bool), d @ d.T, 0.0), axis=1, keepdims=True)
    root = functions.product_form(
        squares - CENTRE, jnp.asarray(FACTORS.linear, d.dtype), jnp.asarray(FACTORS.constant, d.dtype)
    )
    return jnp.where(jnp.eye(65, dtype=bool), root, 0.0) @ d


def softmax(u):
    return functions.normalise(functions.exponential(u), functions.SOFTMAX_OCTAVES)[0]


def relu_softmax(a):
    return functions.normalise(jnp.maximum(a, 0.0), functions.RELU_OCTAVES)[0]


TRUTH = {
    "GeLU, 65 x 512": gelu64(HIDDEN),
    "Softmax, 4 x 65 x 65": softmax64(SCORES),
    "ReLU-Softmax, 4 x 65 x 65": relu_softmax64(SCORES),
    "LayerNorm, 65 x 256": STREAM / STREAM.std(-1, keepdims=True),
}
GELUS, SOFTMAXES, RELUS, NORMS = TRUTH
CANDIDATES = [
    Candidate(GELUS, "tuned_fxp: relu + quartic", functions.gelu, (GELU.slope * HIDDEN,), GELU.slope),
    Candidate(GELUS, "plain: erfc", activations.exact, (HIDDEN,)),
    Candidate(GELUS, "SPU's erf", activations.erf, (HIDDEN,)),
    Candidate(GELUS, "SPU's tanh", activations.tanh, (HIDDEN,)),
    Candidate(GELUS, "PUMA: piecewise", puma_gelu, (HIDDEN,)),
    Candidate(GELUS, "SHAFT: sine series", shaft_gelu, (HIDDEN,)),
    Candidate(SOFTMAXES, "tuned_fxp: no maximum", softmax, (EXP.slope * (SCORES - SCORES.max()) / 16 - EXP.shift,)),
    Candidate(SOFTMAXES, "plain", plain.softmax, (SCORES,)),
    Candidate(SOFTMAXES, "PUMA: clipped power", clipped_exponential_softmax(5, -14.0), (SCORES,)),
    Candidate(SOFTMAXES, "BumbleBee: clipped power", clipped_exponential_softmax(6, -13.0), (SCORES,)),
    Candidate(SOFTMAXES, "SHAFT: 16 steps", shaft_softmax(16), (SCORES,)),
    Candidate(SOFTMAXES, "SHAFT: 64 steps", shaft_softmax(64), (SCORES,)),
    Candidate(RELUS, "tuned_fxp", relu_softmax, (SCORES,)),
    Candidate(RELUS, "plain", lambda a: plain.normalise(plain.relu(a), 1e-5), (SCORES,)),
    Candidate(NORMS, "tuned_fxp, on a calibrated stream", inverse_sqrt, (STREAM,), STREAM.std() / FACTORS.gain),
    Candidate(NORMS, "plain", lambda x: plain.layer_norm(x, ONES, ZEROS, 1e-5), (TOKENS,)),
]


def measured(candidate, local):
    """(rounds, MB, largest error) of one run."""
    values = [np.asarray(v, dtype=np.float32) for v in candidate.inputs]
    arguments = tuple(vm.Argument(f"a{i}", "server", v) for i, v in enumerate(values))
    made = vm.Program("kernel", vm.lower_to_hlo(candidate.function, values), arguments, ())
    with tempfile.TemporaryFile() as log:
        sys.stdout.flush()
        kept = [os.dup(i) for i in (1, 2)]
        for i in (1, 2):
            os.dup2(log.fileno(), i)
        try:
            result = run(made, local_truncation=local)
        finally:
            for i, copy in zip((1, 2), kept):
                os.dup2(copy, i)
        log.seek(0)
        text = log.read().decode(errors="replace")
    sent, rounds = re.findall(r"Link details: total send bytes (\d+), .*?send actions (\d+)", text)[0]
    truth = TRUTH[candidate.task]
    if candidate.task == NORMS and candidate.name.startswith("tuned"):
        # Its scale is folded into the kernel that follows.
        result = result * (np.vdot(result, truth) / np.vdot(result, result))
        return int(rounds), int(sent) / 1e6, np.abs(result - truth).max()
    return int(rounds), int(sent) / 1e6, np.abs(result / candidate.unscale - truth).max()


def main(page):
    lines = [
        "| kernel | way | rounds | MB | largest error | rounds, MB with local truncation |",
        "|---|---|---|---|---|---|",
    ]
    for c in CANDIDATES:
        rounds, size, error = measured(c, local=False)
        fewer, less, _ = measured(c, local=True)
        lines.append(f"| {c.task} | {c.name} | {rounds} | {size:.2f} | {error:.1g} | {fewer}, {less:.2f} |")
        print(lines[-1], flush=True)
    text = page.read_text()
    if not MARKERS.search(text):
        sys.exit(f"{page} has no markers for the table; use docs/kernels.md")
    page.write_text(MARKERS.sub(lambda m: m[1] + "\n".join(lines) + "\n" + m[2], text))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
