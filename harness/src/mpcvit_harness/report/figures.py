"""The report's figures: which records they show, and what is said of each point."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from mpcvit_harness.claims import Claims
from mpcvit_harness.formulas import operation_name
from mpcvit_harness.predictions import points
from mpcvit_harness.report.charts import Bar, Dot, DotRow, Part, Point, Rows, Scale, Scatter, Tick, front
from mpcvit_harness.report.trainings import Trained, seconds_of
from mpcvit_harness.stored import CLASSIFIERS, StoredRun, training_of
from mpcvit_harness.verdicts import Evaluation
from spu_bench import RunRecord

DATA_SETS = {
    "cifar10": "CIFAR-10",
    "cifar100": "CIFAR-100",
    "tiny_imagenet": "Tiny-ImageNet",
    "fashion_mnist": "Fashion-MNIST",
    "fashion-mnist": "Fashion-MNIST",
}
"""Titles of the data sets, by the names that records and facts have for them."""

POINTS = {
    "published": "the paper",
    "mpcvit": "the paper, MPCViT",
    "ours": "the paper's accuracy, our seconds",
    "apart": "the same, where our seconds are not the paper's",
    "trained": "our accuracy, our seconds",
    "by_seconds": "the same, plans by seconds",
}

NETWORKS = ("loopback", "lan", "wan")
"""Networks with a colour of their own; others share one."""

PARTS = {
    "compare": (
        "maximum, comparisons",
        ("reduce", "less", "greater", "maximum", "minimum", "select", "prefer_a", "abs"),
    ),
    "exponential": ("exponential", ("exponential",)),
    "divide": ("division", ("divide",)),
    "rsqrt": ("1/sqrt (LayerNorm)", ("rsqrt",)),
    "tanh": ("tanh (GeLU)", ("tanh", "logistic")),
    "multiply": ("products", ("multiply",)),
    "matrix": ("matrix products", ("dot", "dot_general", "convolution")),
    "rest": ("all else", ()),
}
"""What the runtime's operations are parts of."""

FRONTS = {kind: (kind,) for kind in ("ours", "trained", "by_seconds")} | {"published": ("published", "mpcvit")}
"""Of which kinds of points a Pareto front is drawn."""


def pareto(
    claims: Claims, evaluations: Iterable[Evaluation], measured: Sequence[StoredRun], trainings: Sequence[Trained]
) -> list[Scatter]:
    """Accuracy against seconds over `wan`, a chart a data set: published rows, the same with our seconds, our own."""
    answers = {number: e for e in evaluations for number in e.claim.numbers if e.value is not None}
    by_data: dict[str, list[Point]] = {}
    for fact in claims.facts:
        if fact.latency_s is None or fact.accuracy_pct is None or "@" in fact.model:
            continue  # a row of one number, or of another link
        of_data = by_data.setdefault(DATA_SETS.get(fact.dataset, fact.dataset), [])
        name = fact.name + (" with distillation" if fact.kd else "")
        accuracy = f"{fact.accuracy_pct:.2f} % (the paper's)"
        kind = "mpcvit" if fact.model.startswith("mpcvit") else "published"
        said = f"{name}\n{accuracy}\n{fact.latency_s:.2f} s (the paper's)\n{fact.source}"
        of_data.append(Point(fact.latency_s, fact.accuracy_pct, kind, _short(fact.model, fact.mu, fact.kd), said))
        if (answer := answers.get((fact.line, "latency_s"))) and answer.value is not None:
            measured_s = f"{answer.value:.2f} s measured, n = {answer.n}: {answer.verdict}"
            ours = f"{name}\n{accuracy}\n{measured_s}\n{answer.claim.quantities[0].cell}"
            kind = "apart" if answer.verdict == "not reproduced" else "ours"
            href = answer.records[0].file.as_posix()
            of_data.append(Point(answer.value, fact.accuracy_pct, kind, "", ours, href))
    for title, point in _trained(measured, trainings):
        by_data.setdefault(title, []).append(point)
    return [
        Scatter(
            title=title,
            x_label="seconds of one inference over wan",
            y_label="accuracy, %",
            x=Scale.around([point.x for point in of_data]),
            y=Scale.around([point.y for point in of_data]),
            points=of_data,
            legend=POINTS,
            lines=[(line, front(point for point in of_data if point.kind in kinds)) for line, kinds in FRONTS.items()],
        )
        for title, of_data in by_data.items()
    ]


def breakdown(measured: Iterable[StoredRun]) -> list[Rows]:
    """Seconds by operation of what ran over `wan`, an experiment a panel, the slowest first."""
    panels: dict[str, list[StoredRun]] = {}
    for m in measured:
        if m.cell.network_name == "wan" and any(party.operations for party in m.record.parties):
            panels.setdefault(m.cell.experiment, []).append(m)
    found = []
    for title, of in panels.items():
        of.sort(key=_median, reverse=True)
        longest = _median(of[0])
        bars = []
        for m in of:
            seconds = seconds_by_part(m.record)
            parts = [
                Part(kind, 100 * s / longest, f"{PARTS[kind][0]}: {s:.2f} s, {s / sum(seconds.values()):.0%}")
                for kind, s in seconds.items()
                if s / longest > 0.001
            ]
            name = _name(m)
            if [_name(other) for other in of].count(name) > 1:
                name += f", {m.record.executor.name if m.record.executor else ''}"
            bars.append(Bar(name, m.file.as_posix(), parts, f"{_median(m):.2f} s"))
        shown = {part.kind for bar in bars for part in bar.parts}
        found.append(Rows(title, {kind: PARTS[kind][0] for kind in PARTS if kind in shown}, bars, []))
    return found


