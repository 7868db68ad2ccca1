"""Tables of trainings: accuracy over seeds, also beside the seconds of the same models."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mpc_search.record import TrainingRecord
from mpc_search.summary import seed_summaries
from mpcvit_harness.stored import CLASSIFIERS, StoredRun, StoredTraining, training_of
from mpcvit_harness.tables.columns import median, remarks
from mpcvit_harness.tables.registry import Context, TableMaker, table
from mpcvit_harness.tables.table import Column, Entry, Href, Table

SWEEPS = {
    "accuracies": "reduced_fashion_mnist",
    "accuracies_of_rates": "reduced_rates",
    "accuracies_of_variants": "reduced_variants",
    "accuracies_of_full_teacher": "full_teacher",
}
"""The sweep of each table of accuracies."""


@dataclass(frozen=True)
class _SweepRun:
    """The trainings of one run of a sweep, by their seeds, and the test accuracy of each."""

    name: str
    accuracies: dict[int, float]
    trainings: list[StoredTraining]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.accuracies.values())

    @property
    def seconds(self) -> float:
        return statistics.fmean(training.record.seconds for training in self.trainings)


def _accuracies(sweep: str) -> TableMaker:
    """A table of the trained models of `sweep`, the most accurate first, with every seed's record."""

    def make(context: Context) -> Table:
        of = [t for t in context.trainings if t.record.experiment == sweep and t.record.stage in CLASSIFIERS]
        runs = []
        for point in seed_summaries(t.record for t in of).values():
            mine = [t for t in of if t.record.name == f"{point.name}-s{t.record.seed}"]
            runs.append(_SweepRun(point.name, point.accuracies, sorted(mine, key=lambda t: t.record.seed)))
        columns: list[Column[_SweepRun]] = [
            Column("run", lambda run: run.name, "code"),
            Column(
                "test accuracy, %: mean ± s.d.",
                lambda run: _mean([100 * accuracy for accuracy in run.accuracies.values()]),
                "number",
            ),
            Column("ReLU-Softmax heads of each layer", lambda run: _plans(run.trainings)),
            Column("minutes of a run", lambda run: run.seconds / 60, "number", ".1f"),
            Column(
                "seeds",
                lambda run: Entry(
                    hrefs=tuple(
                        Href(t.file.as_posix(), f"{100 * run.accuracies[t.record.seed]:.2f}") for t in run.trainings
                    ),
                    separator=", ",
                ),
                "records",
            ),
        ]
        return Table.of(columns, sorted(runs, key=lambda run: -run.mean))

    return make


for _name, _sweep in SWEEPS.items():
    table(_name)(_accuracies(_sweep))


@dataclass(frozen=True)
class _Budget:
    """The measured seeds of one run, with heads computed in one form."""

    form: str
    run: str
    pairs: list[tuple[StoredRun, StoredTraining]]

    @property
    def seconds(self) -> list[float]:
        return [median(run) for run, _ in self.pairs]


@table("budgets")
def budgets(context: Context) -> Table:
    """Accuracy of each plan beside its measured seconds, the fastest first, of those seeds that were measured."""
    pairs: dict[tuple[str, str], list[tuple[StoredRun, StoredTraining]]] = {}
    for run in context.experiment("budgets"):
        if training := training_of(run.record, context.trainings):
            of = training.record.name.removesuffix(f"-s{training.record.seed}")
            pairs.setdefault((run.cell.labels["form"].replace("_", " "), of), []).append((run, training))
    rows = [_Budget(form, of, found) for (form, of), found in pairs.items()]
    columns: list[Column[_Budget]] = [
        Column("heads", lambda row: row.form),
        Column("run", lambda row: row.run, "code"),
        Column(
            "seconds over wan",
            lambda row: _mean(row.seconds, *(run for run, _ in row.pairs)),
            "number",
        ),
        Column(
            "test accuracy, %",
            lambda row: _mean([100 * t.record.test.accuracy for _, t in row.pairs if t.record.test]),
            "number",
        ),
        Column("ReLU-Softmax heads of each layer", lambda row: _plans([t for _, t in row.pairs])),
        Column(
            "records",
            lambda row: Entry(
                hrefs=tuple(
                    href
                    for run, t in row.pairs
                    for href in (Href(run.file.as_posix(), "s"), Href(t.file.as_posix(), "%"))
                )
            ),
            "records",
        ),
    ]
    return Table.of(columns, sorted(rows, key=lambda row: (row.form, statistics.fmean(row.seconds))))


def _mean(values: Sequence[float], *runs: StoredRun) -> Entry:
    """Mean ± s.d., the mean alone of a single value; with the remarks on the runs behind it."""
    mean = statistics.fmean(values)
    text = f"{mean:.2f}" if len(values) == 1 else f"{mean:.2f} ± {statistics.stdev(values):.2f}"
    return Entry(text, mean, notes=remarks(*(run.record for run in runs)))


def _plans(trainings: Sequence[StoredTraining]) -> str:
    return ", ".join(dict.fromkeys(heads_of(training.record) for training in trainings))


def heads_of(record: TrainingRecord) -> str:
    """How many heads of each layer are on; the plan's level where it is not by heads, the attention without a plan."""
    if record.model is None:
        return ""
    if record.plan is None or record.plan.attention is None:
        return record.model.attention
    layers = record.plan.attention
    if layers[0].level != "head":
        return f"by {layers[0].level}s"
    return " ".join(str(sum(layer.on)) for layer in layers)
