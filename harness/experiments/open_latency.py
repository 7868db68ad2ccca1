"""The open division's seconds: one image of CIFAR's ViT on tuned kernels.

Softmax, a mix of ReLU-Softmax and Scale at mu = 0.5, and Scale; random weights, exact GeLU, SPU 0.9.5, SEMI2K, batch 1,
SPU's default truncation and the preset `local-truncation`. The paper took 112.2 / 58.7 / 44.6 s over `wan`.

Expected: with the default truncation at most 13.5 / 12.5 / 8.5 s and 560 / 500 / 320 rounds. Twelve minutes.
    pytest harness/experiments/open_latency.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.open_models import cifar, smoke
from spu_bench import Options, RunRecord

ROUNDS = {"softmax": 560, "mix": 500, "scale": 320}
MODES = ("exact", "local-truncation")

CELLS = [
    *(
        Cell(
            experiment="open_latency",
            name=f"{mode}-{attention}",
            model=cifar(attention),
            network="wan",
            options=Options.load(mode),
            repeats=6,
            scale="paper",
            labels={"attention": attention, "options": mode},
        )
        for mode in MODES
        for attention in ROUNDS
    ),
    smoke("open_latency", "mix", cifar("mix")),
]


def test_rounds_and_logits(cell: Cell, record: RunRecord) -> None:
    assert record.accuracy is not None and record.accuracy.max_abs_error < 0.02
    assert record.rounds <= ROUNDS[cell.labels["attention"]]
