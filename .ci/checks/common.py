"""What the checks share: the files of the tree, and how a finding is written."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SOURCES = {
    "vit_models": ROOT / "packages/vit_models/src",
    "mpc_search": ROOT / "packages/mpc_search/src",
    "spu_bench": ROOT / "packages/spu_bench/src",
    "mpcvit_harness": ROOT / "harness/src",
}
"""The folder of each package's source."""

_GENERATED = re.compile(r"<!-- (?:table|measured) .*?<!-- end of (?:table|measured) -->", re.DOTALL)


@dataclass(frozen=True, order=True)
class Finding:
    """One thing to change: where it is, and what is wrong."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that git tracks or would track, relative to the root, without the records."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = (Path(name) for name in listed.split("\0") if name and not name.startswith("results/"))
    return tuple(sorted(path for path in paths if (ROOT / path).is_file()))


def text_of(path: Path) -> str | None:
    """The text of a tracked file; None if it is binary."""
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def by_hand(text: str, keep_lines: bool = True) -> str:
    """A page without its generated tables; line numbers stay, unless `keep_lines` is false."""
    return _GENERATED.sub(lambda table: "\n" * table[0].count("\n") if keep_lines else "", text)


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a Python file, relative to the root."""
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


def python_files(*folders: str) -> Iterator[Path]:
    """The tracked Python files below these folders; all of them if none is named."""
    for path in tracked():
        if path.suffix == ".py" and (not folders or path.as_posix().startswith(folders)):
            yield path
