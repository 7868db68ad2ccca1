"""The report: static HTML from records, and from nothing else."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from mpcvit_harness import claims_tables
from mpcvit_harness.claims import load
from mpcvit_harness.measured import Measured, counted
from mpcvit_harness.store import all_records
from mpcvit_harness.tables import plain_accuracy
from mpcvit_harness.verdicts import VERDICTS, evaluate
from spu_bench import RunRecord
from spu_bench.record import write_whole


@dataclass(frozen=True)
class Row:
    """One record as the table shows it; `file` is the record's own file below the report."""

    machine: str
    experiment: str
    cell: str
    file: str
    record: RunRecord

    @property
    def seconds(self) -> str:
        """Median with its range, or nothing where nothing valid was measured."""
        stats = self.record.statistics
        if self.record.status != "ok" or stats is None:
            return ""
        return f"{stats.median:.3f} [{stats.low:.3f}, {stats.high:.3f}]"

    @property
    def trained(self) -> str:
        """Accuracy in plaintext of trained weights; nothing for random ones."""
        return plain_accuracy(self.record)

    @property
    def megabytes(self) -> str:
        """Bytes that each party sent, in MB."""
        return " / ".join(f"{sent / 1e6:.2f}" for sent in self.record.sent_bytes) if self.record.parties else ""


def build(results: Path, out: Path, claims: Path | None = None) -> Path:
    """Write `out`/index.html and a copy of every record it shows, files that are no records too; returns the page.

    With a file of `claims` the page starts with their verdicts. Raises ClaimsError.
    """
    verdicts = _verdicts(claims, results) if claims else {}
    rows: list[Row] = []
    unreadable: list[tuple[str, str]] = []
    (out / "records").mkdir(parents=True, exist_ok=True)
    for path, record in all_records(results):
        machine, experiment, name = path.relative_to(results).parts
        if isinstance(record, str):
            unreadable.append((str(path.relative_to(results)), record))
            continue
        copy = Path("records") / machine / experiment / name
        (out / copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, out / copy)
        rows.append(Row(machine, experiment, name.rsplit(".", 2)[0], copy.as_posix(), record))
    environment = Environment(loader=PackageLoader("mpcvit_harness"), autoescape=True, trim_blocks=True)
    page = environment.get_template("index.html").render(rows=rows, unreadable=unreadable, **verdicts)
    write_whole(out / "index.html", page)
    return out / "index.html"


def _verdicts(claims: Path, results: Path) -> dict[str, Any]:
    """What the page's part on claims is filled with."""
    loaded = load(claims)

    def copy_of(measured: Measured) -> str:
        return f"records/{measured.file.as_posix()}"

    return {
        "evaluations": evaluate(loaded, counted(results, results)),
        "titles": loaded.groups,
        "groups": loaded.groups.values(),
        "verdicts": VERDICTS,
        "number": claims_tables.number,
        "off": claims_tables.off,
        "limits": claims_tables.limits,
        "copy_of": copy_of,
    }
