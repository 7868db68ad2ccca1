"""What the records of a sweep say together: mean and deviation over seeds, contrasts, and how consistent alphas are."""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from mpc_search.errors import SearchError
from mpc_search.record import SUFFIX, TrainingRecord

_SEED = re.compile(r"-s(\d+)$")


@dataclass(frozen=True)
class Point:
    """One kind of run over its seeds: test accuracy of each, their mean and standard deviation (0 for one seed)."""

    name: str
    accuracies: dict[int, float]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.accuracies.values())

    @property
    def deviation(self) -> float:
        return statistics.stdev(self.accuracies.values()) if len(self.accuracies) > 1 else 0.0


@dataclass(frozen=True)
class Contrast:
    """How much better one kind of run is than another, seed by seed: differences of accuracy, of the seeds of both."""

    better: str
    worse: str
    differences: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.differences)

    @property
    def deviation(self) -> float:
        return statistics.stdev(self.differences) if len(self.differences) > 1 else 0.0


def load_records(folder: Path) -> list[TrainingRecord]:
    """Every good training record in `folder`; raises SearchError where there is none."""
    records = [TrainingRecord.load(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    good = [record for record in records if record.status == "ok"]
    if not good:
        raise SearchError(f"There are no training records in {folder}. Fix: name results/MACHINE/SWEEP.")
    return good


def points(records: Iterable[TrainingRecord]) -> dict[str, Point]:
    """Points by the name of their runs without the seed, in the order of the names."""
    found: dict[str, dict[int, float]] = {}
    for record in records:
        if record.test is not None and record.stage != "evaluate":
            found.setdefault(_SEED.sub("", record.name), {})[record.seed] = record.test.accuracy
    return {name: Point(name, found[name]) for name in sorted(found)}


def contrast(known: dict[str, Point], better: str, worse: str) -> Contrast | None:
    """The contrast of two kinds of runs; None where they have no seed in common."""
    if better not in known or worse not in known:
        return None
    one, other = known[better].accuracies, known[worse].accuracies
    seeds = sorted(set(one) & set(other))
    return Contrast(better, worse, tuple(one[seed] - other[seed] for seed in seeds)) if seeds else None


def contrasts(known: dict[str, Point]) -> list[Contrast]:
    """The comparisons of the paper that the points allow: attention, distillation, placement, granularity."""
    pairs = [("relu_softmax", "scale"), ("teacher", "relu_softmax")]
    for name in known:
        if (match := re.fullmatch(r"mpcvit-([\d.]+)-none", name)) is not None:
            mu = match[1]
            pairs.append((f"mpcvit-{mu}-both", name))
            pairs += [(name, f"{rule}-{mu}") for rule in ("random", "per_layer", "layer", "row")]
    return [found for pair in pairs if (found := contrast(known, *pair)) is not None]


def consistency(records: Iterable[TrainingRecord]) -> dict[tuple[str, str], float]:
    """Rank correlation (Spearman) of all alphas of two searches, for every two of one shape: weights and seeds.

    The lower of the names comes first. A search whose alphas are all equal correlates with none, and is left out.
    """
    searched = {
        record.name: np.asarray(record.alpha)
        for record in records
        if record.stage == "search" and record.alpha is not None and np.ptp(record.alpha) > 0
    }
    return {
        (one, other): float(spearmanr(searched[one].ravel(), searched[other].ravel()).statistic)
        for one, other in itertools.combinations(sorted(searched), 2)
        if searched[one].shape == searched[other].shape
    }


def text(records: list[TrainingRecord]) -> str:
    """Points, contrasts and correlations as lines of text; accuracies in per cent."""
    known = points(records)
    lines = ["test accuracy, mean ± s.d. (seeds)"]
    lines += [
        f"  {p.name:<28} {100 * p.mean:6.2f} ± {100 * p.deviation:4.2f} ({len(p.accuracies)})" for p in known.values()
    ]
    lines.append("differences, seed by seed")
    lines += [
        f"  {c.better} - {c.worse}: {100 * c.mean:+.2f} ± {100 * c.deviation:.2f} ({len(c.differences)})"
        for c in contrasts(known)
    ]
    if pairs := consistency(records):
        lines.append("rank correlation of alphas")
        lines += [f"  {one} and {other}: {value:+.2f}" for (one, other), value in pairs.items()]
    return "\n".join(lines)
