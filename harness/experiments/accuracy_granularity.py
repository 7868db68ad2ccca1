"""The granularity of the search: whole layers, heads, or rows of the attention matrix, at one budget.

The paper (ablation of granularity; its numbers could not be read) searches by heads. SAL-ViT quotes it: a finer search
space gives less accuracy. Here half of all units are ReLU-Softmax. `paper_placements` measures the cost of the levels
under MPC while heads run one after another.

Expected: `reduced`, three seeds of Fashion-MNIST, 20 minutes on two cores; `paper` days a data set.
    pytest harness/experiments/accuracy_granularity.py --scale reduced --results results
"""

from __future__ import annotations

import pytest

from mpc_search.record import TrainingRecord
from mpcvit_harness.cells import TrainingCell
from mpcvit_harness.trainings import trainings

LEVELS = ("mpcvit-0.5-none", "layer-0.5", "row-0.5")

CELLS = [
    *trainings("accuracy_granularity", "digits", "smoke", "layer-0.5"),
    *trainings("accuracy_granularity", "reduced", "reduced", *LEVELS),
    *trainings("accuracy_granularity", "cifar10", "paper", *LEVELS),
]


def test_half_of_all_units_are_kept(cell: TrainingCell, record: TrainingRecord) -> None:
    """The plan is of the level that the cell names, and the model has learnt with it."""
    assert record.plan is not None and record.plan.attention is not None and record.budget is not None
    level = cell.run.split("-")[0].replace("mpcvit", "head")
    assert {layer.level for layer in record.plan.attention} == {record.budget.level} == {level}
    kept = [bit for layer in record.plan.attention for bit in layer.on]
    assert sum(kept) / len(kept) == pytest.approx(0.5, abs=1 / len(kept))
    assert record.test is not None and record.model is not None
    assert record.test.accuracy > 2 / record.model.config.num_classes
