"""Budgets: the paper's counts, ties, empty and full budgets, and a knapsack that no other plan beats."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mpc_search import SearchError
from mpc_search.budgets import gelu_plan_by_share, kept_alpha, plan_by_seconds, plan_by_share, searched_values
from mpc_search.cost_table import CostTable
from vit_models import AttentionPlan, get_config, init

LEVELS = st.sampled_from(["head", "row"])
ALPHAS = arrays(np.float64, (3, 4), elements=st.floats(-1, 2, width=32))


def on(plan: AttentionPlan) -> np.ndarray:
    assert plan.attention is not None
    return np.asarray([choice.on for choice in plan.attention])


def table(layers: object, rest: float = 1.0) -> CostTable:
    return CostTable(protocol="semi2k", network="wan", kernels="plain", layers=layers, rest=rest)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "counts"),
    [((7, 4), [3, 6, 9, 12, 14, 17, 20, 23, 26, 28]), ((9, 12), [11, 22, 33, 44, 54, 65, 76, 87, 98, 108])],
)
def test_the_papers_counts(shape: tuple[int, int], counts: list[int]) -> None:
    """Heads that stay ReLU-Softmax at mu 0.1 to 1, for the models of CIFAR and Tiny-ImageNet."""
    alpha = np.random.default_rng(0).normal(size=shape)
    assert [int(on(plan_by_share(alpha, mu / 10)).sum()) for mu in range(1, 11)] == counts


@given(alpha=ALPHAS, mu=st.floats(0, 1), level=LEVELS)
def test_a_share_keeps_the_largest(alpha: np.ndarray, mu: float, level: str) -> None:
    """Of 12 units all but int((1 - mu) 12) stay, and they are the largest; a larger budget keeps all of them."""
    kept = on(plan_by_share(alpha, mu, level))
    assert kept.sum() == 12 - int((1 - mu) * 12)
    if 0 < kept.sum() < 12:
        assert alpha[kept == 1].min() >= alpha[kept == 0].max()
    assert (on(plan_by_share(alpha, min(1.0, mu + 0.2), level)) >= kept).all()


@pytest.mark.parametrize("rule", ["global", "per_layer", "random"])
def test_empty_and_full_budgets(rule: str) -> None:
    """mu = 0 keeps none, mu = 1 all, under every rule and at every level."""
    alpha = np.random.default_rng(0).normal(size=(3, 4))
    for level, values in (("head", alpha), ("row", alpha), ("layer", alpha[:, :1])):
        for mu in (0.0, 1.0):
            assert (on(plan_by_share(values, mu, level, rule)) == mu).all()  # type: ignore[arg-type]


def test_ties_keep_the_later_unit() -> None:
    """As in the original's ascending ranking."""
    assert on(plan_by_share(np.ones((2, 2)), 0.5)).tolist() == [[0, 0], [1, 1]]


