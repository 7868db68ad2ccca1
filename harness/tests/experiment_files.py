"""What several tests use: the experiments of the repository as modules, a record, and the texts of a table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpcvit_harness import load_experiments
from mpcvit_harness.tables import Entry, Table

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "harness" / "experiments"
ANY_RECORD = next((ROOT / "results").glob("*/links/*wan-netns*.json"))

PutRecord = Callable[..., None]
"""What the fixture `put` gives."""

PutTraining = Callable[..., None]
"""What the fixture `put_training` gives."""


def cells_of(experiment: str) -> list[Any]:
    """The cells of an experiment by its name, of either kind."""
    return load_experiments.cells_of(EXPERIMENTS / f"{experiment}.py")


def texts(table: Table) -> list[dict[str, str]]:
    """The rows of a table as texts, by their headings."""
    return [dict(zip(table.headings, (entry.text for entry in row), strict=True)) for row in table.rows]


def column(table: Table, title: str) -> list[Entry]:
    """The entries of the column of that title."""
    at = [column.title for column in table.columns].index(title)
    return [row[at] for row in table.rows]
