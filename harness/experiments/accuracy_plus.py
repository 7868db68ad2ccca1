"""The accuracy of MPCViT+: GeLU searched with the attention, kept on three quarters of the tokens or of the layers.

The paper (figure "Comparison between MPCViT and MPCViT+"; all with distillation): token-wise 93.28 / 93.92 / 94.2 /
94.27 % on CIFAR-10 at mu .1 .3 .5 .7, layer-wise 93.38 / 93.76 / 94.11 / 94.26 %; CIFAR-100 and Tiny-ImageNet in
harness/paper_results.csv. Fusion changes the seconds only (`paper_plus`). The search of GeLU was never released;
docs/search.md describes how we read it.

Expected: `reduced`, Fashion-MNIST, 20 minutes on two cores; `paper` days a data set.
    pytest harness/experiments/accuracy_plus.py --scale reduced --results results
"""

from __future__ import annotations

from mpc_search.record import TrainingRecord
from mpcvit_harness.cells import TrainingCell
from mpcvit_harness.paper_models import kept
from mpcvit_harness.trainings import trainings

CELLS = [
    *trainings("accuracy_plus", "digits", "smoke", "plus-token-0.5"),
    *trainings("accuracy_plus", "plus", "reduced", "plus-*"),
    *trainings("accuracy_plus", "cifar10", "paper", "plus-*"),
    *trainings("accuracy_plus", "cifar100", "paper", "plus-*"),
    *trainings("accuracy_plus", "tiny_imagenet", "paper", "plus-*"),
]


def test_three_quarters_of_gelu_are_kept(cell: TrainingCell, record: TrainingRecord) -> None:
    """At the level that the cell names, and the student has learnt with it."""
    assert record.plan is not None and record.plan.gelu is not None
    rows = [layer.on for layer in record.plan.gelu]
    assert {layer.level for layer in record.plan.gelu} == {cell.run.split("-")[1]}
    assert sum(map(sum, rows)) == kept(len(rows), len(rows[0]), 0.75)
    assert record.test is not None and record.model is not None
    assert record.test.accuracy > 2 / record.model.config.num_classes
