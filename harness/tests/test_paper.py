"""The cells of the paper division: the right models, in a list that runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiment_files import EXPERIMENTS, cells_of

from mpcvit_harness.cells import select
from mpcvit_harness.paper_models import BUDGETS, CIFAR10, TINY, DataSet, kept, packed, spread
from mpcvit_harness.prepare import prepare

PAPER = sorted(path.stem for path in EXPERIMENTS.glob("paper_*.py"))


@pytest.mark.parametrize(("data", "counts"), [(CIFAR10, [3, 9, 14, 20]), (TINY, [11, 33, 54, 76])])
def test_budgets_keep_as_many_heads_as_the_original(data: DataSet, counts: list[int]) -> None:
    """The counts that the original's truncation gives; spread evenly, no layer has two more than another."""
    assert [kept(*data.grid, mu) for mu in BUDGETS] == counts
    for count in counts:
        rows = [sum(row) for row in spread(*data.grid, count)]
        assert sum(rows) == count and max(rows) - min(rows) <= 1
        full = [sum(row) for row in packed(*data.grid, count)]
        assert sum(full) == count and sum(0 < on < data.grid[1] for on in full) <= 1


def test_placements_keep_the_same_number_of_heads() -> None:
    """They differ in where, and in nothing else."""
    plans = [cell.model.heads for cell in cells_of("paper_placements") if cell.scale == "paper"]
    assert {sum(map(sum, plan)) for plan in plans if plan is not None} == {14}
    assert len(set(plans)) == len(plans) >= 5


@pytest.mark.parametrize("experiment", PAPER)
def test_an_experiments_cells_are_a_list_that_runs(experiment: str) -> None:
    """One name and one content a cell, each named after its file."""
    cells = select(cells_of(experiment), scale="paper", executor="netns")
    assert cells and {cell.experiment for cell in cells} == {experiment}
    assert len({cell.name for cell in cells}) == len(cells), "claims name a cell by its experiment and name alone"


@pytest.mark.parametrize("name", ["main-mpcvit_0.3", "baseline-thex", "baseline-fewer_heads_2"])
def test_a_cells_model_exports(name: str, tmp_path: Path) -> None:
    """The Program says of itself what the row needs: tanh GeLU or its replacement, heads one after another."""
    (cell,) = [cell for cell in cells_of("paper_cifar10") if cell.name == name]
    made_by = prepare(cell, tmp_path, tmp_path).program.manifest.made_by
    assert made_by["kernels"] == "paper" and made_by["gelu"] == cell.model.gelu
    assert made_by["config"]["heads"] == cell.model.overrides.get("heads", 4)


@pytest.mark.parametrize(("level", "kept_gelu"), [("token", 341), ("layer", 5)])
def test_mpcvit_plus_keeps_three_quarters_of_gelu(level: str, kept_gelu: int, tmp_path: Path) -> None:
    """The exported plan has them, and fusion where the cell asks for it."""
    (cell,) = [cell for cell in cells_of("paper_plus") if cell.name == f"cifar10-{level}_0.3"]
    made_by = prepare(cell, tmp_path, tmp_path).program.manifest.made_by
    assert sum(sum(layer["on"]) for layer in made_by["plan"]["gelu"]) == kept_gelu
    assert made_by["fuse"] is (level == "layer") and made_by["plan"]["post_relu"]
