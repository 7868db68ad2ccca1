"""The command line of the cost model: spu-bench predict | calibrate."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Optional

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from typer import Argument, Option

from spu_bench.cost import table
from spu_bench.cost.calibrate import calibrate
from spu_bench.cost.measure import Progress as Report
from spu_bench.cost.predictor import predict
from spu_bench.options import Options
from spu_bench.predicted_latency import Prediction
from spu_bench.program import load_program
from spu_bench.record import write_whole

_BUSY = 1.25
Existing = Optional[Path]
ProgramPath = Annotated[Path, Argument(help="The Program's directory.")]
Protocol = Annotated[str, Option(help="semi2k, cheetah or ref2k.")]
OptionsName = Annotated[
    Optional[str], Option(help="A preset (as of run), or a TOML file with [runtime], [compiler] and [link] of SPU.")
]
CalibrationFile = Annotated[Existing, Option(help="The calibration (default: in the user's cache directory).")]


def predict_command(
    program: ProgramPath,
    protocol: Protocol = "semi2k",
    network: Annotated[str, Option(help="loopback, lan, wan, or a TOML file.")] = "wan",
    options: OptionsName = None,
    calibration: CalibrationFile = None,
    measure: Annotated[bool, Option(help="Measure kinds of steps that the calibration does not know.")] = True,
    json: Annotated[Existing, Option(help="Where the prediction goes as JSON.")] = None,
) -> None:
    """Predict what a Program takes over a network, with its parts. The network is not needed, nor are the weights.

    Example: spu-bench predict prog/ --protocol semi2k --network my.toml --json prediction.json
    """
    with _progress() as progress:
        prediction = predict(
            load_program(program),
            protocol,
            network,
            options=Options.load(options) if options else None,
            calibration=calibration,
            measure_new=measure,
            progress=progress,
        )
    if json is not None:
        write_whole(json, json_module.dumps(prediction.model_dump(mode="json"), indent=1) + "\n")
    Console().print(_table(prediction))
    _warn(prediction.waited)


def calibrate_command(
    program: ProgramPath,
    protocol: Protocol = "semi2k",
    executor: Annotated[str, Option(help="What shapes the link that parties wait on: auto, docker or netns.")] = "auto",
    wake_ms: Annotated[
        Optional[float], Option(min=0, help="What waking up after a wait costs, where no link can be shaped here.")
    ] = None,
    options: OptionsName = None,
    calibration: CalibrationFile = None,
) -> None:
    """Measure what a Program's steps cost on this machine, and what waiting for a link costs beyond its delay.

    Takes minutes, and an idle machine. Every Program made of the same kinds of steps can then be predicted.

    Example: spu-bench calibrate prog/ --protocol semi2k --executor netns
    """
    path = calibration or table.default_path()
    with _progress() as progress:
        done = calibrate(
            load_program(program),
            protocol,
            path,
            executor=executor,
            wake_s=None if wake_ms is None else wake_ms / 1e3,
            options=Options.load(options) if options else None,
            progress=progress,
        )
    kinds = sum(len(each.steps) for each in done.tables.values())
    waking = "not measured" if done.wake_s is None else f"{done.wake_s * 1e3:.3f} ms ({done.wake_from})"
    print(f"{path}: {kinds} kinds of steps; what waking up costs: {waking}")
    _warn(done.table(protocol, Options.load(options) if options else Options()).waited)


def _warn(waited: float) -> None:
    if waited > _BUSY:
        Console(stderr=True).print(
            f"warning: the machine was busy when steps were measured: a run took {waited:.1f} times its CPU time. "
            "Fix: run `spu-bench calibrate` when nothing else runs.",
            style="yellow",
        )


@contextmanager
def _progress() -> Iterator[Report]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        tasks = {}

        def report(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=done, total=of)

        yield report


def _table(prediction: Prediction) -> Table:
    shown = Table(title=f"{prediction.program}, {prediction.protocol}, {prediction.network.name}")
    for column in ("operation", "calls", "turns", "MB sent (server, client)", "compute s", "network s"):
        shown.add_column(column, justify="left" if column == "operation" else "right")
    for part in prediction.operations:
        if part.compute_s + part.network_s < 0.001 * prediction.seconds:
            continue
        megabytes = ", ".join(f"{sent / 1e6:.2f}" for sent in part.sent_bytes)
        shown.add_row(
            part.name,
            f"{part.calls:.4g}",
            f"{part.turns:.0f}",
            megabytes,
            f"{part.compute_s:.3f}",
            f"{part.network_s:.3f}",
        )
    shown.caption = (
        f"{prediction.seconds:.3f} s = {prediction.compute_s:.3f} s of computation + {prediction.floor_s:.3f} s of the "
        f"network + {prediction.wake_s:.3f} s of waking up; {prediction.turns:.0f} turns, "
        f"{max(prediction.sent_bytes) / 1e6:.1f} MB sent by a party"
    )
    return shown
