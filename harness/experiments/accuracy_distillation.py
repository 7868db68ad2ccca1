"""The effect of distillation: none, logits, tokens, both; and a student that starts from its teacher.

The paper (ablation of knowledge distillation; its numbers could not be read): logits and the tokens of the last
LayerNorm each help, both together help most. The published rows with both gain 0.7 to 1.1 points on CIFAR-10, 2.4 to
3.2 on CIFAR-100, 4.0 to 5.9 on Tiny-ImageNet. The start from the teacher's parameters is our addition.

Expected: `reduced`, Fashion-MNIST, 45 minutes beyond what `accuracy_main` has trained; `paper` days a data set.
    pytest harness/experiments/accuracy_distillation.py --scale reduced --results results
"""

from __future__ import annotations

from mpc_search.record import TrainingRecord
from mpcvit_harness.cells import TrainingCell
from mpcvit_harness.trainings import trainings

CELLS = [
    *trainings("accuracy_distillation", "digits", "smoke", "mpcvit-0.5-none", "mpcvit-0.5-both"),
    *trainings("accuracy_distillation", "reduced", "reduced", "mpcvit-*"),
    *trainings("accuracy_distillation", "cifar10", "paper", "mpcvit-*"),
    *trainings("accuracy_distillation", "cifar100", "paper", "mpcvit-*"),
    *trainings("accuracy_distillation", "tiny_imagenet", "paper", "mpcvit-*"),
]


def test_the_student_learns_what_its_name_says(cell: TrainingCell, record: TrainingRecord) -> None:
    """From the teacher or from the labels alone, and to some accuracy."""
    kind = cell.run.split("-")[2]
    assert record.config.distill.kind == kind and {"teacher", "search"} == set(record.parents)
    assert (record.config.distill.init == "teacher") is ("from-teacher" in cell.run)
    assert record.test is not None and record.model is not None
    assert record.test.accuracy > 2 / record.model.config.num_classes
