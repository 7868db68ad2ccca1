"""Every public name has a docstring: modules, classes with their methods, functions, constants."""

from __future__ import annotations

from collections.abc import Iterator

import griffe
import public
from common import ROOT, SOURCES, Finding


def _finding(item: griffe.Object, text: str) -> Finding:
    path = item.filepath
    assert not isinstance(path, list)
    return Finding(str(path.relative_to(ROOT)), item.lineno or 1, text)


def _without(name: str, item: griffe.Object) -> Iterator[Finding]:
    """What of a public name, and of its methods, has no docstring."""
    if not item.docstring:
        yield _finding(item, f"{name} is public and has no docstring")
    if isinstance(item, griffe.Class):
        for member in public.members(item):
            is_field = isinstance(member, griffe.Attribute) and "property" not in member.labels
            if not is_field and not member.docstring:
                yield _finding(member, f"{name}.{member.name} is public and has no docstring")


def check() -> list[Finding]:
    """Every public name without a docstring, or without a definition."""
    found = set()
    for package in SOURCES:
        for dotted, module in public.modules(package).items():
            if not module.docstring:
                found.add(_finding(module, f"the public module {dotted} has no docstring"))
            for name in public.names(module):
                if name.startswith("__"):
                    continue
                item = public.definition(module, name)
                if item is None:
                    found.add(_finding(module, f"{dotted}.{name} is exported and defined nowhere"))
                else:
                    found |= set(_without(f"{dotted}.{name}", item))
    return sorted(found)
