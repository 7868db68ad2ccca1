"""The paper's Tiny-ImageNet ViT on tuned kernels: 257 tokens, 12 heads, 9 layers.

`vit_9_12_64` with Softmax and with Scale, random weights, exact GeLU, SPU 0.9.5, SEMI2K over `wan`. The paper took
1370.61 s and 121.57 s. Peak memory of a party is in the record.

Expected: a tenth and a quarter of that at most, less than 8 GiB a party. About 20 minutes.
    pytest harness/experiments/open_tiny.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.open_models import cifar, smoke
from mpcvit_harness.paper_models import TINY
from spu_bench import RunRecord

GIB = 2**30

CELLS = [
    *(
        Cell(
            experiment="open_tiny",
            name=attention,
            model=cifar(attention, config=TINY.config, num_classes=TINY.classes),
            network="wan",
            repeats=2,
            timeout_s=7200,
            scale="paper",
            labels={"attention": attention, "dataset": TINY.name},
        )
        for attention in ("softmax", "scale")
    ),
    smoke("open_tiny", "softmax", cifar("softmax", num_classes=TINY.classes)),
]


def test_memory_and_logits(record: RunRecord) -> None:
    assert all(0 < party.peak_memory_bytes < 8 * GIB for party in record.parties)
    assert record.accuracy is not None and record.accuracy.max_abs_error < 0.05
