"""The commands of sweeps: sweep runs one, summary shows its records together."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Optional

import typer

from mpc_search.cli.options import RunOptions, shared_options
from mpc_search.errors import SearchError, printable


@shared_options
def sweep(
    options: RunOptions,
    name: Annotated[str, typer.Argument(help="smoke, reduced, ..., or a TOML file.")],
    checkpoints: Annotated[
        Path, typer.Option(help="Checkpoints go into a folder below this one, with the name of the sweep.")
    ] = Path("build/sweeps"),
    results: Annotated[Path, typer.Option(help="Root of the store of records.")] = Path("results"),
    machine: Annotated[
        Optional[str], typer.Option(help="Folder of this machine's records (default: from its processor).")
    ] = None,
    only: Annotated[str, typer.Option(help="Only runs with this in their name, and the runs they build on.")] = "",
    minutes: Annotated[Optional[float], typer.Option(help="Start no new run after this many minutes.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Runs at once, each on its share of the cores.")] = 1,
    list_runs: Annotated[bool, typer.Option("--list", help="List the runs, and which are done, and exit.")] = False,
) -> None:
    """Run a sweep, or resume it. A run with a good record is not run again.

    Example: mpc-search sweep reduced --minutes 60
    """
    from mpc_search import data as data_sets
    from mpc_search.provenance import machine_name
    from mpc_search.record import TrainingRecord
    from mpc_search.sweep import Run, load_sweep, with_parents
    from mpc_search.sweep_runner import SweepPaths, run_sweep

    experiment, runs = load_sweep(name, options.overrides())
    runs = with_parents(runs, lambda run: only in run.name)
    if not runs:
        raise SearchError(f"No run has {only!r} in its name.", f"see `mpc-search sweep {name} --list`.")
    paths = SweepPaths(checkpoints / experiment, results / (machine or machine_name()) / experiment)
    if list_runs:
        for run in runs:
            print(f"{'done   ' if paths.good_record(run) else 'to run '} {run.name}  {run.key[:12]}")
        return
    if options.get_data:
        data_sets.install(runs[0].config.data.name, runs[0].config.data.folder)
    started, position = time.monotonic(), {run.name: i for i, run in enumerate(runs, 1)}

    def show(run: Run, record: TrainingRecord, new: bool) -> None:
        result = record.failure or (f"{record.test.accuracy:.2%}" if record.test else "")
        done = "" if new else " (already done)"
        print(f"[{position[run.name]}/{len(runs)}] {printable(f'{run.name}: {result}')}{done}", flush=True)

    records = run_sweep(
        experiment,
        runs,
        paths,
        force=lambda run: options.force,
        may_start=lambda: minutes is None or time.monotonic() - started < 60 * minutes,
        on_record=show,
        workers=workers,
    )
    failed = [record.name for record in records if record.status != "ok"]
    if len(records) < len(runs):
        print(f"{len(runs) - len(records)} runs are left; the same command resumes with them")
    if failed:
        folder = paths.records
        raise SearchError(
            f"{len(failed)} runs failed: {', '.join(failed)}.", f"see their records in {folder}.", "failed"
        )


def summary(
    folder: Annotated[Path, typer.Argument(help="results/MACHINE/SWEEP")],
) -> None:
    """Show the records of a sweep together: means over seeds, contrasts, correlations of alphas.

    Example: mpc-search summary results/this-machine/smoke
    """
    from mpc_search.summary import format_summary, load_records

    print("\n".join(map(printable, format_summary(load_records(folder)).splitlines())))
