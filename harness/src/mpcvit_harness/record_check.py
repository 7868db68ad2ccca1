"""What a record of the right form can still contradict: such a file is listed with the reason, and never counts."""

from __future__ import annotations

import math

from mpc_search.record import TrainingRecord
from mpcvit_harness.cell_record import CellRecord
from spu_bench.samples import summarize

_ORDER_STATISTICS = ("median", "q1", "q3", "low", "high")


def contradiction(record: CellRecord) -> str:
    """Why what `record` says cannot be; empty where nothing speaks against it."""
    if not all(math.isfinite(seconds) and seconds >= 0 for seconds in record.samples_s):
        return "its samples are not all seconds"
    if record.status in ("ok", "wrong"):
        if not record.samples_s or record.statistics is None:
            return "it has no samples or no statistics"
        if not record.parties:
            return "it has no parties"
    if record.statistics is not None:
        if record.statistics.n != len(record.samples_s):
            return f"its statistics are of {record.statistics.n} samples, and it has {len(record.samples_s)}"
        expected = summarize(record.samples_s)
        for name in _ORDER_STATISTICS:
            said, follows = getattr(record.statistics, name), getattr(expected, name)
            if not math.isclose(said, follows, rel_tol=1e-9, abs_tol=1e-12):
                return f"its {name} is {said!r} s, where its samples give {follows!r} s"
    try:
        record.cell.fingerprint()
    except ValueError as error:
        return f"its cell has {error}"
    return ""


def contradiction_of_training(record: TrainingRecord) -> str:
    """As `contradiction`, for the record of a training."""
    if record.status != "ok":
        return ""
    if record.test is not None and not (0 <= record.test.accuracy <= 1 and math.isfinite(record.test.loss)):
        return f"its accuracy is {record.test.accuracy!r} and its loss {record.test.loss!r}"
    return ""
