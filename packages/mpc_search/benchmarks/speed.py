"""Images a second of the trainer, of a bare loop of the same jitted step, and of the same ViT in PyTorch.

The three take turns, so that other work on the machine affects all of them. The record has every turn, and ratios of
medians. The trainer should reach at least 95 % of the bare loop. Needs about 5 minutes on two idle cores.

Example: tox run -e speed            (or: python packages/mpc_search/benchmarks/speed.py --results results)
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import torch
import typer
from torch_vit import make_step

from mpc_search.data import ImageSet
from mpc_search.files import write_atomically
from mpc_search.provenance import code, machine, machine_name, versions
from mpc_search.run_config import RunConfig
from mpc_search.step import StepFunctions
from mpc_search.trainer import TrainingJob, fit
from vit_models import Model, get_config


def images(count: int, size: int, channels: int) -> ImageSet:
    """Random images: their content does not change the time."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, size, size, channels)).astype(np.uint8)
    names = tuple(map(str, range(10)))
    half = (0.5,) * channels
    return ImageSet("random", pixels, rng.integers(0, 10, count).astype(np.int32), names, half, half)


def timed(run: Callable[[], None], count: int) -> float:
    """`count` divided by the seconds that `run` takes."""
    started = time.perf_counter()
    run()
    return count / (time.perf_counter() - started)


def main(
    model: Annotated[str, typer.Option(help="Model of vit_models.")] = "vit_4_4_28",
    batch: Annotated[int, typer.Option(help="Images of a step.")] = 64,
    steps: Annotated[int, typer.Option(help="Steps of a turn.")] = 100,
    turns: Annotated[int, typer.Option(help="Turns of each of the three.")] = 5,
    results: Annotated[Path, typer.Option(help="Root of the store of records.")] = Path("results"),
    machine_folder: Annotated[str, typer.Option("--machine", help="Folder of this machine's records.")] = "",
) -> None:
    """Measure, print the ratios, and write the record."""
    shape = get_config(model, num_classes=10)
    data = images(batch * (steps + 20), shape.image_size, shape.channels)
    settings = RunConfig.model_validate(
        {
            "data": {"name": "random"},
            "model": {"config": model},
            "train": {"epochs": 1, "batch": batch, "log_every": 20},
        }
    )
    job = TrainingJob(Model(shape), data, data.take(np.arange(batch)), settings)
    bare = StepFunctions(job.model, data, settings, steps, None, None)
    state = bare.start(job.parameters())
    rows = np.arange(batch)
    part = {"images": data.pixels[rows], "labels": data.labels[rows]}
    normal = data.take(rows).images
    theirs = make_step(shape)
    torch.set_num_threads(machine().cores)
    found: dict[str, list[float]] = {"trainer": [], "bare_loop": [], "pytorch": []}

    def run_bare() -> None:
        nonlocal state
        for _ in range(steps):
            state, report = bare.train(state, part)
        jax.block_until_ready(report)

    def run_torch() -> None:
        for _ in range(steps):
            theirs(normal, part["labels"])

    run_bare(), theirs(normal, part["labels"])  # warm-up, with compilation
    for turn in range(turns):
        found["bare_loop"].append(timed(run_bare, steps * batch))
        with tempfile.TemporaryDirectory() as scratch:
            found["trainer"].append(fit(job, Path(scratch) / "run", stop_after=steps + 20).images_per_s)
        found["pytorch"].append(timed(run_torch, steps * batch))
        print(f"turn {turn + 1}: " + ", ".join(f"{name} {speeds[-1]:,.0f}" for name, speeds in found.items()))
    middle = {name: statistics.median(speeds) for name, speeds in found.items()}
    ratios = {f"trainer_over_{name}": middle["trainer"] / middle[name] for name in ("bare_loop", "pytorch")}
    record = {
        "schema_version": 1,
        "model": model,
        "batch": batch,
        "steps": steps,
        "images_per_s": found,
        "ratios": ratios,
        "machine": machine().model_dump(),
        "versions": {**versions(), "torch": torch.__version__},
        "code": code().model_dump(),
    }
    path = results / (machine_folder or machine_name()) / "training_speed" / f"{model}.speed.json"
    write_atomically(path, json.dumps(record, indent=1) + "\n")
    print(", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items()), f"({path})")


if __name__ == "__main__":
    typer.run(main)
