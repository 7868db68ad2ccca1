"""Two sets of records, cell by cell: how far apart their medians are, and whether that is more than chance."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import comb
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from scipy.stats import mannwhitneyu

from mpcvit_harness.tables import markdown
from spu_bench import RunRecord
from spu_bench.samples import LEAST_SAMPLES, resampled_medians

ALPHA = 0.05


@dataclass(frozen=True)
class Difference:
    """One cell measured twice; seconds of `b` against those of `a`."""

    cell: str
    a: RunRecord
    b: RunRecord

    @property
    def medians(self) -> tuple[float, float]:
        """Seconds."""
        assert self.a.statistics is not None and self.b.statistics is not None
        return self.a.statistics.median, self.b.statistics.median

    @property
    def interval_95(self) -> tuple[float, float] | None:
        """Bootstrap interval of the difference of the medians in seconds; None with too few samples for a median's."""
        if min(len(self.a.samples_s), len(self.b.samples_s)) < LEAST_SAMPLES:
            return None
        apart = resampled_medians(self.b.samples_s, seed=1) - resampled_medians(self.a.samples_s, seed=0)
        low, high = np.quantile(apart, (ALPHA / 2, 1 - ALPHA / 2))
        return float(low), float(high)

    @property
    def p(self) -> float:
        """Two-sided p of Mann and Whitney's test: exact for few samples without ties."""
        return float(mannwhitneyu(self.a.samples_s, self.b.samples_s).pvalue)

    @property
    def verdict(self) -> str:
        """Whether the samples differ: by the test, where it has samples enough to ever say so."""
        n, m = len(self.a.samples_s), len(self.b.samples_s)
        if 2 / comb(n + m, n) > ALPHA:
            return "too few samples"
        return "different" if self.p < ALPHA else "no difference seen"


def compare(a: str, b: str) -> list[Difference]:
    """What both sides have a valid record of, by the records' places below them.

    A side is a folder of records, or a revision of the git repository that this is called in: its `results`.
    Raises ValueError, with the fix, where it is neither, or where the two have no cell in common.
    """
    with _records(a) as first, _records(b) as second:
        both = [Difference(name.rsplit(".", 2)[0], first[name], second[name]) for name in first if name in second]
    if not both:
        raise ValueError(
            f"{a} and {b} have no valid record of the same cell. Fix: give the folders of two machines, or two "
            "revisions with records below results"
        )
    return both


def table(differences: list[Difference]) -> str:
    """The comparison as a Markdown table."""
    rows = []
    for difference in differences:
        one, other = difference.medians
        interval = difference.interval_95
        rows.append(
            (
                difference.cell,
                f"{one:.3f} (n = {len(difference.a.samples_s)})",
                f"{other:.3f} (n = {len(difference.b.samples_s)})",
                f"{other - one:+.3f} ({(other - one) / one:+.1%})",
                "" if interval is None else f"[{interval[0]:+.3f}, {interval[1]:+.3f}]",
                f"{difference.p:.3f}",
                difference.verdict,
                _both(difference.a.rounds, difference.b.rounds),
                _both(f"{max(difference.a.sent_bytes) / 1e6:.1f}", f"{max(difference.b.sent_bytes) / 1e6:.1f}"),
            )
        )
    head = ("cell", "A: median s", "B: median s", "B - A, s", "95 %", "p", "", "rounds", "MB sent by a party")
    return markdown(head, rows)


def _both(a: object, b: object) -> str:
    return str(a) if a == b else f"{a} -> {b}"


@contextmanager
def _records(side: str) -> Iterator[dict[str, RunRecord]]:
    """The valid records of one side by their paths below it."""
    if Path(side).is_dir():
        yield dict(_valid(Path(side)))
        return
    command = ["git", "archive", "--format=tar", side, "--", "results"]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise ValueError(
            f"{side} is neither a folder nor a revision with results. Fix: give results/MACHINE, or a commit"
        )
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
        yield dict(_valid(Path(folder) / "results"))


def _valid(folder: Path) -> Iterator[tuple[str, RunRecord]]:
    for path in sorted(folder.rglob("*.json")):
        try:
            record = RunRecord.load(path)
        except ValidationError:
            continue  # no record: the report shows it, and why
        if record.status == "ok" and record.samples_s:
            yield path.relative_to(folder).as_posix(), record
