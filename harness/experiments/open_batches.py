"""Many images: batches in one run, and a stream of single images between two parties that stay up.

CIFAR's ViT on tuned kernels, random weights, SPU 0.9.5, SEMI2K over `wan`. `batch_B` is B images in one inference.
`stream` is 16 inferences of one image in one session without a warm-up. Shares of the weights are made once and
nothing is compiled between inferences; the record shows it by the bytes that the server sent outside of SPU's link.

Expected: 16 images in a batch take at most four times the seconds of one image. About 25 minutes, most of it batches of
16.
    pytest harness/experiments/open_batches.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell, ModelSpec
from mpcvit_harness.open_models import cifar, smoke
from spu_bench import RunRecord
from vit_models import describe, get_config

STREAM = 16
REPEATS = {1: 3, 4: 3, 16: 2}

CELLS = [
    *(
        Cell(
            experiment="open_batches",
            name=f"batch_{batch}-{attention}",
            model=cifar(attention, batch=batch),
            network="wan",
            repeats=repeats,
            scale="paper",
            labels={"attention": attention, "images": f"batch_{batch}"},
        )
        for attention in ("softmax", "scale")
        for batch, repeats in REPEATS.items()
    ),
    *(
        Cell(
            experiment="open_batches",
            name=f"stream-{attention}",
            model=cifar(attention),
            network="wan",
            repeats=STREAM,
            warmup=0,
            scale="paper",
            labels={"attention": attention, "images": "stream"},
        )
        for attention in ("softmax", "scale")
    ),
    smoke("open_batches", "batch_2", cifar("softmax", batch=2)),
    smoke("open_batches", "stream", cifar("scale"), repeats=STREAM),
]


def test_later_images_share_no_weights(cell: Cell, record: RunRecord) -> None:
    """The server sent outside of SPU's link less than half of what sharing weights for each image would take."""
    spec = cell.model
    assert isinstance(spec, ModelSpec)
    if cell.repeats == STREAM:
        weights = describe(get_config(spec.config, num_classes=spec.num_classes, **spec.overrides)).parameters
        assert record.parties[0].shared_bytes < STREAM * 8 * weights / 2


def test_logits_are_those_of_plaintext(record: RunRecord) -> None:
    assert record.accuracy is not None and record.accuracy.max_abs_error < 0.02
