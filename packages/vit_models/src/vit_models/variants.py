"""Registry of attention variants: one function and one docstring each.

Symbols: B batch, H heads of the group that runs this variant, R query rows of the group (all N unless a plan splits
rows), N keys with the class token, d head width; scores a = q k^T / sqrt(d), shape (B, H, R, N). A variant of weights
maps a to the weights that multiply v; a variant of contexts maps (q, k, v) to q's shape directly. "Code" below is the
original repository's src/utils/transformers.py, "paper" is MPCViT (ICCV 2023).
To add a variant, write its function here with one of the two decorators.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Float

from .config import ViTConfig
from .errors import unknown_name
from .kernels import KernelSet
from .types import Array, NpArray, Unary

Init = Callable[[ViTConfig, np.random.Generator], dict[str, NpArray]]
Scores = Float[Array, "b h r n"]
Queries = Float[Array, "b h r d"]
Keys = Float[Array, "b h n d"]


@dataclass(frozen=True)
class Env:
    """What a variant sees beside its operands: its own parameters, the kernel set, and dropout on weights."""

    extra: Mapping[str, Array]
    kernels: KernelSet
    drop: Unary = lambda x: x


WeightsFn = Callable[[Array, Env], Array]
ContextFn = Callable[[Array, Array, Array, Env], Array]


@dataclass(frozen=True)
class Variant:
    """A registered variant: exactly one of `weights` and `context`; `init` makes its parameters, if it has any.

    `per_head` names the parameters whose first axis is the head: a group of heads takes its own slices of them.
    """

    name: str
    weights: WeightsFn | None = None
    context: ContextFn | None = None
    init: Init | None = None
    per_head: frozenset[str] = frozenset()


VARIANTS: dict[str, Variant] = {}
"""Every registered variant by name."""


def variant(name: str) -> Variant:
    """The variant of that name. Raises ModelError on an unknown name."""
    if name not in VARIANTS:
        raise unknown_name("attention", name, (*VARIANTS, "mix", "softmax_scale", "'on+off' of two"))
    return VARIANTS[name]


def attend(v: Variant, q: Array, k: Array, val: Array, env: Env) -> Array:
    """Context (B, H, R, d) of variant `v` for q (B, H, R, d), k and val (B, H, N, d)."""
    if v.weights is not None:
        return jnp.matmul(env.drop(v.weights(scores(q, k), env)), val)
    assert v.context is not None
    return v.context(q, k, val, env)


def scores(q: Queries, k: Keys) -> Scores:
    """q k^T / sqrt(d)."""
    a: Array = jnp.matmul(q, jnp.swapaxes(k, -1, -2)) * float(q.shape[-1]) ** -0.5
    return a


def of_weights(name: str, init: Init | None = None) -> Callable[[WeightsFn], WeightsFn]:
    """Register a function of the scores."""

    def register(fn: WeightsFn) -> WeightsFn:
        VARIANTS[name] = Variant(name, weights=fn, init=init)
        return fn

    return register


def of_context(
    name: str, init: Init | None = None, per_head: frozenset[str] = frozenset()
) -> Callable[[ContextFn], ContextFn]:
    """Register a function of q, k and v."""

    def register(fn: ContextFn) -> ContextFn:
        VARIANTS[name] = Variant(name, context=fn, init=init, per_head=per_head)
        return fn

    return register


@of_weights("softmax")
def softmax(a: Scores, env: Env) -> Scores:
    """softmax(a) over the keys: the teacher and the paper's baseline. Code and text agree."""
    return env.kernels.softmax(a)


@of_weights("relu_softmax")
def relu_softmax(a: Scores, env: Env) -> Scores:
    """relu(a) / (sum_j relu(a_j) + 1e-5), "RSAttn".

    Source: paper, the high-accuracy attention of the search space. Code: eps 1e-5 in the final repository, 1e-8 in
    the earlier one; a comment in its teacher file names 1e-6 and 1e-7 for two data sets.
    """
    return env.kernels.normalise(env.kernels.relu(a), 1e-5)


