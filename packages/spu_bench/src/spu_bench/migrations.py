"""Records of older schemas, brought to the current one a version at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spu_bench.samples import summarize

CURRENT = 2

_Raw = dict[str, Any]


def migrate(raw: _Raw) -> _Raw:
    """A record's JSON value in the current schema; ValueError where no step leads from its own.

    A value without a version is one that is being made now.
    """
    version = raw.get("schema_version", CURRENT)
    while version != CURRENT:
        if version not in STEPS:
            raise ValueError(f"a record of schema {version!r}, where this code knows {min(STEPS)} to {CURRENT}")
        raw = {**STEPS[version](raw), "schema_version": version + 1}
        version += 1
    return raw


def _from_1(raw: _Raw) -> _Raw:
    """Version 2 has the median's interval from the bootstrap, where 1 had order statistics.

    What it has besides (`watch`, `overhead_s`) was not looked at before, and stays away.
    """
    samples = raw.get("samples_s")
    return {**raw, "statistics": summarize(samples).model_dump(mode="json")} if samples else raw


STEPS: dict[int, Callable[[_Raw], _Raw]] = {1: _from_1}
"""What leads from each older version to the next."""
