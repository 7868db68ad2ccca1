"""The tuned kernels on real images and trained weights: 200 test images of Fashion-MNIST.

The small ViT that the main job trained (`vit_4_4_28`, half of the heads ReLU-Softmax, tanh GeLU), SPU 0.9.5, SEMI2K
on loopback, calibrated on training images alone.

Expected: the largest logit error is at most 0.02, and every image whose margin exceeds it has its plaintext class.
Five minutes.
    mpc-search retrain --get-data --model vit_4_4_28 --attention mix --out build/checkpoints/vit_4_4_28
    pytest harness/experiments/open_accuracy.py --executor loopback --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.open_models import TRAINED, cifar, smoke
from spu_bench import RunRecord

CELLS = [
    Cell(
        experiment="open_accuracy",
        name="trained",
        model=TRAINED,
        images=200,
        labels={"attention": "mix", "kernels": "tuned_fxp", "run": "vit_4_4_28"},
        scale="paper",
    ),
    smoke("open_accuracy", "random", cifar("mix")),
]


def test_logits_and_classes_are_those_of_plaintext(record: RunRecord) -> None:
    accuracy = record.accuracy
    assert accuracy is not None
    assert accuracy.max_abs_error <= 0.02
    assert accuracy.clear_equal == accuracy.clear
