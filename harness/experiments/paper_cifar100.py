"""The paper's main latency table on CIFAR-100, and its baselines.

The paper (main results and Pareto figure on CIFAR-100; setting as in `paper_cifar10`): MPCViT 48.74 / 53.34 / 59.27 /
63.94 s at mu .1 / .3 / .5 / .7, ReLU-Softmax 72.55 s, ScaleAttn 45.13 s, Softmax-Scale 91.98 s, MPCFormer 67.45 s,
THE-X 53.24 s. Softmax (112.23 s), Linformer and fewer heads repeat CIFAR-10's figures, which cannot be measurements of
their own. The model differs from CIFAR-10's by 90 outputs of its last linear map.

Expected: 3 inferences a cell of `main`, 1 of `baseline`: 23 and 12 minutes, and half a minute a cell to start and to
probe.
    pytest harness/experiments/paper_cifar100.py -k main --executor netns --scale paper --results results
    pytest harness/experiments/paper_cifar100.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.paper_models import CIFAR100, TOY, baselines, cells, main_rows, smoke
from spu_bench import RunRecord

CELLS = [
    *smoke("paper_cifar100", {"main-relu_softmax": main_rows(TOY)["main-relu_softmax"]}),
    *cells("paper_cifar100", main_rows(CIFAR100), timeout_s=1800),
    *cells("paper_cifar100", baselines(CIFAR100), repeats=1, timeout_s=1800),
]


def test_measured_over_a_probed_link(cell: Cell, record: RunRecord) -> None:
    """Every inference was timed, and a shaped link was seen before and after it."""
    assert len(record.samples_s) == cell.repeats
    assert bool(record.link_before and record.link_after) is (cell.network != "loopback")
