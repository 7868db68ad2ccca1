"""The command line of the cost model: spu-bench predict | profile-machine."""

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

from spu_bench.cost import Prediction, predict, profile_machine
from spu_bench.cost.machine_costs import default_path
from spu_bench.cost.step_timing import Progress as Report
from spu_bench.destinations import check_file, write_result
from spu_bench.options import Options
from spu_bench.program import load_program
from spu_bench.protocols import predictable
from spu_bench.runtimes import NEWEST

_BUSY = 1.25
Existing = Optional[Path]
ProgramPath = Annotated[Path, Argument(help="The Program's directory.")]
Protocol = Annotated[str, Option(help=f"{', '.join(predictable(NEWEST))}.")]
OptionsName = Annotated[
    Optional[str],
    Option(help="A preset of `spu-bench run`, or a TOML file with SPU's [runtime], [compiler] and [link]."),
]
MachineCostsFile = Annotated[
    Existing, Option("--machine-costs", help="File of machine costs (default: in the user's cache directory).")
]


def predict_command(
    program: ProgramPath,
    protocol: Protocol = "semi2k",
    network: Annotated[str, Option(help="loopback, lan, wan, or a TOML file.")] = "wan",
    options: OptionsName = None,
    machine_costs: MachineCostsFile = None,
    measure: Annotated[bool, Option(help="Measure kinds of steps that the file does not have.")] = True,
    json: Annotated[Existing, Option(help="Write the prediction to this JSON file.")] = None,
) -> None:
    """Predict the latency of a Program on a network, with its parts. The network and the weights are not required.

    Example: spu-bench predict prog/ --protocol semi2k --network my.toml --json prediction.json
    """
    if json is not None:
        check_file(json)
    with _progress() as progress:
        prediction = predict(
            load_program(program),
            protocol,
            network,
            options=Options.load(options) if options else None,
            machine_costs=machine_costs,
            measure_new=measure,
            progress=progress,
        )
    if json is not None:
        write_result(json, json_module.dumps(prediction.model_dump(mode="json"), indent=1) + "\n")
    Console().print(_table(prediction))
    _warn(prediction.waited)


def profile_machine_command(
    program: ProgramPath,
    protocol: Protocol = "semi2k",
    executor: Annotated[str, Option(help="What shapes the network of the run: auto, docker or netns.")] = "auto",
    wake_ms: Annotated[
        Optional[float], Option(min=0, help="The wake-up time in ms, where no network can be shaped.")
    ] = None,
    options: OptionsName = None,
    machine_costs: MachineCostsFile = None,
) -> None:
    """Measure what a Program's steps cost on this machine, and what a turn costs beyond the network's delay.

    Takes some minutes and requires an idle machine. Then every Program with the same kinds of steps can be predicted.

    Example: spu-bench profile-machine prog/ --protocol semi2k --executor netns
    """
    path = machine_costs or default_path()
    check_file(path)
    with _progress() as progress:
        costs = profile_machine(
            load_program(program),
            protocol,
            path,
            executor=executor,
            wake_s=None if wake_ms is None else wake_ms / 1e3,
            options=Options.load(options) if options else None,
            progress=progress,
        )
    kinds = sum(len(each.steps) for each in costs.tables.values())
    wake_up = "not measured" if costs.wake_s is None else f"{costs.wake_s * 1e3:.3f} ms ({costs.wake_from})"
    print(f"{path}: {kinds} kinds of steps; wake-up time: {wake_up}")
    _warn(costs.table(protocol, Options.load(options) if options else Options()).waited)


def _warn(waited: float) -> None:
    if waited > _BUSY:
        Console(stderr=True).print(
            f"warning: The machine was busy when the steps were measured: a run took {waited:.1f} times its CPU time. "
            "Fix: run `spu-bench profile-machine` on an idle machine.",
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
        f"network + {prediction.wake_s:.3f} s of wake-up time; {prediction.turns:.0f} turns, "
        f"{max(prediction.sent_bytes) / 1e6:.1f} MB sent by a party"
    )
    return shown
