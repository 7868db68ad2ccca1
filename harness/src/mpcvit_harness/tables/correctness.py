"""Columns of tables that study failures: how many inferences gave wrong logits, and how far the others are off."""

from __future__ import annotations

import numpy as np

from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables.table import Column, Entry


def errors(run: StoredRun) -> list[float]:
    """The largest logit error of each inference."""
    accuracy = run.record.accuracy
    if accuracy is None:
        return []
    return accuracy.errors or [accuracy.max_abs_error]


def wrong_errors(run: StoredRun) -> list[float]:
    """Those of the inferences whose logits are wrong."""
    return [error for error in errors(run) if not error <= run.record.error_bound]


def right_errors(run: StoredRun) -> list[float]:
    """Those of the inferences whose logits are right."""
    return [error for error in errors(run) if error <= run.record.error_bound]


def correctness(run: StoredRun) -> Entry:
    """Whether the logits are those of plaintext, in words."""
    if run.record.correctness != "wrong":
        return Entry(run.record.correctness, style=run.record.correctness.replace(" ", "-"))
    return Entry(f"wrong: {len(wrong_errors(run))} of {len(errors(run))} inferences", style="wrong")


def _quantiles(run: StoredRun) -> str:
    right = right_errors(run)
    return ", ".join(f"{error:.4f}" for error in np.quantile(right, (0.5, 0.99, 1.0))) if right else ""


def correctness_columns() -> tuple[Column[StoredRun], ...]:
    """Inferences, how many of them are wrong and by how much, and the errors of the others."""
    return (
        Column("inferences", lambda run: len(errors(run)), "number", ",d"),
        Column("correctness", correctness),
        Column("wrong inferences", lambda run: len(wrong_errors(run)), "number", ",d"),
        Column("largest logit error", lambda run: max(wrong_errors(run), default=None), "number", ".3g"),
        Column("errors of the others: median, 99 %, largest", _quantiles),
    )
