"""The report as files: pages, the records they show, and its tables as CSV and Markdown."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from mpcvit_harness.report import details, figures
from mpcvit_harness.report.pareto import pareto
from mpcvit_harness.report.site import Site
from mpcvit_harness.report.training_rows import TrainingRow
from mpcvit_harness.store import all_records, all_trainings
from mpcvit_harness.stored import StoredRun, training_of
from mpcvit_harness.tables import Context, make_table
from mpcvit_harness.tables.claim_verdicts import every_claim, summary
from mpcvit_harness.tables.stored_records import RunRow, run_table, training_table
from mpcvit_harness.tables.table import Table
from mpcvit_harness.verdicts import Evaluation, evaluate

STATIC = ("report.css", "report.js")
RECORDS = "records.tar.xz"


@dataclass(frozen=True)
class _Store:
    """Every record in the store, and the files that are no records, with the reason."""

    runs: list[RunRow]
    trainings: list[TrainingRow]
    unreadable: list[tuple[str, str]]

    @classmethod
    def read(cls, results: Path) -> _Store:
        store = cls([], [], [])
        for path, record in all_records(results):
            file = path.relative_to(results)
            if isinstance(record, str):
                store.unreadable.append((file.as_posix(), record))
            else:
                machine, experiment, name = file.parts
                cell = name.rsplit(".", 2)[0]
                row = RunRow(machine, experiment, cell, _page(file).as_posix(), file.as_posix(), record)
                store.runs.append(row)
        for path, training in all_trainings(results):
            file = path.relative_to(results)
            if isinstance(training, str):
                store.unreadable.append((file.as_posix(), training))
            else:
                store.trainings.append(TrainingRow(training, file))
        return store

    @property
    def files(self) -> list[str]:
        return [run.file for run in self.runs] + [training.file.as_posix() for training in self.trainings]


def build(results: Path, out: Path, claims: Path | None = None) -> Path:
    """Write the report of all records below `results` into `out`; returns its first page.

    Beside index.html: a page per cell, training and machine, the records as they are in an archive, and each table of
    the first page as CSV and as Markdown. With a file of `claims` the page starts with their verdicts. What an earlier
    build wrote into `out` is replaced. Raises HarnessError, before anything is written, where `out` holds other files.
    """
    site = Site(out)
    store = _Store.read(results)
    context = _with_pages(Context.load(results, results, claims), store.trainings)
    tables = _write_index(site, context, store)
    _write_details(site, context, store)
    site.write_folded_parts()
    for name in STATIC:
        site.write(name, (resources.files("mpcvit_harness.report") / "static" / name).read_text())
    for table in tables:
        site.write_table(table)
    site.write(RECORDS, _packed(results, store.files))
    site.publish()
    return out / "index.html"


def _with_pages(context: Context, trainings: list[TrainingRow]) -> Context:
    """The context with pages of the report in place of the records' files."""

    def paged(runs: Iterable[StoredRun]) -> list[StoredRun]:
        return [replace(run, file=_page(run.file)) for run in runs]

    context = replace(context, runs=paged(context.runs), wrong=paged(context.wrong))
    if context.claims is None:
        return context
    counting = [replace(training, file=training.page) for training in trainings if training.counts]
    return replace(context, evaluations=evaluate(context.claims, context.runs, counting))


def _write_index(site: Site, context: Context, store: _Store) -> list[Table]:
    """Write the first page; returns its tables."""
    claims = targets = verdicts = None
    if context.claims is not None:
        claims = every_claim(context.claims, context.evaluations)
        targets = every_claim(context.claims, context.evaluations, targets=True)
        verdicts = summary(context.claims, context.evaluations)
    records, trainings = run_table(store.runs), training_table(store.trainings)
    peers = make_table("peers", context)
    site.write_page(
        "index.html",
        "index.html",
        folds=True,
        verdicts=verdicts,
        claims=claims,
        targets=targets,
        pareto=pareto(context, store.trainings) if context.claims else [],
        breakdown=figures.breakdown(context.runs),
        networks=figures.networks(context.runs),
        prediction=figures.prediction(context.runs),
        peers=peers,
        trainings=trainings,
        records=records,
        statuses=Counter(row.record.status for row in store.runs),
        machines=details.machines(store.runs, store.trainings),
        unreadable=store.unreadable,
    )
    return [table for table in (verdicts, claims, targets, records, peers, trainings) if table is not None]


def _write_details(site: Site, context: Context, store: _Store) -> None:
    """Write the pages of cells, trainings and machines."""
    claims_on: dict[str, list[Evaluation]] = {}
    for evaluation in context.evaluations:
        for stored in evaluation.records:
            claims_on.setdefault(stored.file.as_posix(), []).append(evaluation)
    for run in store.runs:
        site.write_page(
            run.page,
            "cell.html",
            folds=True,
            cell=run,
            training=training_of(run.record, store.trainings),
            claims=claims_on.get(run.page, []),
            details=details,
        )
    for training in store.trainings:
        site.write_page(training.page.as_posix(), "training.html", folds=True, training=training, details=details)
    for machine in details.machines(store.runs, store.trainings):
        site.write_page(machine.page, "machine.html", machine=machine)


def _page(file: Path) -> Path:
    """The page of the record at `file`, which is relative to the store."""
    return Path("cells") / file.with_suffix(".html")


def _packed(results: Path, files: list[str]) -> bytes:
    """The records, byte for byte, in one archive: the same records make the same archive."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as archive:
        for name in files:
            content = (results / name).read_bytes()
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()
