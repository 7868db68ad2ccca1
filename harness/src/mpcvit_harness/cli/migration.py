"""mpcvit-report migrate: records of earlier versions, brought up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mpcvit_harness.load_experiments import EXPERIMENTS, all_cells
from mpcvit_harness.migrate import migrate


def migrate_command(
    results: Annotated[Path, typer.Option(help="Root of the store of records.")] = Path("results"),
    experiments: Annotated[Path, typer.Option(help="The experiments, which give the labels.")] = EXPERIMENTS,
) -> None:
    """Bring the records below RESULTS up to date: schema, fingerprints, file names, labels. Nothing is measured.

    Example: mpcvit-report migrate --results results
    """
    done = migrate(results, all_cells(experiments))
    for path, why in [*done.notes, *done.refused]:
        print(f"{path}: {why}")
    print(f"{len(done.changed)} records migrated, {done.unchanged} up to date, {len(done.refused)} refused")
    if done.refused:
        raise typer.Exit(1)
