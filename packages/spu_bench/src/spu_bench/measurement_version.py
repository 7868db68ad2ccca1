"""Whether a stored latency can be reused: the version of what is timed."""

from __future__ import annotations

MEASUREMENT_VERSION = 1
"""The version of what is timed, kept in every record. The harness reuses records of this version only.

Raise it when the same cell would take other seconds, rounds or bytes, or give other logits, than before: the session
loop does other work between the start and the end of the clock, a backend sets other defaults, the link or its shaping
changes, what is counted changes. All records of older versions are then measured again when they are next asked for.

Leave it where the numbers stay the same: a rename, a message, a comment, a new option that defaults to what was done
before, a new field of the record. `tests/timed_files.py` lists the files whose change needs this decision.
"""
