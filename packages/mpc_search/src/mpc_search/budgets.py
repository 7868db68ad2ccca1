"""From searched alphas to a plan: the paper's share of heads, its ablations, and the best plan within some seconds."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from mpc_search.cost_table import CostTable
from mpc_search.errors import SearchError
from vit_models import AttentionPlan, ModelError, top_k
from vit_models.types import Params

Values = npt.NDArray[np.float64]
"""Searched alphas or betas, (layers, units)."""

Rule = Literal["global", "per_layer", "random"]
"""How a budget chooses heads: over all layers, in every layer alike, or at random."""

Level = Literal["layer", "head", "row"]
"""The unit that has an alpha of its own."""


def searched_values(params: Params, name: Literal["alpha", "beta"] = "alpha") -> Values | None:
    """The searched alphas (layers, units), or the betas of GeLU; None when the model has none."""
    blocks = params["blocks"]
    found = [
        np.asarray((blocks[i]["attention"] if name == "alpha" else blocks[i]).get(name, ()))
        for i in sorted(blocks, key=int)
    ]
    return None if found[0].size == 0 else np.stack([layer.reshape(-1) for layer in found]).astype(np.float64)


def plan_by_share(
    alpha: Values, mu: float, level: Level = "head", rule: Rule = "global", seed: int = 0
) -> AttentionPlan:
    """The plan that keeps the share `mu` of all units ReLU-Softmax; alpha is (layers, units) of `level`.

    "global" ranks the units of all layers together (the paper). "per_layer" takes the same share of every layer (the
    paper's "w/o per-layer search"). "random" ranks at random by `seed`: the baseline that a search must beat. A tie
    keeps the later unit. Raises SearchError unless 0 <= mu <= 1. Source: the original's train.py (`--rs-ratio`).
    """
    if rule == "random":
        alpha = np.random.default_rng(seed).permutation(alpha.size).reshape(alpha.shape).astype(np.float64)
    if rule == "per_layer":
        return _plan(np.concatenate([_largest(layer[None], mu) for layer in alpha]), level)
    return _plan(_largest(alpha, mu), level)


def gelu_plan_by_share(plan: AttentionPlan, beta: Values, share: float) -> AttentionPlan:
    """`plan` with GeLU kept at the share of tokens (or layers) with the largest beta, ranked over all layers.

    Raises SearchError unless 0 <= share <= 1. Source: MPCViT+ (docs/paper-facts.md, section 2.5). Its own rule was
    never released; this is the rule of the heads.
    """
    kept = _largest(beta, share)
    return plan.with_gelu(kept[:, 0] if kept.shape[1] == 1 else kept)


def plan_by_seconds(alpha: Values, table: CostTable, limit: float, level: Level = "head") -> AttentionPlan:
    """The plan with the largest sum of kept alphas among all that are predicted to take at most `limit` seconds.

    A layer with k ReLU-Softmax heads keeps its k largest alphas, so each layer has one option for each k. This is a
    multiple-choice knapsack. It is solved exactly: layer by layer, every pair (cost, value) is kept that no other pair
    beats in both. Of plans with equal values the cheapest is taken. Raises SearchError when the cheapest plan is over
    the limit, and when table and alpha do not fit.
    """
    if alpha.shape[0] != len(table.layers) or (level == "head" and alpha.shape[1] != table.heads):
        raise SearchError(
            "alpha and the cost table are of different models.", "make the table for the model that was searched."
        )
    if level == "row":
        raise SearchError("The cost table prices heads and layers, not rows.", "search at level head or layer.")
    states: list[_State] = [(table.rest, 0.0, ())]
    for values, costs in zip(alpha, table.layers):
        sums = np.concatenate([[0.0], np.cumsum(-np.sort(-values))])
        options = costs if level == "head" else (costs[0], costs[-1])
        grown = [
            (cost + extra, value + float(sums[k]), (*kept, k))
            for cost, value, kept in states
            for k, extra in enumerate(options)
        ]
        states = _undominated([state for state in grown if state[0] <= limit])
        if not states:
            least = table.rest + sum(min(layer) for layer in table.layers)
            raise SearchError(
                f"No plan takes {limit:g} s or less: the cheapest takes {least:g} s.",
                "give a limit that is not below that.",
            )
    best = max(states, key=lambda state: (state[1], -state[0]))
    on = np.zeros(alpha.shape, np.int64)
    for row, (values, k) in enumerate(zip(alpha, best[2])):
        on[row, np.argsort(-values, kind="stable")[:k]] = 1
    return _plan(on, level)


_State = tuple[float, float, tuple[int, ...]]
"""Cost and value of the layers so far, and how many units each of them keeps."""


def _undominated(states: list[_State]) -> list[_State]:
    kept: list[_State] = []
    for state in sorted(states, key=lambda state: (state[0], -state[1])):
        if not kept or state[1] > kept[-1][1]:
            kept.append(state)
    return kept


def kept_alpha(alpha: Values, plan: AttentionPlan) -> float:
    """The sum of the alphas that `plan` keeps: what `plan_by_seconds` maximises."""
    assert plan.attention is not None
    return float(sum(np.dot(layer, choice.on) for layer, choice in zip(alpha, plan.attention)))


def _largest(values: Values, share: float) -> npt.NDArray[np.int64]:
    """1 for the `share` of all units with the largest values, 0 for the others."""
    try:
        return top_k(values, share)
    except ModelError as error:
        raise SearchError(error.problem, error.fix) from error


def _plan(on: npt.NDArray[np.int64], level: Level) -> AttentionPlan:
    if level == "layer":
        return AttentionPlan.from_layers(on[:, 0])
    return AttentionPlan.from_heads(on) if level == "head" else AttentionPlan.from_rows(on)
