"""Does it matter which heads a budget keeps? Random placements of 14 ReLU-Softmax heads on CIFAR-10.

The paper's searched plans are lost, so its MPCViT rows are measured on plans with the right number of heads (see
`mpcvit_harness.paper_models`). This checks that choice: while heads run one after another, the spread over random
placements is below 2 %. `balanced` has two heads a layer, `front` all heads of the first layers, `random_SEED` what a
random ranking of all heads keeps at mu = .5.

Expected: 1 inference a cell of 58 to 59 s, about 7 minutes.
    pytest harness/experiments/paper_placements.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.paper_models import CIFAR10, TOY, cells, kept, labelled, packed, placed_at_random, smoke, spread
from spu_bench import RunRecord

LAYERS, HEADS = CIFAR10.grid
ON = kept(LAYERS, HEADS, 0.5)

PLANS = {
    "balanced": spread(LAYERS, HEADS, ON),
    "front": packed(LAYERS, HEADS, ON),
    **{f"random_{seed}": placed_at_random(LAYERS, HEADS, 0.5, seed) for seed in (1, 2, 3)},
}

CELLS = [
    *smoke(
        "paper_placements",
        {"front": labelled(TOY.model("mix", heads=packed(*TOY.grid, kept(*TOY.grid, 0.5))), placement="front")},
    ),
    *cells(
        "paper_placements",
        {name: labelled(CIFAR10.model("mix", heads=plan), mu="0.5", placement=name) for name, plan in PLANS.items()},
        repeats=1,
        timeout_s=1800,
    ),
]


def test_measured_over_a_probed_link(cell: Cell, record: RunRecord) -> None:
    """Every inference was timed, and a shaped link was seen before and after it."""
    assert len(record.samples_s) == cell.repeats
    assert bool(record.link_before and record.link_after) is (cell.network != "loopback")
