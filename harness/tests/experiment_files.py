"""The experiments' files as modules: they are no package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mpcvit_harness.cells import Cell

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def cells_of(experiment: str) -> list[Cell]:
    """The cells of an experiment's file."""
    spec = importlib.util.spec_from_file_location(experiment, EXPERIMENTS / f"{experiment}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cells: list[Cell] = module.CELLS
    return cells
