"""Every link of a page of Markdown to a file of the tree, or to a heading of a page, leads somewhere."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from common import ROOT, Finding, tracked

_LINK = re.compile(r"\]\((?!\w+://|mailto:)([^)\s#]*)(?:#([^)\s]+))?\)")


def _spoken(page: str) -> str:
    """A page without its code blocks; line numbers stay."""
    return re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), page, flags=re.DOTALL)


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", _spoken(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@cache
def _anchors_of(path: Path) -> set[str]:
    return anchors(path.read_text(encoding="utf-8"))


def broken(path: Path) -> list[Finding]:
    """The links of one page that lead nowhere."""
    found = []
    for number, line in enumerate(_spoken(path.read_text(encoding="utf-8")).splitlines(), 1):
        for file, anchor in _LINK.findall(line):
            target = (path.parent / file).resolve() if file else path
            name = str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
            if not target.exists():
                found.append(Finding(name, number, f"a link to {file}, which does not exist"))
            elif anchor and target.suffix == ".md" and anchor not in _anchors_of(target):
                found.append(Finding(name, number, f"a link to {file}#{anchor}, which is no heading there"))
    return found


def check() -> list[Finding]:
    """Every broken link."""
    return [finding for path in tracked() if path.suffix == ".md" for finding in broken(ROOT / path)]
