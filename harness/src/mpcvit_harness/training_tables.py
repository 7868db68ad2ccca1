"""Tables made from the records of trainings: accuracy over seeds, also beside the seconds of the same models."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from mpc_search.record import TrainingRecord
from mpc_search.summary import seed_summaries
from mpcvit_harness.stored import CLASSIFIERS, StoredRun, StoredTraining, training_of
from mpcvit_harness.tables import markdown

Table = Callable[[Sequence[StoredRun], Sequence[StoredTraining], Path], str]


def accuracies(sweep: str) -> Table:
    """A table of the trained models of `sweep`, the most accurate first, with every seed's record."""

    def table(measured: Sequence[StoredRun], trainings: Sequence[StoredTraining], page: Path) -> str:
        of = [t for t in trainings if t.record.experiment == sweep and t.record.stage in CLASSIFIERS]
        rows = []
        for point in sorted(seed_summaries(t.record for t in of).values(), key=lambda point: -point.mean):
            mine = sorted(
                (t for t in of if t.record.name == f"{point.name}-s{t.record.seed}"), key=lambda t: t.record.seed
            )
            rows.append(
                (
                    f"`{point.name}`",
                    _spread([100 * accuracy for accuracy in point.accuracies.values()]),
                    ", ".join(dict.fromkeys(_heads(t.record) for t in mine)),
                    f"{statistics.fmean(t.record.seconds for t in mine) / 60:.1f}",
                    ", ".join(t.link(page, f"{100 * point.accuracies[t.record.seed]:.2f}") for t in mine),
                )
            )
        head = ("run", "test accuracy, %: mean ± s.d.", "ReLU-Softmax heads of each layer", "minutes of a run", "seeds")
        return markdown(head, rows)

    return table


def budgets(measured: Sequence[StoredRun], trainings: Sequence[StoredTraining], page: Path) -> str:
    """Accuracy of each plan beside its measured seconds, the fastest first, of those seeds that were measured."""
    pairs: dict[tuple[str, str], list[tuple[StoredRun, StoredTraining]]] = {}
    for m in measured:
        if m.cell.experiment == "budgets" and (training := training_of(m.record, trainings)):
            run = training.record.name.removesuffix(f"-s{training.record.seed}")
            pairs.setdefault((m.cell.name.removesuffix(f"-{training.record.name}"), run), []).append((m, training))
    rows = []
    for (heads, run), of in pairs.items():
        seconds = [m.record.statistics.median for m, _ in of if m.record.statistics]
        tests = [t.record.test for _, t in of]
        rows.append(
            (
                heads.replace("_", " "),
                f"`{run}`",
                _spread(seconds),
                _spread([100 * test.accuracy for test in tests if test]),
                ", ".join(dict.fromkeys(_heads(t.record) for _, t in of)),
                ", ".join(f"{m.link(page, 's')} {t.link(page, '%')}" for m, t in of),
                statistics.fmean(seconds),
            )
        )
    rows.sort(key=lambda row: (row[0], row[-1]))
    head = ("heads", "run", "seconds over `wan`", "test accuracy, %", "ReLU-Softmax heads of each layer", "records")
    return markdown(head, [row[:-1] for row in rows])


def _spread(values: Sequence[float]) -> str:
    """Mean ± s.d., the mean alone of a single value."""
    mean = f"{statistics.fmean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.2f}"


def _heads(record: TrainingRecord) -> str:
    """How many heads of each layer the plan has on; what it is instead where the plan is of something else."""
    if record.model is None:
        return ""
    if record.plan is None or record.plan.attention is None:
        return record.model.attention
    layers = record.plan.attention
    if layers[0].level != "head":
        return f"by {layers[0].level}s"
    return " ".join(str(sum(layer.on)) for layer in layers)


TABLES: dict[str, Table] = {
    "accuracies": accuracies("reduced_fashion_mnist"),
    "accuracies_of_rates": accuracies("reduced_rates"),
    "accuracies_of_variants": accuracies("reduced_variants"),
    "accuracies_of_full_teacher": accuracies("full_teacher"),
    "budgets": budgets,
}
