"""The records of a sweep together: mean and deviation over seeds, contrasts, and correlations of alphas."""

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
class SeedSummary:
    """The test accuracies of one kind of run, by seed; their mean and standard deviation (0 for one seed)."""

    name: str
    accuracies: dict[int, float]

    @property
    def mean(self) -> float:
        """The mean."""
        return statistics.fmean(self.accuracies.values())

    @property
    def deviation(self) -> float:
        """The standard deviation; 0 for a single value."""
        return statistics.stdev(self.accuracies.values()) if len(self.accuracies) > 1 else 0.0


@dataclass(frozen=True)
class Contrast:
    """The accuracy of one kind of run minus that of another, for each seed that both have."""

    better: str
    worse: str
    differences: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean."""
        return statistics.fmean(self.differences)

    @property
    def deviation(self) -> float:
        """The standard deviation; 0 for a single value."""
        return statistics.stdev(self.differences) if len(self.differences) > 1 else 0.0


def load_records(folder: Path) -> list[TrainingRecord]:
    """Every good training record in `folder`. Raises SearchError when there is none."""
    records = [TrainingRecord.load(path) for path in sorted(folder.glob(f"*{SUFFIX}"))]
    good = [record for record in records if record.status == "ok"]
    if not good:
        raise SearchError(f"There are no training records in {folder}.", "give a folder results/MACHINE/SWEEP.")
    return good


def seed_summaries(records: Iterable[TrainingRecord]) -> dict[str, SeedSummary]:
    """The summary of each kind of run, by the name of its runs without the seed, sorted by name."""
    found: dict[str, dict[int, float]] = {}
    for record in records:
        if record.test is not None and record.stage != "evaluate":
            found.setdefault(_SEED.sub("", record.name), {})[record.seed] = record.test.accuracy
    return {name: SeedSummary(name, found[name]) for name in sorted(found)}


def contrast(known: dict[str, SeedSummary], better: str, worse: str) -> Contrast | None:
    """The contrast of two kinds of runs; None when they have no seed in common."""
    if better not in known or worse not in known:
        return None
    one, other = known[better].accuracies, known[worse].accuracies
    seeds = sorted(set(one) & set(other))
    return Contrast(better, worse, tuple(one[seed] - other[seed] for seed in seeds)) if seeds else None


def contrasts(known: dict[str, SeedSummary]) -> list[Contrast]:
    """The paper's comparisons that the runs allow: attention, distillation, placement, granularity."""
    pairs = [("relu_softmax", "scale"), ("teacher", "relu_softmax")]
    for name in known:
        if (match := re.fullmatch(r"mpcvit-([\d.]+)-none", name)) is not None:
            mu = match[1]
            pairs.append((f"mpcvit-{mu}-both", name))
            pairs += [(name, f"{rule}-{mu}") for rule in ("random", "per_layer", "layer", "row")]
    return [found for pair in pairs if (found := contrast(known, *pair)) is not None]


def alpha_correlations(records: Iterable[TrainingRecord]) -> dict[tuple[str, str], float]:
    """Spearman's rank correlation of the alphas of two searches, for every two searches of one shape.

    The first of two names is the one that sorts first. A search whose alphas are all equal is left out.
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


def format_summary(records: list[TrainingRecord]) -> str:
    """Accuracies (in per cent), contrasts and correlations as lines of text."""
    known = seed_summaries(records)
    lines = ["test accuracy, mean ± s.d. (seeds)"]
    lines += [
        f"  {s.name:<28} {100 * s.mean:6.2f} ± {100 * s.deviation:4.2f} ({len(s.accuracies)})" for s in known.values()
    ]
    lines.append("differences, seed by seed")
    lines += [
        f"  {c.better} - {c.worse}: {100 * c.mean:+.2f} ± {100 * c.deviation:.2f} ({len(c.differences)})"
        for c in contrasts(known)
    ]
    if pairs := alpha_correlations(records):
        lines.append("rank correlation of alphas")
        lines += [f"  {one} and {other}: {value:+.2f}" for (one, other), value in pairs.items()]
    return "\n".join(lines)
