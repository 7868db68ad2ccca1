"""What each part of the tuned kernels buys: all of them, and all but one.

CIFAR's ViT with Softmax and with Scale, random weights, exact GeLU, SPU 0.9.5, SEMI2K over `wan`, in a session that
opens its weights once. `without` names the part that is left out of an otherwise equal Program
(`vit_models.kernels.tuned_fxp.PARTS`); `weights opened once` is that setting of the export, `exact truncation` is left out
by the preset `local-truncation`. Scale has no use of the exponential and the octaves.

Expected: the quartic GeLU is the largest, some 400 rounds. About 20 minutes.
    pytest harness/experiments/open_ablation.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from typing import Any

from mpcvit_harness.cells import Cell, ModelSpec
from mpcvit_harness.open_division import cifar, session, smoke
from spu_bench import RunRecord
from spu_bench.options import PRESETS
from vit_models.kernels.tuned_fxp import PARTS

SOFTMAX_ALONE = {"exponential", "octaves"}


def variants(attention: str) -> dict[str, tuple[ModelSpec, dict[str, Any]]]:
    """What runs, by what is missing."""
    parts = [part for part in PARTS if attention == "softmax" or part not in SOFTMAX_ALONE]
    return {
        "nothing": (session(attention), {}),
        **{part: (session(attention, without=part), {}) for part in parts},
        "weights opened once": (cifar(attention), {}),
        "exact truncation": (session(attention), {"options": PRESETS["local-truncation"].options}),
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
            **run,
        )
        for attention in ("softmax", "scale")
        for name, (model, run) in variants(attention).items()
    ),
    *(
        smoke("open_ablation", f"without-{name.replace(' ', '_')}", model, **run)
        for name, (model, run) in variants("softmax").items()
    ),
]


def test_logits_are_those_of_plaintext(cell: Cell, record: RunRecord) -> None:
    """SPU's own exponential errs more the further scores lie below zero, and here no row's own maximum is taken off."""
    limit = 0.5 if cell.name.endswith("without-exponential") else 0.1
    assert record.accuracy is not None and record.accuracy.max_abs_error < limit
