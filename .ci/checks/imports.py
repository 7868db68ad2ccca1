"""No package, and no example in the docs, imports an inner name of another package."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import public
from common import SOURCES, Finding, parsed, python_files, text_of, tracked


def home(path: Path) -> str | None:
    """The package whose folder holds this file: it and its tests may use the package's inner names."""
    parts = path.parts
    if parts[0] == "harness":
        return "mpcvit_harness"
    return parts[1] if parts[0] == "packages" else None


def _imported(tree: ast.Module) -> Iterator[tuple[int, str, str | None]]:
    """Line, module and name of every import; the name is None for `import module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, node.module, alias.name) for alias in node.names)


def _attributes(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Line, package and attribute wherever an attribute of a whole package is read, under whatever name it has here."""
    short = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name in SOURCES
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in short:
            yield node.lineno, short[node.value.id], node.attr


def allowed(module: str, name: str | None) -> bool:
    """Whether another package may import this name, or this module."""
    offered = public.modules(module.split(".")[0])
    if name is None or name == "*":
        return module in offered
    if f"{module}.{name}" in offered:
        return True
    return module in offered and (name in public.names(offered[module]) or name == "__version__")


def examples(page: str) -> Iterator[tuple[int, ast.Module]]:
    """The Python examples of a page of Markdown, with the line before each."""
    for block in re.finditer(r"^[ \t]*```python\n(.*?)^[ \t]*```", page, re.DOTALL | re.MULTILINE):
        yield page.count("\n", 0, block.start(1)), ast.parse(textwrap.dedent(block[1]))


def inner(path: Path, tree: ast.Module, own: str | None, before: int = 0) -> list[Finding]:
    """The imports of one syntax tree that are of inner names of a package that is not its own."""
    found = []
    for line, module, name in [*_imported(tree), *_attributes(tree)]:
        package = module.split(".")[0]
        if package in SOURCES and package != own and not allowed(module, name):
            what = module if name is None else f"{module}.{name}"
            text = f"{what} is not public: export it, or list its module as public"
            found.append(Finding(str(path), before + line, text))
    return found


def check() -> list[Finding]:
    """Every import of an inner name of another package."""
    found = []
    for path in python_files("packages/", "harness/"):
        found += inner(path, parsed(path), home(path))
    for path in tracked():
        if path.suffix == ".md" and not path.as_posix().startswith("docs/reference/"):
            for before, tree in examples(text_of(path) or ""):
                found += inner(path, tree, None, before)
    return sorted(found)
