"""Who holds what, and what it costs: weights shared, private to the server, or public; the image shared or private.

CIFAR's ViT on tuned kernels, random weights, SPU 0.9.5, SEMI2K. `shared`: weights and image are shares from the start.
`private`: each stays in plaintext with its owner until it is combined with secret values. `public`: an open model and a
private image, so that products with weights need no communication; `public-private` keeps the image with the client as
well.

Expected: private costs as much as shared, since SEMI2K makes shares without a message. Public weights save the bytes of
opening them; rounds stay about the same, since LayerNorm's squares then have a call of their own. About 12 minutes.
    pytest harness/experiments/open_holders.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from typing import Any

from mpcvit_harness.cells import Cell
from mpcvit_harness.open_models import cifar, smoke
from spu_bench import Options, RunRecord

PRIVATE = Options.load("private")
HOLDINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "shared": ({}, {}),
    "private": ({}, {"options": PRIVATE}),
    "public": ({"weights_held": "public"}, {}),
    "public-private": ({"weights_held": "public"}, {"options": PRIVATE}),
}
"""By name, how the model is exported and how it is run."""

CELLS = [
    *(
        Cell(
            experiment="open_holders",
            name=f"{holding}-{attention}",
            model=cifar(attention, **export),
            network=network,
            repeats=3,
            scale="paper",
            labels={"attention": attention, "held": holding},
            **run,
        )
        for holding, (export, run) in HOLDINGS.items()
        for attention in ("softmax", "scale")
        for network in ("wan", "loopback")
    ),
    *(smoke("open_holders", holding, cifar("softmax", **export), **run) for holding, (export, run) in HOLDINGS.items()),
]


def test_logits_are_those_of_plaintext(record: RunRecord) -> None:
    assert record.accuracy is not None and record.accuracy.max_abs_error < 0.02
