"""What several tests take from the repository: its experiments as modules, which are no package, and a record."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpcvit_harness.cells import Cell, TrainingCell

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "harness" / "experiments"
ANY_RECORD = next((ROOT / "results").glob("*/links/*wan-netns*.json"))

PutRecord = Callable[..., None]
"""What the fixture `put` gives."""

PutTraining = Callable[..., None]
"""What the fixture `put_training` gives."""


def cells_of(experiment: str) -> list[Any]:
    """The cells of an experiment's file, of either kind."""
    spec = importlib.util.spec_from_file_location(experiment, EXPERIMENTS / f"{experiment}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cells: list[Cell | TrainingCell] = module.CELLS
    return cells
