"""Pages of the docs that hold tables made from records. A table stands between two markers and is never typed.

The markers are `<!-- table NAME -->` and `<!-- end of table -->`. Pages are found by them.
"""

from __future__ import annotations

import re
from pathlib import Path

from mpcvit_harness.claims import CLAIMS
from mpcvit_harness.errors import HarnessError
from mpcvit_harness.tables import Context, make_table
from spu_bench.record import write_whole

PLACES = ("README.md", "docs/**/*.md", "packages/*/README.md")
"""Where pages are looked for, below the root of the repository."""

_MARKERS = re.compile(r"^(<!-- table (?P<name>\w+) -->\n).*?^(<!-- end of table -->)$", re.DOTALL | re.MULTILINE)


def pages(root: Path) -> list[Path]:
    """The pages below `root` that hold tables, relative to it."""
    found = sorted(path for place in PLACES for path in root.glob(place))
    return [path.relative_to(root) for path in found if _MARKERS.search(path.read_text())]


def write(root: Path, results: Path) -> list[Path]:
    """Write every table into its page below `root`; returns the pages that changed. Raises HarnessError."""
    changed = _changed(root, results)
    for path, text in changed.items():
        write_whole(path, text)
    return list(changed)


def stale(root: Path, results: Path) -> list[Path]:
    """The pages below `root` whose tables differ from those that the records make. Raises HarnessError."""
    return list(_changed(root, results))


def _changed(root: Path, results: Path) -> dict[Path, str]:
    """Pages whose tables do not follow from the records, with the text that does."""
    context = Context.load(root, results, root / CLAIMS)
    filled = {root / page: _filled((root / page).read_text(), context, page) for page in pages(root)}
    return {path: text for path, text in filled.items() if text != path.read_text()}


def _filled(text: str, context: Context, page: Path) -> str:
    def fill(match: re.Match[str]) -> str:
        try:
            table = make_table(match["name"], context)
        except HarnessError as error:
            raise HarnessError(f"{page}: {error.problem}", error.fix) from None
        return f"{match[1]}{table.markdown(page)}{match[3]}"

    return _MARKERS.sub(fill, text)
