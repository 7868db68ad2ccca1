"""Plain words: no line of code, help or documentation uses a word or phrase of `wording.txt`.

Generated tables are not read, and neither is a part between `<!-- wording: off -->` and `<!-- wording: on -->`.
"""

from __future__ import annotations

import re
from pathlib import Path

from common import ROOT, Finding, by_hand, text_of, tracked

LIST = Path(__file__).with_name("wording.txt")

_OFF = re.compile(r"<!-- wording: off -->.*?<!-- wording: on -->", re.DOTALL)
_SKIPPED = ("constraints/", "LICENSE", ".ci/checks/", "docs/reference/")
_SUFFIXES = {".py", ".md", ".toml", ".html", ".js", ".css", ".ini", ".sh", ".yaml", ".txt", ""}


def rules(text: str) -> list[tuple[re.Pattern[str], str]]:
    """The patterns of a word list, with what to write instead: `pattern -> suggestion`, one a line."""
    found = []
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            pattern, suggestion = line.split(" -> ")
            found.append(
                (
                    re.compile(rf"(?<!\w)(?:{pattern.strip().replace(' ', ' +')})(?!\w)", re.IGNORECASE),
                    suggestion.strip(),
                )
            )
    return found


def findings_in(name: str, text: str, listed: list[tuple[re.Pattern[str], str]]) -> list[Finding]:
    """What of one text matches the list; a phrase may run over the end of a line."""
    read = _OFF.sub(lambda part: "\n" * part[0].count("\n"), by_hand(text))
    # a line break inside a phrase counts as spaces, and so does the comment sign at the start of a line
    flat = re.sub(r"\n[ \t]*(?:#|//)?", lambda gap: " " * len(gap[0]), read)
    found = []
    for pattern, suggestion in listed:
        for match in pattern.finditer(flat):
            line = read.count("\n", 0, match.start()) + 1
            found.append(Finding(name, line, f'"{" ".join(match[0].split())}": write {suggestion}'))
    return found


def check() -> list[Finding]:
    """Every line to rewrite."""
    listed = rules(LIST.read_text(encoding="utf-8"))
    found = []
    for path in tracked():
        name = path.as_posix()
        if path.suffix in _SUFFIXES and not name.startswith(_SKIPPED) and (ROOT / path).stat().st_size < 1_000_000:
            text = text_of(path)
            if text is not None:
                found += findings_in(name, text, listed)
    return sorted(found)
