"""The command line: mpc-search retrain | evaluate."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated, Optional

import jax
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mpc_search.checkpoint import load_checkpoint, save_checkpoint
from mpc_search.data import FASHION_MNIST, fashion_mnist, get_fashion_mnist
from mpc_search.errors import SearchError
from mpc_search.train import Model, TrainSettings, accuracy, predict, train
from vit_models import AttentionPlan, count_params, get_config

app = typer.Typer(
    help="Training of MPC-friendly Vision Transformers.", no_args_is_help=True, pretty_exceptions_enable=False
)
Folder = Annotated[Path, typer.Option(help="Folder with Fashion-MNIST's four IDX files, gzipped or not.")]
DEFAULT = TrainSettings()


@app.command()
def retrain(
    out: Annotated[Path, typer.Option(help="Where the checkpoint goes (a directory).")],
    model: Annotated[str, typer.Option(help="Name of a configuration of vit_models.")] = "vit_4_4_28",
    attention: Annotated[str, typer.Option(help="softmax, relu_softmax, scale, mix, ...")] = "mix",
    plan: Annotated[Optional[Path], typer.Option(help="Attention plan (JSON) of a mix.")] = None,
    heads: Annotated[int, typer.Option(min=0, help="Without a plan: so many ReLU-Softmax heads in every layer.")] = 2,
    gelu: Annotated[str, typer.Option(help="exact, tanh, quad, relu or identity.")] = "tanh",
    data: Folder = FASHION_MNIST,
    get_data: Annotated[
        bool, typer.Option("--get-data", help="Install Debian's package of the data if need be.")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1)] = DEFAULT.epochs,
    batch: Annotated[int, typer.Option(min=1)] = DEFAULT.batch,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = DEFAULT.learning_rate,
    seed: Annotated[int, typer.Option()] = DEFAULT.seed,
) -> None:
    """Train a model with a fixed plan from scratch, and keep it.

    Example: mpc-search retrain --model vit_4_4_28 --attention mix --heads 2 --out build/checkpoints/vit_4_4_28
    """
    if get_data:
        get_fashion_mnist(data)
    training, test = fashion_mnist("train", data), fashion_mnist("test", data)
    settings = TrainSettings(epochs=epochs, batch=batch, learning_rate=learning_rate, seed=seed)
    trained = _model(model, attention, plan, heads, gelu, len(training.classes))
    started = time.perf_counter()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{model}: step", total=None)

        def on_step(step: int, steps: int, loss: float) -> None:
            progress.update(task, completed=step, total=steps, description=f"{model}: loss {loss:.3f}, step")

        params = train(trained, training, settings, on_step)
    seconds = time.perf_counter() - started
    reached = accuracy(predict(trained, params, test.images), test.labels)
    about = {
        "data": "fashion-mnist",
        "test_accuracy": reached,
        "test_images": len(test),
        "train_s": seconds,
        "settings": dataclasses.asdict(settings),
        "jax": jax.__version__,
        "parameters": count_params(params),
    }
    save_checkpoint(out, trained, params, about)
    print(f"{reached:.2%} on {len(test)} test images, trained in {seconds:.0f} s; the checkpoint is {out}")


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A directory that retrain wrote.")],
    data: Folder = FASHION_MNIST,
) -> None:
    """Accuracy of a checkpoint on the test images, in plaintext.

    Example: mpc-search evaluate build/checkpoints/vit_4_4_28
    """
    model, params, _ = load_checkpoint(checkpoint)
    test = fashion_mnist("test", data)
    print(f"{accuracy(predict(model, params, test.images), test.labels):.2%} on {len(test)} test images")


def _model(name: str, attention: str, plan: Path | None, heads: int, gelu: str, classes: int) -> Model:
    try:
        config = get_config(name, num_classes=classes)
        chosen = None
        if plan is not None:
            chosen = AttentionPlan.from_json(plan.read_text())
        elif attention == "mix":
            if heads > config.heads:
                raise ValueError(f"--heads {heads}: {name} has {config.heads} heads")
            chosen = AttentionPlan.from_heads([[1] * heads + [0] * (config.heads - heads)] * config.layers)
        if chosen is not None:
            chosen.check(config)
    except (OSError, ValueError, KeyError) as error:
        raise SearchError(f"{error}. Fix: see `mpc-search retrain --help`.") from error
    return Model(config, attention, chosen, gelu)


def main() -> None:
    """Run the command line; a SearchError becomes one line on stderr and a non-zero exit status."""
    try:
        app()
    except SearchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
