"""The progress of a run: one line before each cell, the same on a terminal and in a log."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from datetime import timedelta

from mpcvit_harness.cells import AnyCell


class Progress:
    """The cells of one run: which are done, and the expected time of the rest."""

    def __init__(
        self, cells: Iterable[AnyCell], expect: Callable[[AnyCell], float | None], say: Callable[[str], None]
    ) -> None:
        self._expected = {cell.key: expect(cell) for cell in cells}
        self._took: dict[str, float] = {}
        self._say = say

    def begin(self, cell: AnyCell) -> None:
        """Say which cell is next, and the expected time of this one and of all that are left."""
        left = self.left_s()
        time_left = "time left not known" if left is None else f"{_clock(left)} left"
        expected = self._expected.get(cell.key)
        own = "" if expected is None else f" ({_clock(expected)} expected)"
        self._say(f"cell {len(self._took) + 1} of {len(self._expected)}, {time_left}: {cell.experiment}/{cell.id}{own}")

    def end(self, cell: AnyCell, seconds: float) -> None:
        """Note that `cell` is done: measured, or found in the store."""
        self._took[cell.key] = seconds

    def left_s(self) -> float | None:
        """Expected seconds of all cells that are not done; a cell with none counts as the mean of those done so far."""
        measured = statistics.mean(self._took.values()) if self._took else None
        rest = [
            measured if expected is None else expected
            for key, expected in self._expected.items()
            if key not in self._took
        ]
        known = [seconds for seconds in rest if seconds is not None]
        return sum(known) if len(known) == len(rest) else None


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
