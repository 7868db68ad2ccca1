"""The one error that users see."""

from __future__ import annotations


class SearchError(Exception):
    """A failure whose message says in one line what is wrong and what to do about it."""
