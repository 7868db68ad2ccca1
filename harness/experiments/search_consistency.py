"""The consistency of the search: alphas with another lambda, seed, architecture and data set.

The paper (figure of the search's consistency; it could not be read): which heads are kept hardly depends on lambda, the
weight of the penalty. Here: rank correlations (Spearman) of all alphas, between lambda 1e-6 to 1e-3, between seeds,
between a model and one that is half as wide again, and between CIFAR-10 and CIFAR-100, whose models have one shape. The
claims have them; so does `mpc-search summary results/<machine>/<sweep>`.

Expected: `reduced`, three seeds of Fashion-MNIST, half an hour on two cores; `paper` days a data set.
    pytest harness/experiments/search_consistency.py --scale reduced --results results
"""

from __future__ import annotations

import numpy as np

from mpc_search.record import TrainingRecord
from mpcvit_harness.cells import TrainingCell
from mpcvit_harness.trainings import trainings

LAMBDAS = ("search-1e-05", "search-1e-06", "search-0.0001", "search-0.001")

CELLS = [
    *trainings("search_consistency", "digits", "smoke", "search-1e-05", "search-wide"),
    *trainings("search_consistency", "reduced", "reduced", *LAMBDAS),
    *trainings("search_consistency", "shapes", "reduced", "search-wide"),
    *trainings("search_consistency", "cifar10", "paper", *LAMBDAS, "search-wide"),
    *trainings("search_consistency", "cifar100", "paper", *LAMBDAS),
]


def test_alphas_rank_the_heads(cell: TrainingCell, record: TrainingRecord) -> None:
    """One a head, and no two the same, so that a rank correlation has a meaning."""
    alphas = np.asarray(record.alpha)
    assert record.model is not None
    config = record.model.config
    assert alphas.shape == (config.layers, config.heads) and len(np.unique(alphas)) == alphas.size
    assert cell.run.startswith("search-wide") or record.config.search.weight == float(
        cell.run.removeprefix("search-").rpartition("-s")[0]
    )