def seconds_by_part(record: RunRecord) -> dict[str, float]:
    """Seconds of the last inference at the server, by PARTS.

    SPU 0.3.1b0 counts what a reduction does in the reduction and once more in its comparisons: there only these count.
    """
    party = record.parties[0]
    twice = ("reduce",) if record.request.runtime.startswith("0.3.") else ()
    seconds = {
        kind: sum(o.seconds for o in party.operations if operation_name(o) in set(names) - set(twice))
        for kind, (_, names) in PARTS.items()
    }
    seconds["rest"] = max(0.0, party.inferences[-1].run_s - sum(seconds.values()))
    return seconds


def networks(measured: Iterable[StoredRun]) -> list[Rows]:
    """Seconds by network of every cell that ran over more than one, an experiment a panel, over a logarithmic scale."""
    cells: dict[tuple[str, str], list[StoredRun]] = {}
    for m in measured:
        cells.setdefault((m.cell.experiment, _name(m)), []).append(m)
    panels = []
    several = {key: of for key, of in cells.items() if len({m.cell.network_name for m in of}) > 1}
    for experiment, keys in itertools.groupby(several, key=lambda key: key[0]):
        rows = {name: several[experiment, name] for _, name in keys}
        scale = Scale.around([_median(m) for of in rows.values() for m in of], log=True)
        ordered = sorted(rows.items(), key=lambda row: -max(map(_median, row[1])))
        dots = [
            DotRow(name, [Dot(_network(m), 100 * scale.share(_median(m)), _said(m), m.file.as_posix()) for m in of])
            for name, of in ordered
        ]
        kinds = {dot.kind for row in dots for dot in row.dots}
        legend = {kind: kind for kind in (*NETWORKS, "another") if kind in kinds}
        ticks = [Tick(100 * scale.share(value), f"{value:g} s") for value in scale.ticks()]
        panels.append(Rows(experiment, legend, dots, ticks))
    return panels


def prediction(measured: Iterable[StoredRun]) -> Scatter | None:
    """Predicted against measured seconds; None where no record keeps a prediction."""
    found = points(measured)
    if not found:
        return None
    values = [value for point in found for value in (point.seconds, point.prediction.seconds)]
    scale = Scale.around(values, log=True)
    shown = [
        Point(
            point.seconds,
            point.prediction.seconds,
            point.measured.cell.protocol,
            "",
            f"{_name(point.measured)} over {point.measured.cell.network_name}\n{point.seconds:.2f} s measured\n"
            f"{point.prediction.seconds:.2f} s predicted, {point.error:+.1%}",
            point.measured.file.as_posix(),
        )
        for point in found
    ]
    return Scatter(
        title="Predicted and measured",
        x_label="seconds measured",
        y_label="seconds predicted",
        x=scale,
        y=scale,
        points=shown,
        legend={point.kind: point.kind for point in shown},
        lines=[("equal", [(scale.low, scale.low), (scale.high, scale.high)])],
    )


def _trained(measured: Sequence[StoredRun], trainings: Sequence[Trained]) -> list[tuple[str, Point]]:
    """Points of our own models, by chart: where seconds were measured of trained weights, or of the same model."""
    over_wan = [m for m in measured if m.cell.network_name == "wan"]
    found = []
    for trained in trainings:
        record = trained.record
        if not trained.counts or record.stage not in CLASSIFIERS or record.test is None:
            continue
        for m in seconds_of(trained, over_wan):
            accuracy = f"{record.test.accuracy:.2%} of {record.test.images:,} test images"
            tip = f"{record.name}\n{accuracy}\n{m.seconds} s measured: {_name(m)}"
            kind = "by_seconds" if record.budget is not None and record.budget.rule == "seconds" else "trained"
            point = Point(_median(m), 100 * record.test.accuracy, kind, record.name, tip, trained.page.as_posix())
            found.append((_chart(record.data[0].name, m), point))
    for m in over_wan:
        training = m.record.program.training if m.record.program else None
        if training and training_of(m.record, trainings) is None:
            accuracy = f"{training.test_accuracy:.2%} of {training.test_images:,} test images"
            tip = f"{m.cell.name}\n{accuracy}\n{m.seconds} s measured"
            point = Point(_median(m), 100 * training.test_accuracy, "trained", m.cell.name, tip, m.file.as_posix())
            found.append((_chart(training.data or "trained", m), point))
    return found


def _chart(data: str, m: StoredRun) -> str:
    """Where a point of ours belongs: what takes seconds is another thing where heads go one after another."""
    kernels = m.record.program.made_by.kernels if m.record.program else None
    return DATA_SETS.get(data, data) + (", heads one after another" if kernels == "paper" else "")


def _short(model: str, mu: str | None, kd: bool) -> str:
    """A published model's name in a picture."""
    if model.startswith("mpcvit_"):
        return ""  # ablations and MPCViT+: their tips name them
    return f"{model.removesuffix('_vit').replace('_', ' ')}{f' {mu}' if mu else ''}{' KD' if kd else ''}"


def _name(m: StoredRun) -> str:
    """A cell, with what it ran on where that is not the usual."""
    usual = {"semi2k", "beaver"}
    return m.cell.name if m.cell.protocol in usual else f"{m.cell.name}, {m.cell.protocol}"


def _network(m: StoredRun) -> str:
    return m.cell.network_name if m.cell.network_name in NETWORKS else "another"


def _said(m: StoredRun) -> str:
    executor = m.record.executor.name if m.record.executor else ""
    return f"{_name(m)}\n{m.cell.network_name} ({executor}): {m.seconds} s"


def _median(m: StoredRun) -> float:
    assert m.record.statistics is not None
    return m.record.statistics.median
