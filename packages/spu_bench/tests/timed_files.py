"""The files in which what is timed is written, and their code as it was at the last decision on MEASUREMENT_VERSION.

Commands, in the root of the repository:
    python packages/spu_bench/tests/timed_files.py         list the files whose code has changed since
    python packages/spu_bench/tests/timed_files.py accept  accept their code as it is now
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "spu_bench"
ACCEPTED = Path(__file__).parent / "data" / "timed-files.json"

TIMED = (
    # one party: what runs between the start and the end of the clock, on every runtime
    *("party/**/*.py", "session.py"),
    # the run: how the parties are started, what counts as a sample, what is compared
    *("measured_run.py", "party_processes.py", "samples.py", "watch.py"),
    # the settings that reach a runtime
    *("options.py", "protocols.py", "runtimes.py"),
    # what is counted
    *("counting_relay.py", "count_traffic.py", "wire.py"),
    # the network, its shaping and its probe
    "network/*.py",
    # the hosts
    "executors/*.py",
)
"""Patterns of files below the package."""


def code_hash(source: str) -> str:
    """A hash of what a module does: of its syntax tree, without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [each for each in node.body if not _is_docstring(each)] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def timed_files() -> list[Path]:
    """The files that TIMED names; raises ValueError for a pattern that no file has."""
    found = set()
    for pattern in TIMED:
        if not (files := list(PACKAGE.glob(pattern))):
            raise ValueError(f"no file is {pattern}: correct TIMED in {Path(__file__).name}")
        found |= set(files)
    return sorted(found)


def present() -> dict[str, str]:
    """The hash of each timed file as it is now."""
    return {path.relative_to(PACKAGE).as_posix(): code_hash(path.read_text()) for path in timed_files()}


def changed() -> list[str]:
    """The timed files whose code is not the accepted one, those that came or went included."""
    now, then = present(), json.loads(ACCEPTED.read_text())
    return sorted(name for name in now | then if now.get(name) != then.get(name))


def accept() -> None:
    """Accept the timed files as they are now."""
    ACCEPTED.write_text(json.dumps(present(), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    if sys.argv[1:] == ["accept"]:
        accept()
    print("\n".join(changed()) or "the timed files are as accepted")
