"""The pages that hold tables made from records: each table stands between two markers, and is never typed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from mpcvit_harness import paper_tables, tables
from mpcvit_harness.cells import Cell
from mpcvit_harness.store import LOCAL, all_records
from mpcvit_harness.tables import Measured
from spu_bench import RunRecord
from spu_bench.record import write_whole

PAGES = ("README.md", "docs/models.md", "docs/networks.md", "docs/paper-division.md")
"""Pages that hold tables: `<!-- table NAME -->` ... `<!-- end of table -->`."""

TABLES: dict[str, Callable[[list[Measured], Path], str]] = {**tables.TABLES, **paper_tables.TABLES}

_MARKERS = re.compile(r"(<!-- table (?P<name>\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def write(root: Path, results: Path) -> list[Path]:
    """Write every table into its page below `root`; returns the pages that changed."""
    measured = list(_measured(root, results))
    changed = []
    for name in PAGES:
        path = root / name
        if path.exists() and (new := _filled(path.read_text(), measured, Path(name))) != path.read_text():
            write_whole(path, new)
            changed.append(path)
    return changed


def stale(root: Path, results: Path) -> list[Path]:
    """The pages below `root` whose tables are not those of the records."""
    measured = list(_measured(root, results))
    pages = [(root / name, Path(name)) for name in PAGES]
    return [
        path for path, name in pages if path.exists() and _filled(path.read_text(), measured, name) != path.read_text()
    ]


def _measured(root: Path, results: Path) -> Iterable[Measured]:
    for path, record in all_records(results):
        committed = path.relative_to(results).parts[0] != LOCAL
        if committed and isinstance(record, RunRecord) and record.status == "ok" and record.cell is not None:
            yield Measured(Cell.model_validate(record.cell), record, path.relative_to(root))


def _filled(text: str, measured: list[Measured], page: Path) -> str:
    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in TABLES:
            raise ValueError(f"{page}: there is no table {name!r}, use one of {', '.join(TABLES)}")
        return f"{match[1]}{TABLES[name](measured, page)}{match[3]}"

    return _MARKERS.sub(fill, text)
