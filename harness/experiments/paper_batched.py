"""The same models with the heads of a layer in one batched call: what remains of the paper's budget axis?

Not a table of the paper. Its latency is linear in the number of ReLU-Softmax heads because its heads run one after
another. A port that batches the heads of one kind, like the attention of any library, pays by layer: one ReLU-Softmax
head then costs as much as four. `heads_1` to `heads_4` have that many in every layer, `main-` are the rows of
`paper_cifar10`. `packed-` are their budgets with the heads packed into as few layers as can hold them, which costs less
with batching, and the same without.

Expected: 1 inference a cell, shorter than those of `paper_cifar10`; about 20 minutes.
    pytest harness/experiments/paper_batched.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.paper_models import (
    BUDGETS,
    CIFAR10,
    TOY,
    Models,
    cells,
    kept,
    labelled,
    main_rows,
    packed,
    smoke,
    spread,
)
from spu_bench import RunRecord

LAYERS, HEADS = CIFAR10.grid

MODELS: Models = {
    **main_rows(CIFAR10),
    **{
        f"heads_{heads}": labelled(
            CIFAR10.model("mix", heads=spread(LAYERS, HEADS, LAYERS * heads)), form=f"heads_{heads}"
        )
        for heads in range(1, HEADS + 1)
    },
    **{
        f"packed-mpcvit_{mu}": labelled(
            CIFAR10.model("mix", heads=packed(LAYERS, HEADS, kept(LAYERS, HEADS, mu))), mu=str(mu), placement="packed"
        )
        for mu in BUDGETS
    },
}

# `plain` with tanh GeLU is `paper` without the loop over heads
CELLS = [
    *smoke(
        "paper_batched", {"heads_2": labelled(TOY.mpcvit(0.5).model_copy(update={"kernels": "plain"}), form="heads_2")}
    ),
    *cells(
        "paper_batched",
        {name: model.changed(kernels="plain") for name, model in MODELS.items()},
        repeats=1,
        timeout_s=1800,
    ),
]


def test_measured_over_a_probed_link(cell: Cell, record: RunRecord) -> None:
    """Every inference was timed, and a shaped link was seen before and after it."""
    assert len(record.samples_s) == cell.repeats
    assert bool(record.link_before and record.link_after) is (cell.network != "loopback")
