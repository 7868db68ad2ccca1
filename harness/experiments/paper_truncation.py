"""The failures of the old local truncation: many inferences of one image, each with fresh shares.

SPU 0.3.1b0 lets each party truncate its own share (SecureML), without a message. The result is wrong by a huge value
where the shares wrap around the ring: for |x| < 2^l, after a product in the ring of 2^64, with a chance of about
2^(l - 63) a value. The paper does not mention it. This counts logits further than 1 from plaintext, with the CIFAR-10
and the Tiny-ImageNet model and random weights. A record with one has the status "wrong", and is a result here.

Expected: about one of 200 at CIFAR's size, one of 20 at Tiny's. On loopback, since truncation does not depend on the
network: 15 minutes for CIFAR, 5 for Tiny.
    pytest harness/experiments/paper_truncation.py --executor loopback --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.paper_models import CIFAR10, RUNTIME, TINY, TOY, labelled, smoke
from spu_bench import RunRecord

CELLS = [
    *smoke("paper_truncation", {"scale": labelled(TOY.model("scale"), dataset=TOY.name)}, may_be_wrong=True),
    *(
        Cell(
            experiment="paper_truncation",
            name=f"{data.name}-{attention}",
            model=data.model(attention),
            runtime=RUNTIME,
            warmup=0,
            repeats=repeats,
            timeout_s=3600,
            scale="paper",
            may_be_wrong=True,
            labels={"dataset": data.name, "attention": attention},
        )
        for data, attention, repeats in (
            (CIFAR10, "scale", 300),
            (CIFAR10, "softmax", 100),
            (TINY, "scale", 20),
        )
    ),
]


def test_every_inference_has_logits(cell: Cell, record: RunRecord) -> None:
    """All of them are in the record, right or wrong."""
    assert record.logits is not None and len(record.logits) == cell.repeats
