"""The command binarize: a plan from searched alphas, within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from mpc_search.budgets import Rule
from mpc_search.cli.options import CostsFile


def binarize(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of `mpc-search search`.")],
    out: Annotated[Path, typer.Option(help="The plan to write (JSON).")],
    mu: Annotated[Optional[float], typer.Option(help="Share of units that stay ReLU-Softmax.")] = None,
    rule: Annotated[Rule, typer.Option(help="How --mu ranks the units; global is the paper's.")] = "global",
    seconds: Annotated[Optional[float], typer.Option(help="Limit on the predicted seconds; needs --costs.")] = None,
    seconds_of_mu: Annotated[
        Optional[float], typer.Option(help="As --seconds, with the predicted seconds of the plan for this mu.")
    ] = None,
    costs: CostsFile = None,
    gelu_share: Annotated[Optional[float], typer.Option(help="Share of tokens or layers that keep GeLU.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the rule random.")] = 0,
) -> None:
    """Make a plan from searched alphas, within a budget of units or of predicted seconds.

    Example: mpc-search binarize build/search --mu 0.5 --out plan.json
    """
    from mpc_search.budgets import kept_alpha, searched_values
    from mpc_search.checkpoint import load_checkpoint
    from mpc_search.cost_table import CostTable
    from mpc_search.files import write_atomically
    from mpc_search.plan_budget import BudgetRequest, make_plan

    request = BudgetRequest(mu, rule, seconds, seconds_of_mu, gelu_share, seed)
    model, params, origin = load_checkpoint(checkpoint)
    table = None if costs is None else CostTable.load(costs)
    if table is not None:
        table.check(model.config)
    plan, budget = make_plan(str(checkpoint), params, origin, request, table)
    write_atomically(out, plan.to_json() + "\n")
    alpha = searched_values(params)
    assert plan.attention is not None and alpha is not None
    heads = [sum(choice.on) for choice in plan.attention]
    print(f"ReLU-Softmax {budget.level}s in each layer: {heads}; sum of their alphas: {kept_alpha(alpha, plan):.4f}")
    if budget.limit is not None:
        print(f"limit: {budget.limit:.3f} s")
    if table is not None and budget.predicted_seconds is not None:
        print(f"predicted: {budget.predicted_seconds:.3f} s under {table.protocol} over {table.network}")
