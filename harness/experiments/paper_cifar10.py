"""The paper's main latency table on CIFAR-10, and its baselines.

The paper (main results and Pareto figure on CIFAR-10; SEMI-2K, WAN as Cheetah's, SPU 0.3.1b0, batch 1): Softmax ViT
112.23 s, ReLU-Softmax 71.82 s, ScaleAttn 44.63 s, MPCViT 48.03 / 52.88 / 58.66 / 63.56 s at mu .1 / .3 / .5 / .7;
MPCFormer 66.98 s, THE-X 52.39 s, Linformer 102.87 / 109.32 / 119.94 s, Softmax-Scale 91.05 s, ReLU-Softmax with fewer
heads 50.88 / 57.65 / 66.01 s. The cells named `main-` and `baseline-` measure these; `reading-` are other readings of
baselines and of ScaleAttn.

Expected: 3 inferences a cell of `main`, 1 of the others, each about as long as the paper says: 23 minutes for `main`,
12 for `baseline`, 6 for `reading`, and half a minute a cell to start and to probe.
    pytest harness/experiments/paper_cifar10.py -k main --executor netns --scale paper --results results
    pytest harness/experiments/paper_cifar10.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.paper_models import CIFAR10, TOY, baselines, cells, main_rows, readings, smoke
from spu_bench import RunRecord

TOYS = main_rows(TOY) | baselines(TOY)

CELLS = [
    *smoke("paper_cifar10", {name: TOYS[name] for name in ("main-mpcvit_0.5", "baseline-thex")}),
    *cells("paper_cifar10", main_rows(CIFAR10), timeout_s=1800),
    *cells("paper_cifar10", baselines(CIFAR10) | readings(CIFAR10), repeats=1, timeout_s=1800),
]


def test_measured_over_a_probed_link(cell: Cell, record: RunRecord) -> None:
    """Every inference was timed, and a shaped link was seen before and after it."""
    assert len(record.samples_s) == cell.repeats
    assert bool(record.link_before and record.link_after) is (cell.network != "loopback")
