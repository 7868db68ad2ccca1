"""Where the seconds of a ViT block go, under SEMI2K and under Cheetah; and those of Softmax.

The paper (Figure 1, latency breakdown of a Transformer block; its numbers could not be read): Softmax and GeLU
dominate under both protocols, and inside Softmax the maximum, the exponential and the reciprocal each matter. A cell is
one block of the CIFAR-10 model between its patch embedding and its last linear map. What a function takes is the
difference to the block without it: `softmax` - `scale` for Softmax, `softmax` - `no_gelu` for GeLU; `bare` has neither.
Inside Softmax the operations of the runtime's own profile are apart: `reduce` (the maximum with its comparisons; sums
are local), `exponential`, `divide` (in this block all divisions are Softmax's).

Expected: 3 inferences a cell of 6 to 17 s under SEMI2K, 1 of a minute or two under Cheetah; about 15 minutes.
    pytest harness/experiments/paper_breakdown.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.formulas import operation_name
from mpcvit_harness.paper_models import CIFAR10, TOY, cells, labelled, smoke
from spu_bench import RunRecord

ONE_BLOCK: dict[str, int | float] = {"layers": 1}

BLOCKS = {
    "softmax": labelled(CIFAR10.model("softmax", overrides=ONE_BLOCK), part="nothing"),
    "relu_softmax": labelled(CIFAR10.model("relu_softmax", overrides=ONE_BLOCK), part="nothing"),
    "scale": labelled(CIFAR10.model("scale", overrides=ONE_BLOCK), part="nothing"),
    "no_gelu": labelled(CIFAR10.model("softmax", gelu="identity", overrides=ONE_BLOCK), part="gelu"),
    "bare": labelled(CIFAR10.model("scale", gelu="identity", overrides=ONE_BLOCK), part="gelu"),
}

CELLS = [
    *smoke("paper_breakdown", {"softmax": labelled(TOY.model("softmax"), part="nothing")}),
    *cells("paper_breakdown", BLOCKS, timeout_s=900),
    *cells(
        "paper_breakdown",
        {f"cheetah-{name}": model for name, model in BLOCKS.items()},
        repeats=1,
        protocol="cheetah",
        runtime="0.9.5",
        timeout_s=1800,
    ),
]


def test_the_profile_separates_the_functions(cell: Cell, record: RunRecord) -> None:
    """A block with Softmax exponentiates, divides and compares in its reductions; one without does not divide."""
    calls = {operation_name(operation): operation.calls for operation in record.parties[0].operations}
    heads = CIFAR10.grid[1]
    attention = cell.labels["attention"]
    assert calls.get("exponential", 0) == (heads if attention == "softmax" else 0)
    assert calls.get("divide", 0) == (0 if attention == "scale" else heads)
    assert calls.get("tanh", 0) == (1 if cell.labels["part"] == "nothing" else 0)
