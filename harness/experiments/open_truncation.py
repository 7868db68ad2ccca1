"""The failures of truncation in a thousand inferences of each mode, and the errors of all others.

The small ViT that the main job trained, on 200 test images five times, each inference with fresh shares, SPU 0.9.5,
SEMI2K on loopback: truncation does not depend on the network. SPU's default truncates with a round. `local-truncation`
lets each party shift its own share; the result is wrong by a huge value where the shares wrap around the ring: for
|x| < 2^l after a product, with a chance of about 2^(l - 63) a value. A failure is a logit further than 1 from
plaintext; a record with one has the status "wrong", and is a result here.

Expected: no failure of the default. Half an hour.
    mpc-search retrain --get-data --model vit_4_4_28 --attention mix --out build/checkpoints/vit_4_4_28
    pytest harness/experiments/open_truncation.py --executor loopback --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.open_models import TRAINED, cifar, smoke
from spu_bench import Options, RunRecord

MODES = ("exact", "local-truncation")

CELLS = [
    *(
        Cell(
            experiment="open_truncation",
            name=f"{name}-{mode}",
            model=TRAINED.model_copy(update={"kernels": kernels}),
            options=Options.load(mode),
            images=200,
            repeats=5,
            timeout_s=10_800,
            scale="paper",
            may_be_wrong=True,
            labels={"attention": "mix", "kernels": kernels, "options": mode, "run": "vit_4_4_28"},
        )
        for name, kernels in (("tuned", "tuned_fxp"), ("plain", "plain"))
        for mode in MODES
    ),
    *(
        smoke("open_truncation", mode, cifar("scale"), options=Options.load(mode), repeats=20, may_be_wrong=True)
        for mode in MODES
    ),
]


def test_every_inference_is_in_the_record(cell: Cell, record: RunRecord) -> None:
    """All of them, right or wrong, with their errors."""
    assert record.accuracy is not None and record.accuracy.errors is not None
    assert len(record.accuracy.errors) == cell.batches * cell.repeats
