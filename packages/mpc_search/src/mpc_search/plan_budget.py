"""The plan of a searched model within a budget: a share of units, or predicted seconds."""

from __future__ import annotations

from dataclasses import dataclass

from mpc_search.budgets import Rule, gelu_plan_by_share, plan_by_seconds, plan_by_share, searched_values
from mpc_search.checkpoint import CheckpointOrigin
from mpc_search.cost_table import CostTable
from mpc_search.errors import SearchError
from mpc_search.record import PlanBudget
from vit_models import AttentionPlan
from vit_models.types import Params


@dataclass(frozen=True)
class BudgetRequest:
    """A budget, given as exactly one of `mu`, `seconds` and `seconds_of_mu`.

    `mu` is a share of units, kept by `rule`. `seconds` is a limit on the predicted seconds. `seconds_of_mu` takes as
    the limit the seconds of the plan that keeps that share. `gelu_share` is the share of tokens or layers that keep
    GeLU. `seed` is for the rule "random". Raises SearchError when there is not exactly one budget.
    """

    mu: float | None = None
    rule: Rule = "global"
    seconds: float | None = None
    seconds_of_mu: float | None = None
    gelu_share: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if [self.mu, self.seconds, self.seconds_of_mu].count(None) != 2:
            raise SearchError("A plan needs exactly one budget.", "give one of mu, seconds and seconds_of_mu.")


def make_plan(
    name: str, params: Params, origin: CheckpointOrigin, request: BudgetRequest, table: CostTable | None = None
) -> tuple[AttentionPlan, PlanBudget]:
    """The plan within a budget from the alphas and betas in `params`, and how it was made.

    `name` is the name of the search for messages, `origin` the origin of its checkpoint. Raises SearchError when
    `params` has no alphas or betas, when a budget in seconds has no table, and when no plan is within the budget.
    """
    alpha = searched_values(params)
    if alpha is None or origin.config is None or origin.config.search.level == "none":
        raise SearchError(f"{name} has no alphas.", "give a checkpoint of `mpc-search search`.")
    level, limit = origin.config.search.level, request.seconds
    if request.mu is not None:
        plan = plan_by_share(alpha, request.mu, level, request.rule, request.seed)
    else:
        if table is None:
            raise SearchError("A budget in seconds needs a cost table.", "give a table with --costs, or a mu.")
        if request.seconds_of_mu is not None:
            limit = table.seconds(plan_by_share(alpha, request.seconds_of_mu, level))
        assert limit is not None
        plan = plan_by_seconds(alpha, table, limit, level)
    if request.gelu_share is not None:
        beta = searched_values(params, "beta")
        if beta is None:
            raise SearchError(f"{name} has no betas.", "search with --set search.gelu_level=token.")
        plan = gelu_plan_by_share(plan, beta, request.gelu_share)
    budget = PlanBudget(
        level=level,
        rule="seconds" if request.mu is None else request.rule,
        mu=request.mu,
        limit=limit,
        predicted_seconds=None if table is None or level == "row" else table.seconds(plan),
        gelu_share=request.gelu_share,
    )
    return plan, budget
