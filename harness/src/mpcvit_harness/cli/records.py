"""The command that changes stored records: migrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mpc_search import printable
from mpcvit_harness.cli.reports import Results
from mpcvit_harness.errors import HarnessError
from mpcvit_harness.load_experiments import EXPERIMENTS, all_cells
from mpcvit_harness.migrate import migrate


def migrate_command(
    results: Results = Path("results"),
    experiments: Annotated[Path, typer.Option(help="The experiments, which give the labels.")] = EXPERIMENTS,
) -> None:
    """Bring the records below RESULTS up to date: schema, fingerprints, file names, labels. Nothing is measured.

    Example: mpcvit-report migrate --results results
    """
    done = migrate(results, all_cells(experiments))
    for path, why in [*done.notes, *done.refused]:
        print(printable(f"{path}: {why}"))
    print(f"{len(done.changed)} records migrated, {done.unchanged} up to date, {len(done.refused)} refused")
    if done.refused:
        raise HarnessError(
            f"{len(done.refused)} files are not migrated",
            "remove those that are not records; of two records of one cell, remove the older",
            "stale",
        )
