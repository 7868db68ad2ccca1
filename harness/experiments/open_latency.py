"""The open division's seconds: one image of CIFAR's ViT on the kernels `tuned` and `tuned_fxp`.

Softmax, a mix of ReLU-Softmax and Scale at mu = 0.5, and Scale; random weights, exact GeLU, SPU 0.9.5, SEMI2K, batch 1.
`tuned` computes on whole ring numbers, with exact truncation; `tuned_fxp` on SPU's fixed point, with exact truncation
and with the preset `local-truncation`. The paper took 112.2 / 58.7 / 44.6 s over `wan`.

Expected: `tuned` takes at most 9.5 / 9.0 / 6.0 s and 345 / 335 / 195 rounds. Fourteen minutes.
    pytest harness/experiments/open_latency.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.open_models import cifar, smoke
from spu_bench import Options, RunRecord

ROUNDS = {
    "tuned": {"softmax": 345, "mix": 335, "scale": 195},
    "tuned_fxp": {"softmax": 560, "mix": 500, "scale": 320},
}
WAYS = {
    "exact": ("tuned", "exact"),
    "fxp-exact": ("tuned_fxp", "exact"),
    "fxp-local-truncation": ("tuned_fxp", "local-truncation"),
}

CELLS = [
    *(
        Cell(
            experiment="open_latency",
            name=f"{way}-{attention}",
            model=cifar(attention, kernels=kernels),
            network="wan",
            options=Options.load(options),
            repeats=6,
            scale="paper",
            labels={"attention": attention, "kernels": kernels, "options": options},
        )
        for way, (kernels, options) in WAYS.items()
        for attention in ROUNDS[kernels]
    ),
    smoke("open_latency", "mix", cifar("mix", kernels="tuned")),
    smoke("open_latency", "fxp-mix", cifar("mix")),
]


def test_rounds_and_logits(cell: Cell, record: RunRecord) -> None:
    assert record.accuracy is not None and record.accuracy.max_abs_error < 0.02
    assert record.rounds <= ROUNDS[cell.labels["kernels"]][cell.labels["attention"]]
