"""The effect of each part of the tuned kernels: all of them, and all but one.

CIFAR's ViT with Softmax and with Scale, random weights, exact GeLU, SPU 0.9.5, SEMI2K over `wan`. The label `part`
names what is left out of an otherwise equal Program (`vit_models.kernels.tuned_fxp.PARTS`); the preset
`local-truncation` leaves out `exact truncation`. Scale does not use the exponential and the octaves.

Expected: the quartic GeLU has the largest effect, some 400 rounds. About 20 minutes.
    pytest harness/experiments/open_ablation.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from typing import Any

from mpcvit_harness.cells import Cell, ModelSpec
from mpcvit_harness.open_models import cifar, smoke
from spu_bench import Options, RunRecord
from vit_models.kernels.tuned_fxp import PARTS

SOFTMAX_ALONE = {"exponential", "octaves"}


def variants(attention: str) -> dict[str, tuple[ModelSpec, dict[str, Any]]]:
    """Model and settings by the part that is left out."""
    parts = [part for part in PARTS if attention == "softmax" or part not in SOFTMAX_ALONE]
    return {
        "nothing": (cifar(attention), {}),
        **{part: (cifar(attention, without=part), {}) for part in parts},
        "exact truncation": (cifar(attention), {"options": Options.load("local-truncation")}),
    }


CELLS = [
    *(
        Cell(
            experiment="open_ablation",
            name=f"{attention}-without-{name.replace(' ', '_')}",
            model=model,
            network="wan",
            repeats=3,
            scale="paper",
            labels={"attention": attention, "part": name},
            **run,
        )
        for attention in ("softmax", "scale")
        for name, (model, run) in variants(attention).items()
    ),
    *(
        smoke("open_ablation", f"without-{name.replace(' ', '_')}", model, labels={"part": name}, **run)
        for name, (model, run) in variants("softmax").items()
    ),
]


def test_logits_are_those_of_plaintext(cell: Cell, record: RunRecord) -> None:
    """SPU's own exponential has larger errors for scores far below zero; here no row's own maximum is subtracted."""
    limit = 0.5 if cell.labels.get("part") == "exponential" else 0.1
    assert record.accuracy is not None and record.accuracy.max_abs_error < limit
