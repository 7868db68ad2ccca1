"""From searched alphas to a plan: the paper's share of heads, its ablations, and the best plan for some seconds."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from mpc_search.costs import CostTable
from mpc_search.errors import SearchError
from vit_models import AttentionPlan, top_k

Alphas = npt.NDArray[np.float64]
Rule = Literal["global", "per_layer", "random"]
RULES = ("global", "per_layer", "random")


def alphas_of(params: dict[str, Any], name: str = "alpha") -> Alphas | None:
    """The searched alphas (layers, units), or with name "beta" those of GeLU; None where the model has none."""
    blocks = params["blocks"]
    found = [
        np.asarray((blocks[i]["attention"] if name == "alpha" else blocks[i]).get(name, ()))
        for i in sorted(blocks, key=int)
    ]
    return None if found[0].size == 0 else np.stack([layer.reshape(-1) for layer in found]).astype(np.float64)


def by_share(alpha: Alphas, mu: float, level: str = "head", rule: Rule = "global", seed: int = 0) -> AttentionPlan:
    """The plan that keeps the share `mu` of all units ReLU-Softmax; alpha is (layers, units) of `level`.

    global ranks all units of all layers together (the paper); per_layer takes the same share of every layer (its "w/o
    per-layer search"); random ranks at random, by `seed`: the baseline that a search has to beat. Ties keep the later
    unit. Raises SearchError unless 0 <= mu <= 1. Source: the original's train.py (`--rs-ratio`).
    """
    try:
        if rule == "random":
            alpha = np.random.default_rng(seed).permutation(alpha.size).reshape(alpha.shape).astype(np.float64)
        on = np.concatenate([top_k(layer[None], mu) for layer in alpha]) if rule == "per_layer" else top_k(alpha, mu)
        return _plan(on, level)
    except ValueError as error:
        raise SearchError(f"{error}. Fix: give a share of ReLU-Softmax units from 0 to 1.") from error


def gelu_by_share(plan: AttentionPlan, beta: Alphas, share: float) -> AttentionPlan:
    """`plan` with GeLU kept at the share of tokens (or layers) with the largest beta, ranked over all layers.

    Source: MPCViT+ (FACTS, section 2.5), whose own rule was never released; this is the one of the heads.
    """
    try:
        kept = top_k(beta, share)
    except ValueError as error:
        raise SearchError(f"{error}. Fix: give a share of GeLU from 0 to 1.") from error
    return plan.with_gelu(kept[:, 0] if kept.shape[1] == 1 else kept)


def by_seconds(alpha: Alphas, table: CostTable, limit: float, level: str = "head") -> AttentionPlan:
    """The plan with the largest sum of kept alphas among all whose predicted cost is no more than `limit` seconds.

    Within a layer its k largest alphas are kept, so a layer offers one choice a number of heads: a multiple-choice
    knapsack, solved exactly by carrying every pair (cost, value) that no other pair beats in both, layer by layer. Of
    equal values the cheaper plan is taken. Raises SearchError where even the cheapest plan is over the limit.
    """
    if alpha.shape[0] != len(table.layers) or (level == "head" and alpha.shape[1] != table.heads):
        raise SearchError("alpha and the cost table are not of one model. Fix: make the table for the searched model.")
    if level not in ("head", "layer"):
        raise SearchError(f"Seconds are known for heads and layers, not for {level}s. Fix: search at head or layer.")
    states: list[tuple[float, float, tuple[int, ...]]] = [(table.rest, 0.0, ())]
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
                f"No plan takes {limit:g} s or less: the cheapest takes {least:g} s. Fix: raise the limit."
            )
    best = max(states, key=lambda state: (state[1], -state[0]))
    on = np.zeros(alpha.shape, np.int64)
    for row, (values, k) in enumerate(zip(alpha, best[2])):
        on[row, np.argsort(-values, kind="stable")[:k]] = 1
    return _plan(on, level)


def _undominated(states: list[tuple[float, float, tuple[int, ...]]]) -> list[tuple[float, float, tuple[int, ...]]]:
    kept: list[tuple[float, float, tuple[int, ...]]] = []
    for state in sorted(states, key=lambda state: (state[0], -state[1])):
        if not kept or state[1] > kept[-1][1]:
            kept.append(state)
    return kept


def value(alpha: Alphas, plan: AttentionPlan) -> float:
    """Sum of the alphas that `plan` keeps: what `by_seconds` makes as large as it can."""
    assert plan.attention is not None
    return float(sum(np.dot(layer, choice.on) for layer, choice in zip(alpha, plan.attention)))


def _plan(on: npt.NDArray[np.int64], level: str) -> AttentionPlan:
    makers = {"head": AttentionPlan.from_heads, "layer": AttentionPlan.from_layers, "row": AttentionPlan.from_rows}
    if level not in makers:
        raise SearchError(f"There are no alphas by {level!r}. Fix: search at layer, head or row.")
    return makers[level](on[:, 0] if level == "layer" else on)
