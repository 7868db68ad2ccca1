"""The accuracy of each attention variant: one training per variant, the same model around it.

The paper's attention table (accuracy and latency of Softmax, ReLU-Softmax, Scale, 2Quad, 2ReLU, Sparsemax, XNorm, ...)
could not be read; others quote that 2ReLU has the highest accuracy and Scale the lowest latency. `variants` has the
latency. Softmax is the run `teacher`. The sweep `rates` shows whether an order depends on the learning rate.

Expected: `reduced`, three seeds of Fashion-MNIST, an hour on two cores; `paper` on CIFAR-10 days.
    pytest harness/experiments/accuracy_variants.py --scale reduced --results results
"""

from __future__ import annotations

from mpc_search.record import TrainingRecord
from mpcvit_harness.cells import TrainingCell
from mpcvit_harness.trainings import trainings

OURS = ("teacher", "relu_softmax", "scale")
OTHERS = ("two_quad", "two_relu", "linformer_*", "sparsemax", "xnorm", "hydra", "thex")

CELLS = [
    *trainings("accuracy_variants", "digits", "smoke", "two_relu"),
    *trainings("accuracy_variants", "reduced", "reduced", *OURS),
    *trainings("accuracy_variants", "variants", "reduced", *OTHERS),
    *trainings("accuracy_variants", "rates", "reduced", *(f"{kind}-*" for kind in OURS)),
    *trainings("accuracy_variants", "cifar10", "paper", *OURS, *OTHERS),
]

ATTENTION = {"teacher": "softmax", "thex": "the_x"}


def test_the_attention_is_the_cells(cell: TrainingCell, record: TrainingRecord) -> None:
    """In every layer and head, and the model has learnt with it."""
    kind = cell.run.rpartition("-s")[0].partition("-0.")[0]
    assert record.test is not None and record.model is not None
    assert record.model.attention == ATTENTION.get(kind, kind) and record.plan is None
    assert record.test.accuracy > 2 / record.model.config.num_classes
