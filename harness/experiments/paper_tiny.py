"""The paper's main latency table on Tiny-ImageNet, and its baselines.

The paper (main results and Pareto figure on Tiny-ImageNet; setting as in `paper_cifar10`): Softmax ViT 1370.61 s,
ReLU-Softmax 1128.39 s, ScaleAttn 121.57 s, MPCViT 220.69 / 316.77 / 621.75 / 823.74 s at mu .1 / .3 / .5 / .7 (the
second is not on the line of the others, which gives about 424 s); Softmax-Scale 997.97 s, MPCFormer 903.57 s, THE-X
421.98 s, Linformer 522.17 / 780.31 / 1093.23 s, fewer heads 211.69 / 352.77 / 621.75 / 796.74 s. The reading of
ScaleAttn in linear order, q (k^T v), is here for its row only.

Expected: one inference a cell, three of ScaleAttn: 83 minutes for `main`, 105 for `baseline`, 2 a cell to share
weights, start and probe. In a ReLU-Softmax inference each party sends about 8 GB. The local truncation of the old
runtime can fail at this size: such a record has the status "wrong", and is no latency.
    pytest harness/experiments/paper_tiny.py -k main --executor netns --scale paper --results results
    pytest harness/experiments/paper_tiny.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.paper_models import TINY, TOY, baselines, cells, main_rows, readings, smoke
from spu_bench import RunRecord

ROWS = main_rows(TINY) | baselines(TINY) | readings(TINY)
UNDER_3_MINUTES = {"main-scale": ROWS.pop("main-scale")}

CELLS = [
    *smoke("paper_tiny", {"main-scale": main_rows(TOY)["main-scale"]}),
    *cells("paper_tiny", UNDER_3_MINUTES, timeout_s=7200),
    *cells("paper_tiny", ROWS, repeats=1, timeout_s=7200),
]


def test_measured_over_a_probed_link(cell: Cell, record: RunRecord) -> None:
    """Every inference was timed, and a shaped link was seen before and after it."""
    assert len(record.samples_s) == cell.repeats
    assert bool(record.link_before and record.link_after) is (cell.network != "loopback")
