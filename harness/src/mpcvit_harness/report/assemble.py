"""The report as files: pages, the records they show, and its tables as CSV and Markdown."""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
import zlib
from collections import Counter, defaultdict
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mpcvit_harness import claims_tables
from mpcvit_harness.claims import load
from mpcvit_harness.report import details, figures, tables
from mpcvit_harness.report.trainings import Trained
from mpcvit_harness.store import all_records, all_trainings
from mpcvit_harness.stored import counted_runs, training_of
from mpcvit_harness.verdicts import VERDICTS, Evaluation, evaluate
from spu_bench.record import write_whole

STATIC = ("report.css", "report.js")
RECORDS = "records.tar.xz"

_MAY_BE_LEFT_OUT = re.compile(r"</(td|th|tr|dt|dd|li)>")
"""End tags that HTML does not need: a tenth of a page."""

_CLOSED = re.compile(r"(<details><summary>[^<]*</summary>)(.*?)(</details>)", re.DOTALL)
"""A part that a reader opens."""

FOLDED = "folded.js"
"""In each folder of pages: the parts that a reader opens, packed together, which takes a tenth of their room."""


class _Site:
    """The folder of the report: writes pages, and at the end takes away those of an earlier build.

    The closed parts of pages are not in them but, by the page's name and in their order, in their folder's FOLDED, from
    where report.js puts them in.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.written: set[Path] = set()
        self.folded: defaultdict[Path, dict[str, list[str]]] = defaultdict(dict)
        self.templates = Environment(
            loader=PackageLoader("mpcvit_harness.report"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )

    def page(self, name: str, template: str, *, folds: bool = False, **values: Any) -> None:
        """Write a page; one that `folds` leaves its closed parts to its folder."""
        up = "../" * (len(Path(name).parts) - 1)
        text = self.templates.get_template(template).render(up=up, folds=folds, **values)
        text = "\n".join(filter(None, map(str.strip, _MAY_BE_LEFT_OUT.sub("", text).splitlines()))) + "\n"
        path = self.out / name
        if folds:
            self.folded[path.parent][path.name] = [match[2] for match in _CLOSED.finditer(text)]
            text = _CLOSED.sub(r"\1\3", text)
        write_whole(path, text)
        self.written.add(path)

    def fold(self) -> None:
        """Write what the pages leave to their folders."""
        for folder, pages in self.folded.items():
            packed = base64.b64encode(zlib.compress(json.dumps(pages).encode(), 9)).decode()
            write_whole(folder / FOLDED, f'const folded = "{packed}";\n')
            self.written.add(folder / FOLDED)

    def table(self, table: tables.Table) -> None:
        write_whole(self.out / f"{table.name}.csv", table.csv())
        write_whole(self.out / f"{table.name}.md", table.markdown())

    def drop_what_was(self) -> None:
        for folder in ("cells", "trainings", "machines"):
            there = {path for path in (self.out / folder).glob("**/*") if path.is_file()}
            for old in there - self.written:
                old.unlink()


def build(results: Path, out: Path, claims: Path | None = None) -> Path:
    """Write the report of all records below `results` into `out`; returns its first page.

    Beside index.html: a page a cell, a training and a machine, the records as they are in an archive, each table of
    the first page as CSV and as Markdown. With a file of `claims` the page starts with their verdicts.
    Raises ClaimsError.
    """
    loaded = load(claims) if claims else None
    shown, trainings, unreadable = _read(results)
    measured = [replace(m, file=_page(m.file)) for m in counted_runs(results, results) if m.is_latency]
    evaluations = evaluate(loaded, measured, [replace(t, file=t.page) for t in trainings if t.counts]) if loaded else []
    machines = details.machines(shown, trainings)
    records, peers = tables.of_records(shown), tables.of_peers(measured)
    trained = tables.of_trainings(trainings)
    verdicts = tables.of_claims(loaded, evaluations) if loaded else None

    site = _Site(out)
    site.page(
        "index.html",
        "index.html",
        folds=True,
        claims=verdicts,
        tally=[(verdict, sum(e.verdict == verdict for e in evaluations)) for verdict in VERDICTS],
        pareto=figures.pareto(loaded, evaluations, measured, trainings) if loaded else [],
        breakdown=figures.breakdown(measured),
        networks=figures.networks(measured),
        prediction=figures.prediction(measured),
        peers=peers,
        trainings=trained,
        records=records,
        statuses=Counter(one.record.status for one in shown),
        machines=machines,
        unreadable=unreadable,
    )
    using = _using(evaluations)
    for one in shown:
        training = training_of(one.record, trainings)
        site.page(
            one.page,
            "cell.html",
            folds=True,
            cell=one,
            training=training,
            claims=using.get(one.page, []),
            details=details,
        )
    for one_training in trainings:
        site.page(one_training.page.as_posix(), "training.html", folds=True, trained=one_training, details=details)
    for machine in machines:
        site.page(machine.page, "machine.html", machine=machine)
    site.fold()
    site.drop_what_was()
    for name in STATIC:
        write_whole(out / name, (resources.files("mpcvit_harness.report") / "static" / name).read_text())
    for table in filter(None, (verdicts, records, peers, trained)):
        site.table(table)
    if loaded:
        write_whole(out / "verdicts.md", claims_tables.summary(loaded, evaluations))
    _pack(results, [one.file for one in shown] + [t.file.as_posix() for t in trainings], out / RECORDS)
    return out / "index.html"


def _read(results: Path) -> tuple[list[tables.Shown], list[Trained], list[tuple[str, str]]]:
    """Records, training records, and the files that are neither, with the reason."""
    shown, trainings, unreadable = [], [], []
    for path, record in all_records(results):
        file = path.relative_to(results)
        if isinstance(record, str):
            unreadable.append((file.as_posix(), record))
        else:
            machine, experiment, name = file.parts
            cell = name.rsplit(".", 2)[0]
            shown.append(tables.Shown(machine, experiment, cell, _page(file).as_posix(), file.as_posix(), record))
    for path, training in all_trainings(results):
        file = path.relative_to(results)
        if isinstance(training, str):
            unreadable.append((file.as_posix(), training))
        else:
            trainings.append(Trained(training, file))
    return shown, trainings, unreadable


def _page(file: Path) -> Path:
    """The page of the record at `file`, which is relative to the store."""
    return Path("cells") / file.with_suffix(".html")


def _using(evaluations: list[Evaluation]) -> dict[str, list[Evaluation]]:
    """The claims that stand on a record, by its page."""
    using: dict[str, list[Evaluation]] = {}
    for e in evaluations:
        for m in e.records:
            using.setdefault(m.file.as_posix(), []).append(e)
    return using


def _pack(results: Path, files: list[str], path: Path) -> None:
    """The records as they lie in the store, in one archive: the same records make the same bytes."""
    with tarfile.open(path, "w:xz") as archive:
        for name in files:
            content = (results / name).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
