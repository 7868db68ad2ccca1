"""The command line: mpc-search teacher | search | retrain (training), binarize, evaluate, history, sweep."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import typer

from mpc_search.errors import SearchError

app = typer.Typer(
    help="Search, budgets and distillation of MPC-friendly Vision Transformers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Out = Annotated[Path, typer.Option(help="Where the checkpoint goes (a directory); OUT.run has state and metrics.")]
ConfigName = Annotated[str, typer.Option("--config", help="cifar10, cifar100, tiny_imagenet, ..., or a TOML file.")]
Scale = Annotated[str, typer.Option(help="paper, reduced or smoke.")]
Folder = Annotated[
    Optional[Path], typer.Option("--data", help="Folder of the data set, where it is not at its usual place.")
]
GetData = Annotated[bool, typer.Option("--get-data", help="Install Debian's package of the data if need be.")]
Seed = Annotated[Optional[int], typer.Option(help="Seed of everything random.")]
Set = Annotated[Optional[list[str]], typer.Option("--set", help="A setting, as train.epochs=3; may be repeated.")]
Force = Annotated[bool, typer.Option(help="Begin again, instead of going on with what OUT.run has.")]
Results = Annotated[Optional[Path], typer.Option(help="Root of the store: a record goes to RESULTS/<machine>/single.")]
ModelName = Annotated[Optional[str], typer.Option(help="Another model of vit_models, in place of the config's.")]
Gelu = Annotated[Optional[str], typer.Option(help="exact, tanh, quad, relu or identity, in place of the config's.")]
Costs = Annotated[Optional[Path], typer.Option(help="Cost table (JSON) of the model, protocol and network.")]
Coordinator = Annotated[
    Optional[str], typer.Option(help="HOST:PORT/I/N: this is process I of N, which meet at that address.")
]


@app.command()
def teacher(
    out: Out,
    config: ConfigName = "fashion_mnist",
    scale: Scale = "smoke",
    attention: Annotated[str, typer.Option(help="softmax, or any other attention without a plan.")] = "softmax",
    model: ModelName = None,
    gelu: Gelu = None,
    data: Folder = None,
    get_data: GetData = False,
    seed: Seed = None,
    settings: Set = None,
    force: Force = False,
    results: Results = None,
    processes: Coordinator = None,
) -> None:
    """Train the Softmax ViT that students learn from.

    Example: mpc-search teacher --config cifar10 --scale paper --data ~/cifar --out build/teacher
    """
    options = _options(model, gelu, data, seed, settings)
    _train("teacher", config, scale, options, out, attention, None, get_data, force, results, processes)


@app.command()
def search(
    out: Out,
    config: ConfigName = "fashion_mnist",
    scale: Scale = "smoke",
    attention: Annotated[str, typer.Option(help="mix, softmax_scale, or on+off of two variants.")] = "mix",
    plan: Annotated[
        Optional[Path], typer.Option(help="Keep attention to this plan, and search GeLU's betas alone.")
    ] = None,
    costs: Costs = None,
    model: ModelName = None,
    gelu: Gelu = None,
    data: Folder = None,
    get_data: GetData = False,
    seed: Seed = None,
    settings: Set = None,
    force: Force = False,
    results: Results = None,
    processes: Coordinator = None,
) -> None:
    """Train weights and alphas together; the penalty, its weight and the level are settings (search.penalty, ...).

    Example: mpc-search search --config cifar10 --scale paper --set search.weight=1e-4 --out build/search
    """
    options = _options(model, gelu, data, seed, settings)
    _train("search", config, scale, options, out, attention, plan, get_data, force, results, processes, costs=costs)


@app.command()
def binarize(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint that search wrote.")],
    out: Annotated[Path, typer.Option(help="Where the plan goes (JSON).")],
    mu: Annotated[Optional[float], typer.Option(help="Share of units that stay ReLU-Softmax.")] = None,
    rule: Annotated[str, typer.Option(help="With --mu: global (the paper), per_layer or random.")] = "global",
    seconds: Annotated[Optional[float], typer.Option(help="The best plan predicted to take no longer.")] = None,
    seconds_of_mu: Annotated[
        Optional[float], typer.Option(help="The same, with the seconds that this mu takes.")
    ] = None,
    costs: Costs = None,
    gelu_share: Annotated[Optional[float], typer.Option(help="Share of tokens or layers that keep GeLU.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random rule.")] = 0,
) -> None:
    """Make a plan of searched alphas, within a budget of units or of seconds.

    Example: mpc-search binarize build/search --mu 0.5 --out plan.json
    """
    from mpc_search.budgets import alphas_of, by_seconds, by_share, gelu_by_share, value
    from mpc_search.checkpoint import load_checkpoint
    from mpc_search.costs import CostTable
    from mpc_search.record import write_whole

    if [mu, seconds, seconds_of_mu].count(None) != 2 or rule not in ("global", "per_layer", "random"):
        raise SearchError("One budget and a known rule are needed. Fix: give --mu, --seconds or --seconds-of-mu.")
    if mu is None and costs is None:
        raise SearchError("Seconds need a cost table. Fix: give --costs, or --mu.")
    found, params, about = load_checkpoint(checkpoint)
    alpha = alphas_of(params)
    if alpha is None:
        raise SearchError(f"{checkpoint} has no alphas. Fix: name a checkpoint of `mpc-search search`.")
    level = about["config"]["search"]["level"]
    table = None if costs is None else CostTable.load(costs)
    if table is not None:
        table.check(found.config)
    limit = seconds
    if mu is not None:
        plan = by_share(alpha, mu, level, _rule(rule), seed)
    else:
        assert table is not None
        if seconds_of_mu is not None:
            of_rule = by_share(alpha, seconds_of_mu, level)
            limit = table.seconds(of_rule)
            print(f"mu {seconds_of_mu:g} takes {limit:.3f} s and keeps alphas of {value(alpha, of_rule):.4f} in all")
        assert limit is not None
        plan = by_seconds(alpha, table, limit, level)
    kept = value(alpha, plan)
    if gelu_share is not None:
        if (beta := alphas_of(params, "beta")) is None:
            raise SearchError(f"{checkpoint} has no betas. Fix: search with search.gelu_level=token.")
        plan = gelu_by_share(plan, beta, gelu_share)
    write_whole(out, plan.to_json() + "\n")
    assert plan.attention is not None
    print(
        f"ReLU-Softmax {level}s by layer: {[sum(choice.on) for choice in plan.attention]}, alphas of {kept:.4f} in all"
    )
    if table is not None and level != "row":
        print(f"predicted: {table.seconds(plan):.3f} s under {table.protocol} over {table.network}")


def _rule(rule: str) -> Literal["global", "per_layer", "random"]:
    return "per_layer" if rule == "per_layer" else "random" if rule == "random" else "global"


@app.command()
def retrain(
    out: Out,
    config: ConfigName = "fashion_mnist",
    scale: Scale = "smoke",
    attention: Annotated[str, typer.Option(help="softmax, relu_softmax, scale, mix, ...")] = "mix",
    plan: Annotated[Optional[Path], typer.Option(help="Plan (JSON) of a mix, as binarize writes it.")] = None,
    heads: Annotated[int, typer.Option(min=0, help="Without a plan: so many ReLU-Softmax heads in every layer.")] = 2,
    teacher: Annotated[Optional[Path], typer.Option(help="Checkpoint to learn from; see --set distill.kind.")] = None,
    model: ModelName = None,
    gelu: Gelu = None,
    data: Folder = None,
    get_data: GetData = False,
    seed: Seed = None,
    settings: Set = None,
    force: Force = False,
    results: Results = None,
    processes: Coordinator = None,
) -> None:
    """Train a model with a fixed plan from scratch, with a teacher (then distill.kind is both) or without.

    Example: mpc-search retrain --config cifar10 --scale paper --plan plan.json --teacher build/teacher --out build/mine
    """
    options = _options(model, gelu, data, seed, settings)
    if teacher is not None:
        options.setdefault("distill.kind", "both")
    chosen = None
    if plan is not None or attention == "mix":
        chosen = plan if plan is not None else heads
    _train("retrain", config, scale, options, out, attention, chosen, get_data, force, results, processes, teacher)


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint that a training command wrote.")],
    data: Folder = None,
    kernels: Annotated[str, typer.Option(help="Kernel set of vit_models: plain, paper, tuned, ...")] = "plain",
    private: Annotated[
        Optional[list[str]], typer.Option(help="Also run under semi2k, cheetah, or ref2k (plaintext fixed point).")
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="So many test images under MPC.")] = 16,
    json_out: Annotated[Optional[Path], typer.Option("--json", help="Write all of it as JSON.")] = None,
) -> None:
    """Accuracy on the test images in plaintext, by class, and under MPC on a sample.

    Example: mpc-search evaluate build/mine --kernels tuned --private semi2k --images 16
    """
    import numpy as np

    from mpc_search.checkpoint import load_checkpoint
    from mpc_search.data import load
    from mpc_search.evaluate import plain_logits, private_score, score
    from mpc_search.record import write_whole

    model, params, about = load_checkpoint(checkpoint)
    test = load(about.get("data", "fashion_mnist"), "test", data)
    found = score(plain_logits(model, params, test, kernels), test)
    print(f"{found.accuracy:.2%} on {len(test)} test images, kernels {kernels}")
    for each in found.classes:
        print(f"  {each.name:<14} {each.images:>6} images  precision {each.precision:.3f}  recall {each.recall:.3f}")
    sample = test.take(np.arange(min(images, len(test))))
    scores = [private_score(model, params, sample, protocol=name, kernels=kernels) for name in private or []]
    for one in scores:
        print(
            f"{one.protocol}: {one.accuracy:.2%} on {one.images} images (plaintext {one.plain_accuracy:.2%}), the same "
            f"class {one.same_class} times, {one.clear_equal} of {one.clear} clear ones; logits off by no more than "
            f"{one.max_logit_error:.4f}"
        )
    if json_out is not None:
        content = {"test": found.model_dump(), "private": [one.model_dump() for one in scores]}
        write_whole(json_out, json.dumps(content, indent=1) + "\n")


@app.command()
def sweep(
    name: Annotated[str, typer.Argument(help="smoke, reduced, ..., or a TOML file.")],
    checkpoints: Annotated[Path, typer.Option(help="Where checkpoints go, below a folder of the sweep's name.")] = Path(
        "build/sweeps"
    ),
    results: Annotated[Path, typer.Option(help="Root of the store of records.")] = Path("results"),
    machine: Annotated[
        Optional[str], typer.Option(help="Folder of this machine's records (default: its kind).")
    ] = None,
    only: Annotated[str, typer.Option(help="Only runs whose name has this in it, and what they build on.")] = "",
    minutes: Annotated[Optional[float], typer.Option(help="Begin no new run after so many minutes.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="How many runs at once, each on its share of the cores.")] = 1,
    listed: Annotated[bool, typer.Option("--list", help="Say what would run, and what is done, and end.")] = False,
    data: Folder = None,
    get_data: GetData = False,
    settings: Set = None,
    force: Force = False,
) -> None:
    """Run what a sweep's file lists, or go on with it: what has a good record is not run again.

    Example: mpc-search sweep reduced --minutes 60
    """
    from mpc_search.commands import sweep_command

    options = _options(None, None, data, None, settings)
    sweep_command(name, options, checkpoints, results, machine, only, minutes, workers, listed, get_data, force)


@app.command()
def history(
    run: Annotated[Path, typer.Argument(help="The folder OUT.run that a search wrote.")],
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("alpha.html"),
    values: Annotated[str, typer.Option(help="alpha or beta.")] = "alpha",
) -> None:
    """Draw how alphas or betas moved during a search.

    Example: mpc-search history build/search.run --out alpha.html
    """
    from mpc_search.draw import draw_history

    print(f"The page is {draw_history(run / 'metrics.jsonl', out, values)}")


@app.command()
def summary(
    folder: Annotated[Path, typer.Argument(help="results/MACHINE/SWEEP")],
) -> None:
    """What the records of a sweep say together: means over seeds, contrasts, correlations of alphas.

    Example: mpc-search summary results/this-machine/smoke
    """
    from mpc_search.summary import load_records, text

    print(text(load_records(folder)))


def _options(
    model: str | None, gelu: str | None, data: Path | None, seed: int | None, settings: list[str] | None
) -> dict[str, Any]:
    from mpc_search.config import parse_overrides

    options = parse_overrides(settings or [])
    given = {"model.config": model, "model.gelu": gelu, "train.seed": seed}
    options |= {name: value for name, value in given.items() if value is not None}
    return options if data is None else {**options, "data.folder": str(data)}


def _train(*arguments: Any, **keywords: Any) -> None:
    from mpc_search.commands import train_command

    train_command(*arguments, **keywords)


def main() -> None:
    """Run the command line; a SearchError becomes one line on stderr and a non-zero exit status."""
    try:
        app()
    except SearchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
