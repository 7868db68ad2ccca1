"""Two sets of records, cell by cell: the difference of their medians, and whether it is more than chance."""

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
from scipy.stats import mannwhitneyu

from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.errors import HarnessError
from mpcvit_harness.store import read_record
from spu_bench.samples import LEAST_SAMPLES, resampled_medians

ALPHA = 0.05


@dataclass(frozen=True)
class Difference:
    """One cell measured twice: seconds of `b` against those of `a`."""

    cell: str
    a: CellRecord
    b: CellRecord

    @property
    def medians(self) -> tuple[float, float]:
        """Seconds."""
        assert self.a.statistics is not None and self.b.statistics is not None
        return self.a.statistics.median, self.b.statistics.median

    @property
    def interval_95(self) -> tuple[float, float] | None:
        """Bootstrap interval of the difference of the medians in seconds; None with too few samples for one."""
        if min(len(self.a.samples_s), len(self.b.samples_s)) < LEAST_SAMPLES:
            return None
        apart = resampled_medians(self.b.samples_s, seed=1) - resampled_medians(self.a.samples_s, seed=0)
        low, high = np.quantile(apart, (ALPHA / 2, 1 - ALPHA / 2))
        return float(low), float(high)

    @property
    def p(self) -> float:
        """Two-sided p of the Mann-Whitney test, exact for few samples without ties."""
        return float(mannwhitneyu(self.a.samples_s, self.b.samples_s).pvalue)

    @property
    def verdict(self) -> str:
        """Whether the samples differ by the test, if there are enough of them for it to find a difference."""
        n, m = len(self.a.samples_s), len(self.b.samples_s)
        if 2 / comb(n + m, n) > ALPHA:
            return "too few samples"
        return "different" if self.p < ALPHA else "no difference seen"


def compare(a: str, b: str) -> list[Difference]:
    """The cells of which both sides have a latency, by their folders and identities.

    A side is a folder of records, or a revision of the git repository in the current directory: its `results`.
    Raises HarnessError where it is neither, or where the two have no cell in common.
    """
    with _records(a) as first, _records(b) as second:
        both = [Difference(f"{key[0]}/{first[key].cell.id}", first[key], second[key]) for key in first if key in second]
    if not both:
        raise HarnessError(
            f"{a} and {b} have no valid record of the same cell",
            "give the folders of two machines, or two revisions with records below results.",
            "no_records",
        )
    return both


_Key = tuple[str, str]
"""A record's folder below its side, and the fingerprint of its cell."""


@contextmanager
def _records(side: str) -> Iterator[dict[_Key, CellRecord]]:
    """The latencies of one side."""
    if Path(side).is_dir():
        yield dict(_valid(Path(side)))
        return
    command = ["git", "archive", "--format=tar", side, "--", "results"]
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise HarnessError(
            f"{side} is neither a folder nor a revision with results", "give results/MACHINE, or a commit."
        )
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
        yield dict(_valid(Path(folder) / "results"))


def _valid(folder: Path) -> Iterator[tuple[_Key, CellRecord]]:
    for path in sorted(folder.rglob("*.json")):
        record = read_record(path)
        if isinstance(record, CellRecord) and record.status == "ok" and record.samples_s:
            yield (path.parent.relative_to(folder).as_posix(), record.cell.fingerprint()), record
