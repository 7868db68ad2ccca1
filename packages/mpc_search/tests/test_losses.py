"""Every loss has the gradient of finite differences in float64, and the value of its formula."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from mpc_search import losses
from mpc_search.cost_table import CostTable

RNG = np.random.default_rng(0)
STEPS = CostTable(
    protocol="semi2k",
    network="wan",
    kernels="plain",
    layers=((0.1, 2.0, 2.1, 2.2), (0.2, 1.0, 1.0, 1.5)),
    rest=5.0,
)
LINE = STEPS.model_copy(update={"layers": ((1.0, 2.0, 3.0, 4.0), (0.5, 0.75, 1.0, 1.25))})


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


LOGITS, TARGETS = RNG.normal(size=(6, 5)), RNG.dirichlet(np.ones(5), 6)
TOKENS, KNOWN = RNG.normal(size=(2, 4, 3)), RNG.normal(size=(2, 4, 3))
ALPHA = RNG.uniform(-0.3, 1.3, (2, 3))

LOSSES: dict[str, tuple[Callable[..., jax.Array], np.ndarray]] = {
    "labels": (lambda x: losses.soft_cross_entropy(x, jnp.asarray(TARGETS)), LOGITS),
    "logits": (lambda x: losses.logits_distillation(x, jnp.asarray(LOGITS[::-1]), 3.0), LOGITS),
    "tokens": (lambda x: losses.token_distillation(x, jnp.asarray(KNOWN)), TOKENS),
    "l1": (losses.l1, ALPHA),
    "cost": (lambda x: losses.cost(x, STEPS), ALPHA),
    "expected cost": (lambda x: losses.expected_cost(x, STEPS), ALPHA),
    "expected cost of layers": (lambda x: losses.expected_cost(x, STEPS), ALPHA[:, :1]),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradient(name: str) -> None:
    """Reverse mode against central differences in float64."""
    loss, at = LOSSES[name]
    check_grads(loss, (jnp.asarray(at, jnp.float64),), order=1, modes=["rev"], atol=1e-7, rtol=1e-7, eps=1e-5)


def test_values() -> None:
    """Distillation of logits is a cross-entropy without T^2, that of tokens a mean over all of them."""
    t, s = LOGITS[::-1] / 2.0, LOGITS / 2.0
    p = np.exp(t) / np.exp(t).sum(-1, keepdims=True)
    log_q = s - np.log(np.exp(s).sum(-1, keepdims=True))
    np.testing.assert_allclose(losses.logits_distillation(LOGITS, LOGITS[::-1], 2.0), -(p * log_q).sum(-1).mean())
    np.testing.assert_allclose(losses.token_distillation(TOKENS, KNOWN), ((TOKENS - KNOWN) ** 2).mean())
    np.testing.assert_allclose(losses.l1(ALPHA), np.abs(ALPHA).sum())


@settings(max_examples=20, deadline=None)
@given(values=st.lists(st.floats(0, 1), min_size=6, max_size=6))
def test_expected_cost_is_an_expectation(values: list[float]) -> None:
    """The mean over all choices of heads, weighted by probability. For a line it equals the paper's formula."""
    alpha = np.asarray(values).reshape(2, 3)
    total = 0.0
    for row, costs in zip(alpha, STEPS.layers):
        for bits in itertools.product((0, 1), repeat=3):
            total += np.prod([a if b else 1 - a for a, b in zip(row, bits)]) * costs[sum(bits)]
    np.testing.assert_allclose(losses.expected_cost(jnp.asarray(alpha), STEPS), total, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        losses.expected_cost(jnp.asarray(alpha), LINE), losses.cost(jnp.asarray(alpha), LINE), rtol=1e-9
    )


def test_cost_of_all_or_none() -> None:
    """At alpha 1 and 0 both losses are the sums of the table's last and first columns."""
    for loss in (losses.cost, losses.expected_cost):
        assert float(loss(jnp.ones((2, 3)), STEPS)) == pytest.approx(3.7)
        assert float(loss(jnp.zeros((2, 3)), STEPS)) == pytest.approx(0.3)
