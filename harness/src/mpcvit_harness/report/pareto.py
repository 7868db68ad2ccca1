"""The report's Pareto figures: accuracy against seconds, of published rows and of measured models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mpcvit_harness.claims import Fact, model_name
from mpcvit_harness.report.charts import ChartPoint, Scale, Scatter, front
from mpcvit_harness.report.training_rows import TrainingRow, seconds_of
from mpcvit_harness.stored import CLASSIFIERS, StoredRun, training_of
from mpcvit_harness.tables import Context
from mpcvit_harness.tables.columns import cell_name, median, remark_lines
from mpcvit_harness.verdicts import Evaluation

POINTS = {
    "published": "the paper",
    "mpcvit": "the paper, MPCViT",
    "ours": "the paper's accuracy, our seconds",
    "apart": "the same, where our seconds are not the paper's",
    "trained": "our accuracy, our seconds",
    "by_seconds": "the same, plans by seconds",
}

FRONTS = {kind: (kind,) for kind in ("ours", "trained", "by_seconds")} | {"published": ("published", "mpcvit")}
"""The kinds of points that each Pareto front is drawn through."""


def pareto(context: Context, trainings: Sequence[TrainingRow]) -> list[Scatter]:
    """A chart per data set: published rows over WAN, the same with our seconds, and our own models."""
    assert context.claims is not None
    answers = {number: e for e in context.evaluations for number in e.claim.numbers if e.value is not None}
    by_data: dict[str, list[ChartPoint]] = {}
    for fact in context.claims.facts:
        if "@" not in fact.model:  # a row of another link
            points = _of_fact(context, fact, answers.get((fact.line, "latency_s")))
            by_data.setdefault(context.dataset_name(fact.dataset), []).extend(points)
    for title, point in (*_of_trainings(context, trainings), *_of_untracked_trainings(context, trainings)):
        by_data.setdefault(title, []).append(point)
    return [
        Scatter(
            title=title,
            x_label="seconds of one inference over wan",
            y_label="accuracy, %",
            x=Scale.around([point.x for point in points]),
            y=Scale.around([point.y for point in points]),
            points=points,
            legend=POINTS,
            lines=[(line, front(point for point in points if point.kind in kinds)) for line, kinds in FRONTS.items()],
        )
        for title, points in by_data.items()
        if points
    ]


def _of_fact(context: Context, fact: Fact, answer: Evaluation | None) -> Iterator[ChartPoint]:
    """The point of a published row, and the point with our seconds where they are measured."""
    assert context.claims is not None
    if fact.latency_s is None or fact.accuracy_pct is None:
        return
    name = model_name(context.claims.names, fact) + (" with distillation" if fact.kd else "")
    accuracy = f"{fact.accuracy_pct:.2f} % (the paper's)"
    kind = "mpcvit" if fact.model.startswith("mpcvit") else "published"
    tip = f"{name}\n{accuracy}\n{fact.latency_s:.2f} s (the paper's)\n{fact.source}"
    yield ChartPoint(fact.latency_s, fact.accuracy_pct, kind, _short_name(fact), tip)
    if answer is not None and answer.value is not None:
        run = answer.records[0]
        seconds = f"{answer.value:.2f} s measured, n = {answer.n}: {answer.verdict}"
        tip = f"{name}\n{accuracy}\n{seconds}\n{answer.claim.quantities[0].cell}"
        if isinstance(run, StoredRun):
            tip += remark_lines(run.record)
        kind = "apart" if answer.verdict == "not reproduced" else "ours"
        yield ChartPoint(answer.value, fact.accuracy_pct, kind, "", tip, run.file.as_posix())


def _of_trainings(context: Context, trainings: Sequence[TrainingRow]) -> Iterator[tuple[str, ChartPoint]]:
    """Points of trained models, by chart: of every record over wan with the same architecture and plan."""
    over_wan = _over_wan(context)
    for training in trainings:
        record = training.record
        if not training.counts or record.stage not in CLASSIFIERS or record.test is None:
            continue
        for run in seconds_of(training, over_wan):
            accuracy = f"{record.test.accuracy:.2%} of {record.test.images:,} test images"
            tip = f"{record.name}\n{accuracy}\n{run.seconds} s measured: {cell_name(run)}{remark_lines(run.record)}"
            kind = "by_seconds" if record.budget is not None and record.budget.rule == "seconds" else "trained"
            point = ChartPoint(
                median(run), 100 * record.test.accuracy, kind, record.name, tip, training.page.as_posix()
            )
            yield _chart(context, record.data[0].name, run), point


def _of_untracked_trainings(context: Context, trainings: Sequence[TrainingRow]) -> Iterator[tuple[str, ChartPoint]]:
    """Points of trained weights whose training has no record in the store, by chart."""
    for run in _over_wan(context):
        training = run.record.program.training if run.record.program else None
        if training and training_of(run.record, trainings) is None:
            accuracy = f"{training.test_accuracy:.2%} of {training.test_images:,} test images"
            tip = f"{run.cell.name}\n{accuracy}\n{run.seconds} s measured{remark_lines(run.record)}"
            point = ChartPoint(
                median(run), 100 * training.test_accuracy, "trained", run.cell.name, tip, run.file.as_posix()
            )
            yield _chart(context, training.data or "trained", run), point


def _over_wan(context: Context) -> list[StoredRun]:
    return [run for run in context.runs if run.cell.network_name == "wan"]


def _chart(context: Context, data: str, run: StoredRun) -> str:
    """The chart of a measured model: models whose heads run one after another have a separate chart."""
    kernels = run.record.program.made_by.kernels if run.record.program else None
    return context.dataset_name(data) + (", heads one after another" if kernels == "paper" else "")


def _short_name(fact: Fact) -> str:
    """A published model's name in a picture; none for ablations and MPCViT+, which their tips name."""
    if fact.model.startswith("mpcvit_"):
        return ""
    name = fact.model.removesuffix("_vit").replace("_", " ")
    return f"{name}{f' {fact.mu}' if fact.mu else ''}{' KD' if fact.kd else ''}"
