"""Whoever changes what is timed has to look at MEASUREMENT_VERSION; nobody else has."""

from __future__ import annotations

import pytest
import timed_files
from timed_files import changed, code_hash


def test_a_change_of_what_is_timed_was_looked_at() -> None:
    """It fails when the code of a timed file changes, until the change is accepted."""
    files = changed()
    assert not files, (
        f"The code of {', '.join(files)} has changed. Decide: would the same cell take other seconds, rounds or bytes, "
        "or give other logits, than before? Then raise MEASUREMENT_VERSION in spu_bench/measurement_version.py: all "
        "records are measured again. Otherwise leave it. Fix: python packages/spu_bench/tests/timed_files.py accept"
    )


SOURCE = '''
"""What it is."""

def timed(x):
    """What it does."""
    return x + 1  # one more
'''


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("What it is.", "What it will be.", True),
        ("What it does.", "What it did.", True),
        ("# one more", "# another", True),
        ("def timed(x):", "\n\ndef timed(\n    x,\n):", True),
        ("x + 1", "x + 2", False),
        ("return x", "print(x)\n    return x", False),
    ],
)
def test_only_code_counts(before: str, after: str, same: bool) -> None:
    """Comments, docstrings and layout do not."""
    assert SOURCE.count(before) == 1
    assert (code_hash(SOURCE) == code_hash(SOURCE.replace(before, after))) is same


def test_a_pattern_without_a_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was moved would otherwise not be looked at any more."""
    monkeypatch.setattr(timed_files, "TIMED", ("no_such_file.py",))
    with pytest.raises(ValueError, match=r"no_such_file\.py"):
        timed_files.timed_files()
