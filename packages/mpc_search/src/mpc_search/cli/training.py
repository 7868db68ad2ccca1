"""The commands that train: teacher, search, retrain; and history, which draws what a search did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from mpc_search.cli.options import CostsFile, StageOptions, shared_options


@shared_options
def teacher(
    options: StageOptions,
    attention: Annotated[str, typer.Option(help="softmax, or another attention without a plan.")] = "softmax",
) -> None:
    """Train the Softmax ViT that students learn from.

    Example: mpc-search teacher --config cifar10 --scale paper --data ~/cifar --out build/teacher
    """
    from mpc_search.cli.train_stage import train_stage

    train_stage("teacher", options, attention)


@shared_options
def search(
    options: StageOptions,
    attention: Annotated[str, typer.Option(help="mix, softmax_scale, or two variants as on+off.")] = "mix",
    plan: Annotated[Optional[Path], typer.Option(help="Keep the attention of this plan; search only for GeLU.")] = None,
    costs: CostsFile = None,
) -> None:
    """Train weights and alphas together. The penalty, its weight and the level are settings (search.penalty, ...).

    Example: mpc-search search --config cifar10 --scale paper --set search.weight=1e-4 --out build/search
    """
    from mpc_search.cli.train_stage import train_stage

    train_stage("search", options, attention, plan, costs=costs)


@shared_options
def retrain(
    options: StageOptions,
    attention: Annotated[str, typer.Option(help="softmax, relu_softmax, scale, mix, ...")] = "mix",
    plan: Annotated[Optional[Path], typer.Option(help="Plan (JSON) of a mix, as binarize writes it.")] = None,
    heads: Annotated[int, typer.Option(min=0, help="Without a plan: ReLU-Softmax heads in each layer of a mix.")] = 2,
    teacher: Annotated[Optional[Path], typer.Option(help="Checkpoint to learn from, with distill.kind=both.")] = None,
) -> None:
    """Train a model with a fixed plan from scratch, with or without a teacher.

    Example: mpc-search retrain --config cifar10 --scale paper --plan plan.json --teacher build/teacher --out build/mine
    """
    from mpc_search.cli.train_stage import train_stage

    chosen = heads if plan is None and attention == "mix" else plan
    train_stage("retrain", options, attention, chosen, teacher=teacher)


def history(
    run: Annotated[Path, typer.Argument(help="The folder OUT.run of a search.")],
    out: Annotated[Path, typer.Option(help="The web page to write.")] = Path("alpha.html"),
    values: Annotated[Literal["alpha", "beta"], typer.Option(help="What to draw.")] = "alpha",
) -> None:
    """Draw the alphas or betas of a search, epoch by epoch.

    Example: mpc-search history build/search.run --out alpha.html
    """
    from mpc_search.alpha_history import draw_history

    print(f"The page is {draw_history(run / 'metrics.jsonl', out, values)}")