@of_weights("scale")
def scale(a: Scores, env: Env) -> Scores:
    """a / N, "ScaleAttn": no exponential, no comparison, no division by a secret.

    Source: paper, the low-latency attention of the search space. N counts the class token in code (65, 257).
    """
    return a * (1.0 / a.shape[-1])


@of_context("scale_linear")
def scale_linear(q: Queries, k: Keys, v: Keys, env: Env) -> Queries:
    """(q / sqrt N) ((k / sqrt N)^T v) / sqrt(d): `scale` in the order that costs N d^2 and not N^2 d.

    Source: an option of the code that is off by default. Equal to `scale` except for rounding; no dropout on weights.
    """
    root = k.shape[-2] ** -0.5
    kv = jnp.matmul(jnp.swapaxes(k * root, -1, -2), v)
    return jnp.matmul(q * (root * float(q.shape[-1]) ** -0.5), kv)


@of_weights("two_quad")
def two_quad(a: Scores, env: Env) -> Scores:
    """(a + c)^2 / sum_j (a_j + c)^2 with c = 5: MPCFormer's 2Quad (Li et al., ICLR 2023, sec. 4.2)."""
    shifted = a + 5.0
    return env.kernels.normalise(shifted * shifted, 0.0)


@of_weights("two_quad_c0")
def two_quad_c0(a: Scores, env: Env) -> Scores:
    """a^2 / (sum_j a_j^2 + 1e-5): 2Quad as the MPCViT code has it, i.e. c = 0 and an eps, where MPCFormer has c = 5."""
    return env.kernels.normalise(a * a, 1e-5)


@of_weights("two_relu")
def two_relu(a: Scores, env: Env) -> Scores:
    """(relu(a) + e) / sum_j (relu(a_j) + e), e = 1e-3: 2ReLU, softmax with its exponential replaced by ReLU.

    Source: MPCFormer's comparison (after SecureML), which has no e, so that a row without a positive score is 0 / 0;
    e in every term makes that row uniform and its gradient finite. `relu_softmax` makes such a row zero instead.
    """
    return env.kernels.normalise(env.kernels.relu(a) + 1e-3, 0.0)


def _the_x_init(cfg: ViTConfig, rng: np.random.Generator) -> dict[str, NpArray]:
    sizes = (1, 64, 128, cfg.tokens)
    out: dict[str, NpArray] = {}
    for i in range(3):
        out[f"t{i + 1}_kernel"] = rng.normal(0.0, 0.02, (sizes[i], sizes[i + 1]))
        out[f"t{i + 1}_bias"] = np.zeros(sizes[i + 1])
    # A zero estimator would switch attention off at the start of training; 1 / N starts it at the mean.
    out["t3_bias"] = np.full(cfg.tokens, 1.0 / cfg.tokens)
    return out


@of_weights("the_x", init=_the_x_init)
def the_x(a: Scores, env: Env) -> Scores:
    """a * T(sum_j relu((a_j / 2 + 1)^3)), T = three linear layers 1 -> 64 -> 128 -> N, shared by heads and rows.

    Source: THE-X (Chen et al., ACL 2022 Findings, eq. 4), where T ends in one number, the estimated reciprocal; the
    MPCViT code ends it in one number a key (197 written out for its largest model, N here).
    """
    half = 0.5 * a + 1.0
    s = jnp.sum(env.kernels.relu(half * half * half), axis=-1, keepdims=True)
    for i in (1, 2, 3):
        s = jnp.matmul(s, env.extra[f"t{i}_kernel"]) + env.extra[f"t{i}_bias"]
    return a * s


def _linformer_init(ratio: float) -> Init:
    def init(cfg: ViTConfig, rng: np.random.Generator) -> dict[str, NpArray]:
        kept = max(1, int(ratio * cfg.tokens))
        return {"e": rng.normal(0.0, 1.414 * math.sqrt(1.0 / (kept * cfg.tokens)), (kept, cfg.tokens))}

    return init


def _linformer(q: Queries, k: Keys, v: Keys, env: Env) -> Queries:
    """softmax(q (E k)^T / sqrt(d)) (E v), E (int(ratio N), N) shared by keys, values and heads.

    Source: Linformer (Wang et al., 2020). Code: E has 77 = int(.3 x 257) rows and the paper's three Linformer rows
    (.3, .5, .7) are taken for that ratio; Linformer itself allows E to differ between k and v.
    """
    e = env.extra["e"]
    return jnp.matmul(env.drop(env.kernels.softmax(scores(q, jnp.matmul(e, k)))), jnp.matmul(e, v))


