"""The public names of each package, read from its source with griffe; nothing is imported.

Public are the names in `__all__` of the package, and those of the submodules that its docstring names in backquotes
(`spu_bench.record`): their `__all__`, or without one what they define themselves under a name without an underscore.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

import griffe
from common import SOURCES


@cache
def loaded() -> griffe.ModulesCollection:
    """All four packages, with the imports between them resolved."""
    loader = griffe.GriffeLoader(search_paths=[str(folder) for folder in SOURCES.values()], allow_inspection=False)
    for package in SOURCES:
        loader.load(package)
    loader.resolve_aliases(implicit=True, external=False)
    return loader.modules_collection


@cache
def modules(package: str) -> dict[str, griffe.Module]:
    """The public modules of a package by their dotted names: itself, then those that its docstring names.

    Raises:
        SystemExit: the docstring names a module that does not exist.
    """
    top = loaded()[package]
    text = top.docstring.value if top.docstring else ""
    found = {package: top}
    for name in dict.fromkeys(re.findall(rf"`({package}(?:\.\w+)+)`", text)):
        try:
            found[name] = loaded()[name]
        except KeyError:
            raise SystemExit(f"the docstring of {package} names {name}, which does not exist") from None
    return found


def names(module: griffe.Module) -> list[str]:
    """The public names of a module, in the order of the alphabet."""
    if module.exports is not None:
        return sorted(str(name) for name in module.exports)
    return sorted(
        name
        for name, member in module.members.items()
        if not name.startswith("_") and not member.is_alias and not member.is_module
    )


def definition(module: griffe.Module, name: str) -> griffe.Object | None:
    """What a public name stands for; None where the source does not say."""
    try:
        member = module.members[name]
        return member.final_target if isinstance(member, griffe.Alias) else member
    except (KeyError, griffe.AliasResolutionError):
        return None


def members(cls: griffe.Class) -> Iterator[griffe.Object]:
    """The public methods and fields that a class defines itself, in the order of the source."""
    for name, member in cls.members.items():
        if isinstance(member, griffe.Object) and not name.startswith("_") and name != "model_config":
            yield member
