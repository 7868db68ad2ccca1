"""Rules of the tree.

One role a module name, no long file, one configuration of each tool, no path of a machine, no host of a registry.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from common import ROOT, SOURCES, Finding, by_hand, python_files, text_of, tracked

MAX_LINES = 400

ROLES = {
    "errors": "the package's error class",
    "provenance": "where a record was made: commit, machine, versions",
    "record": "the schema of the package's records",
    "cli": "the package's command line",
    "program": "the Program: written by vit_models, read by spu_bench",
    "migrations": "records of an earlier schema, brought to the present one",
    "strict": "the base of the package's models, which takes no unknown field",
    "backend": "what a session does on one runtime: the protocol, and one module of that name a runtime",
}
"""Module names that may stand more than once, with the one role that each has."""

BY_SUBJECT = {"cli", "tables"}
"""Folders whose modules are named for the subject that they show: `cli/network.py` has the commands of `network`."""

_DATA = {".csv", ".json", ".txt", ".lock"}
_PATHS = re.compile(r"(?<![\w./~$}])(?<!\w\x22)/(?:work|root|home/(?!me/|you/)\w+|Users/\w+)/[\w.-]+")
_HOSTS = re.compile(
    r"\b(?:(?:pypi|(?:files\.)?pythonhosted|registry\.npmjs|download\.pytorch|deb\.debian|anaconda)\.org"
    r"|(?:index\.docker|ghcr|quay)\.io)\b"
    r"|(?:--|PIP_)(?:extra[-_])?index[-_]url[= ]+\S*://",
    re.IGNORECASE,
)


def module_names(paths: Iterable[tuple[str, Path]]) -> list[Finding]:
    """Modules or folders of modules that share a name without sharing a role; pairs of package and path below it."""
    places = defaultdict(list)
    for package, path in paths:
        name = path.parent.name if path.name == "__init__.py" else path.stem
        if name not in ("__main__", package) and path.parent.name not in BY_SUBJECT:
            places[name].append(path)
    return [
        Finding(
            str(path), 1, f"{len(paths)} modules are named {name}: rename it, or add its one role to .ci/checks/tree.py"
        )
        for name, paths in places.items()
        if len(paths) > 1 and name not in ROLES
        for path in paths
    ]


def tool_findings(name: str, text: str) -> list[Finding]:
    """Settings of a tool in a package's own pyproject.toml: they would replace those of the root."""
    tools = re.compile(r"\[tool\.(?:ruff|mypy|pytest|coverage)\b")
    return [
        Finding(name, number, f"{line} belongs in the pyproject.toml of the root")
        for number, line in enumerate(text.splitlines(), 1)
        if tools.match(line)
    ]


def line_findings(name: str, text: str) -> list[Finding]:
    """Paths of a machine and hosts of registries in one text."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        found += [Finding(name, number, f"a path of one machine: {m[0]}") for m in _PATHS.finditer(line)]
        found += [Finding(name, number, f"the host of a package registry: {m[0]}") for m in _HOSTS.finditer(line)]
    return found


def check() -> list[Finding]:
    """Every breach of the rules above."""
    found = module_names(
        (package, path)
        for package, folder in SOURCES.items()
        for path in python_files(folder.relative_to(ROOT).as_posix() + "/")
    )
    for path in tracked():
        name, text = path.as_posix(), text_of(path)
        if text is None:
            continue
        lines = len(by_hand(text, keep_lines=False).splitlines())
        is_data = path.suffix in _DATA or path.name in ("claims.toml", "CHANGELOG.md")
        if lines > MAX_LINES and not is_data and not name.startswith("docs/reference/"):
            found.append(Finding(name, lines, f"{lines} lines; at most {MAX_LINES}: split it"))
        if path.name == "pyproject.toml" and len(path.parts) > 1:
            found += tool_findings(name, text)
        if not name.startswith(".ci/checks/"):
            found += line_findings(name, text)
    return sorted(found)