def test_rules_differ() -> None:
    """per_layer keeps the same share of every layer; random depends on the seed and not on alpha."""
    alpha = np.asarray([[3.0, 4.0], [1.0, 2.0]])
    assert on(plan_by_share(alpha, 0.5)).tolist() == [[1, 1], [0, 0]]
    assert on(plan_by_share(alpha, 0.5, rule="per_layer")).tolist() == [[0, 1], [0, 1]]
    wide = np.arange(40.0).reshape(5, 8)
    drawn = [on(plan_by_share(wide, 0.5, rule="random", seed=seed)) for seed in (0, 0, 1)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
    assert (on(plan_by_share(wide[::-1], 0.5, rule="random", seed=0)) == drawn[0]).all()


@pytest.mark.parametrize("mu", [-0.1, 1.1, float("nan")])
def test_wrong_shares(mu: float) -> None:
    """A share outside [0, 1] is refused."""
    with pytest.raises(SearchError, match="between 0 and 1"):
        plan_by_share(np.ones((2, 2)), mu)


@settings(max_examples=60, deadline=None)
@given(
    alpha=arrays(np.float64, (3, 3), elements=st.integers(-3, 6).map(float)),
    costs=arrays(np.float64, (3, 4), elements=st.integers(0, 5).map(float)),
    limit=st.integers(1, 16),
)
def test_no_plan_is_better_within_the_limit(alpha: np.ndarray, costs: np.ndarray, limit: float) -> None:
    """Against all 512 plans, for any costs: steps, lines, or falling."""
    price = table([tuple(row) for row in costs])
    every = [AttentionPlan.from_heads(np.reshape(bits, (3, 3))) for bits in itertools.product((0, 1), repeat=9)]
    within = [plan for plan in every if price.seconds(plan) <= limit]
    if not within:
        with pytest.raises(SearchError, match="the cheapest takes"):
            plan_by_seconds(alpha, price, limit)
        return
    found = plan_by_seconds(alpha, price, limit)
    best = max(kept_alpha(alpha, plan) for plan in within)
    assert price.seconds(found) <= limit and kept_alpha(alpha, found) == best
    assert price.seconds(found) == min(price.seconds(plan) for plan in within if kept_alpha(alpha, plan) == best)


def test_costs_in_steps_favour_whole_layers() -> None:
    """Whole layers are kept when the first head of a layer costs as much as all; the paper's rule spreads heads."""
    alpha = np.asarray([[0.9, 0.8, 0.7, 0.6], [0.95, 0.3, 0.2, 0.1], [0.92, 0.3, 0.2, 0.1]])
    price = table([(0.0, 1.0, 1.0, 1.0, 1.0)] * 3, rest=0.0)
    rule = plan_by_share(alpha, 0.25)
    assert price.seconds(rule) == 3.0
    found = plan_by_seconds(alpha, price, 1.0)
    assert on(found).tolist() == [[1, 1, 1, 1], [0] * 4, [0] * 4] and kept_alpha(alpha, found) == pytest.approx(3.0)


@given(alpha=ALPHAS, mu=st.floats(0, 1))
def test_by_seconds_is_never_worse_than_by_share(alpha: np.ndarray, mu: float) -> None:
    """At equal seconds, because the plan by share is one of those that the knapsack can choose."""
    price = table([(0.5, 1.75, 1.875, 2.0, 2.125)] * 3)
    rule = plan_by_share(alpha, mu)
    found = plan_by_seconds(alpha, price, price.seconds(rule))
    assert kept_alpha(alpha, found) >= kept_alpha(alpha, rule) - 1e-9 and price.seconds(found) <= price.seconds(rule)


def test_the_size_of_the_papers_largest_model() -> None:
    """Twelve layers of twelve heads, all with different costs, are solved within the limit."""
    rng = np.random.default_rng(0)
    price = table([tuple(np.cumsum(rng.uniform(0.1, 1.0, 13))) for _ in range(12)])
    alpha = rng.uniform(0, 1, (12, 12))
    found = plan_by_seconds(alpha, price, 40.0)
    assert price.seconds(found) <= 40.0 and kept_alpha(alpha, found) > 30.0


def test_by_layers() -> None:
    """A layer costs as much as all of its heads."""
    price = table([(0.0, 9.0, 2.0), (0.0, 9.0, 3.0)], rest=0.0)
    assert on(plan_by_seconds(np.asarray([[1.0], [2.0]]), price, 3.0, "layer")).tolist() == [[0], [1]]
    assert on(plan_by_seconds(np.asarray([[1.0], [2.0]]), price, 5.0, "layer")).tolist() == [[1], [1]]


def test_tables_that_do_not_fit(tmp_path: Path) -> None:
    """Another model's table, a plan by rows, and files that are not tables."""
    price = table([(0.0, 1.0)] * 2)
    with pytest.raises(SearchError, match="different models"):
        plan_by_seconds(np.ones((3, 1)), price, 9.0)
    with pytest.raises(SearchError, match="prices heads"):
        price.seconds(AttentionPlan.from_rows(np.ones((2, 5))))
    with pytest.raises(SearchError, match="layers of 1 heads"):
        price.check(get_config("vit_4_4_28"))
    with pytest.raises(SearchError, match="Cannot read the cost table"):
        CostTable.load(tmp_path / "absent.json")
    path = tmp_path / "table.json"
    price.save(path)
    assert CostTable.load(path) == price and '"schema": 1' in path.read_text()
    path.write_text(path.read_text().replace("1.0", "-1.0"))
    with pytest.raises(SearchError, match="layers"):
        CostTable.load(path)


def test_alphas_and_betas_of_parameters() -> None:
    """They are in the order of layers, also of more than ten; without a search there are none; GeLU is kept by rank."""
    config = get_config("vit_4_4_28", layers=12)
    params = init(config, 0, search="head", search_gelu="token")
    params["blocks"]["11"]["attention"]["alpha"] = params["blocks"]["11"]["attention"]["alpha"] * 5.0
    alpha, beta = searched_values(params), searched_values(params, "beta")
    assert alpha is not None and beta is not None and alpha.shape == (12, 4) and beta.shape == (12, 50)
    assert (alpha[11] == 5.0).all() and (alpha[:11] == 1.0).all() and searched_values(init(config, 0)) is None
    beta[3] = 2.0
    plan = gelu_plan_by_share(plan_by_share(alpha, 0.5), beta, 1 / 12)
    assert plan.gelu is not None and [sum(choice.on) for choice in plan.gelu] == [0, 0, 0, 50, *[0] * 8]
