"""Images a second of the trainer, of a bare loop of the same jitted step, and of the same ViT in PyTorch.

The three take turns, so that whatever else the machine does meets all of them; the record has every turn, and ratios
of medians. Expected: the trainer at 95 % of the bare loop or more. About 5 minutes on two quiet cores.
    tox run -e speed            (or: python packages/mpc_search/benchmarks/speed.py --results results)
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

from mpc_search.config import Config
from mpc_search.data import ImageSet
from mpc_search.model import Model
from mpc_search.provenance import code, machine, machine_name, versions
from mpc_search.record import write_whole
from mpc_search.step import Steps
from mpc_search.trainer import Job, fit
from vit_models import get_config


def images(count: int, size: int, channels: int) -> ImageSet:
    """Random images: what is on them does not change the time."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, size, size, channels)).astype(np.uint8)
    names = tuple(map(str, range(10)))
    half = (0.5,) * channels
    return ImageSet("random", pixels, rng.integers(0, 10, count).astype(np.int32), names, half, half)


def timed(run: Callable[[], None], count: int) -> float:
    """`count` over the seconds that `run` takes."""
    started = time.perf_counter()
    run()
    return count / (time.perf_counter() - started)


def main(
    model: Annotated[str, typer.Option(help="A model of vit_models.")] = "vit_4_4_28",
    batch: Annotated[int, typer.Option()] = 64,
    steps: Annotated[int, typer.Option(help="Steps of a turn.")] = 100,
    turns: Annotated[int, typer.Option()] = 5,
    results: Annotated[Path, typer.Option(help="Root of the store of records.")] = Path("results"),
    machine_folder: Annotated[str, typer.Option("--machine", help="Folder of this machine's records.")] = "",
) -> None:
    """Measure, print the ratios, and write the record."""
    shape = get_config(model, num_classes=10)
    data = images(batch * (steps + 20), shape.image_size, shape.channels)
    settings = Config.model_validate(
        {
            "data": {"name": "random"},
            "model": {"config": model},
            "train": {"epochs": 1, "batch": batch, "log_every": 20},
        }
    )
    job = Job(Model(shape), data, data.take(np.arange(batch)), settings)
    bare = Steps(job.model, data, settings, steps, None, None)
    state = bare.start(job.parameters())
    rows = np.arange(batch)
    part = {"images": data.pixels[rows], "labels": data.labels[rows]}
    normal = data.take(rows).images
    theirs = make_step(shape)
    torch.set_num_threads(machine()["cores"])
    found: dict[str, list[float]] = {"trainer": [], "bare_loop": [], "pytorch": []}

    def run_bare() -> None:
        nonlocal state
        for _ in range(steps):
            state, report = bare.train(state, part)
        jax.block_until_ready(report)

    def run_torch() -> None:
        for _ in range(steps):
            theirs(normal, part["labels"])

    run_bare(), theirs(normal, part["labels"])  # compiled, and warm
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
        "machine": machine(),
        "versions": {**versions(), "torch": torch.__version__},
        "code": code(),
    }
    path = results / (machine_folder or machine_name()) / "training_speed" / f"{model}.speed.json"
    write_whole(path, json.dumps(record, indent=1) + "\n")
    print(", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items()), f"({path})")


if __name__ == "__main__":
    typer.run(main)
