"""The worth of the search: searched heads against as many at random, and against the same share of every layer.

The paper (Pareto figures, "w/o per-layer search", which we read as one share for every layer): at equal mu 0.07 to 0.24
points below MPCViT on CIFAR-10. A random placement, which the paper does not have, is the baseline of any search.

Expected: `reduced`, three seeds of Fashion-MNIST, 40 minutes beyond `accuracy_main`; `paper` days a data set.
    pytest harness/experiments/accuracy_placements.py --scale reduced --results results
"""

from __future__ import annotations

from mpc_search.record import TrainingRecord
from mpcvit_harness.cells import TrainingCell
from mpcvit_harness.paper_models import kept
from mpcvit_harness.trainings import trainings

PLACED = ("mpcvit-*-none", "random-*", "per_layer-*")

CELLS = [
    *trainings("accuracy_placements", "digits", "smoke", "random-0.5"),
    *trainings("accuracy_placements", "reduced", "reduced", *PLACED),
    *trainings("accuracy_placements", "cifar10", "paper", *PLACED),
    *trainings("accuracy_placements", "cifar100", "paper", *PLACED),
    *trainings("accuracy_placements", "tiny_imagenet", "paper", *PLACED),
]

RULES = {"mpcvit": "global", "random": "random", "per_layer": "per_layer"}


def test_the_budget_is_kept(cell: TrainingCell, record: TrainingRecord) -> None:
    """As many heads as the paper's rule keeps, placed as the cell says."""
    rule, mu, *_ = cell.run.split("-")
    assert record.budget is not None and record.model is not None and record.plan is not None
    assert (record.budget.rule, record.budget.mu) == (RULES[rule], float(mu))
    layers, heads = record.model.config.layers, record.model.config.heads
    wanted = layers * kept(1, heads, float(mu)) if rule == "per_layer" else kept(layers, heads, float(mu))
    assert sum(sum(layer.on) for layer in record.plan.attention or ()) == wanted
