"""The experiments as files: each is a module with CELLS, in a folder that is no package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mpcvit_harness.cells import AnyCell
from mpcvit_harness.errors import HarnessError

EXPERIMENTS = Path("harness/experiments")
"""The folder of the experiments, from the root of the repository."""


def cells_of(path: Path) -> list[AnyCell]:
    """The cells of an experiment's file, of either kind; raises HarnessError where it has none."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise HarnessError(f"{path} is no experiment", "give a Python file with a list CELLS.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    cells: list[AnyCell] = list(getattr(module, "CELLS", ()))
    return cells


def all_cells(folder: Path) -> list[AnyCell]:
    """The cells of every experiment in `folder`; raises HarnessError where there is none."""
    if not (files := sorted(folder.glob("*.py"))):
        raise HarnessError(f"There are no experiments in {folder}", "run this in the root of the repository.")
    return [cell for path in files for cell in cells_of(path)]