for _percent in (30, 50, 70):
    of_context(f"linformer_{_percent}", init=_linformer_init(_percent / 100))(_linformer)


def _descending(x: Array) -> Array:
    """x sorted along its last axis, largest first, by a bitonic network of max and x + y - max.

    A library sort compares keys after bit tricks on floats that MPC runtimes cannot compile.
    """
    n, size = x.shape[-1], 1 << (x.shape[-1] - 1).bit_length()
    lead = x.shape[:-1]
    # Scores stay far above this, and it fits fixed point.
    x = jnp.pad(x, [(0, 0)] * len(lead) + [(0, size - n)], constant_values=-1e4)
    width = 2
    while width <= size:
        span = width
        while span >= 2:
            pairs = x.reshape(*lead, size // span, 2, span // 2)
            a, b = (lax.slice_in_dim(pairs, i, i + 1, axis=-2) for i in (0, 1))
            # The first step of a merge compares mirrored positions, so that every later one sorts the same way.
            mirrored = span == width
            b = jnp.flip(b, -1) if mirrored else b
            high = jnp.maximum(a, b)
            low = a + b - high
            x = jnp.concatenate([high, jnp.flip(low, -1) if mirrored else low], axis=-2).reshape(*lead, size)
            span //= 2
        width *= 2
    return lax.slice_in_dim(x, 0, n, axis=-1)


@of_weights("sparsemax")
def sparsemax(a: Scores, env: Env) -> Scores:
    """relu(a - t), t such that the row sums to 1: Euclidean projection on the simplex.

    With z = a sorted in descending order and K = #{j : 1 + j z_j > z_1 + .. + z_j}, t = (z_1 + .. + z_K - 1) / K.
    Source: Martins and Astudillo, ICML 2016; among the code's explored attentions, not wired there.
    """
    n = a.shape[-1]
    z = _descending(a)
    # A triangle of ones as a public matrix: a cumulative sum would be a log-depth scan.
    running = jnp.matmul(z, jnp.asarray(np.triu(np.ones((n, n))), dtype=a.dtype))
    inside = (1.0 + z * jnp.arange(1, n + 1, dtype=a.dtype) > running).astype(a.dtype)
    t = (jnp.sum(z * inside, axis=-1, keepdims=True) - 1.0) / jnp.sum(inside, axis=-1, keepdims=True)
    return env.kernels.relu(a - t)


def _xnorm_init(cfg: ViTConfig, rng: np.random.Generator) -> dict[str, NpArray]:
    return {"gamma": np.ones((cfg.heads, 1, 1))}


def _unit(x: Array) -> Array:
    return x * lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True) + 1e-5)


@of_context("xnorm", init=_xnorm_init, per_head=frozenset({"gamma"}))
def xnorm(q: Queries, k: Keys, v: Keys, env: Env) -> Queries:
    """X(q) X(k^T v), X(x) = gamma x / |x| over the last axis, gamma (H, 1, 1) one number a head.

    Source: UFO-ViT (Song et al., 2021); commented out in the code, which draws gamma from a normal distribution where
    this starts at 1. 1e-5 is added to |x|^2 here, as under fixed point a zero row has no reciprocal.
    """
    gamma = env.extra["gamma"]
    return jnp.matmul(gamma * _unit(q), gamma * _unit(jnp.matmul(jnp.swapaxes(k, -1, -2), v)))


@of_context("hydra")
def hydra(q: Queries, k: Keys, v: Keys, env: Env) -> Queries:
    """u(q) * sum_n (u(k)_n * v_n), u(x) = x / |x| over the last axis, products elementwise.

    Source: Hydra Attention (Bolya et al., 2022), cosine form; commented out in the code. Hydra normalises over all
    channels, this over one head's. 1e-5 is added to |x|^2.
    """
    return _unit(q) * jnp.sum(_unit(k) * v, axis=-2, keepdims=True)
