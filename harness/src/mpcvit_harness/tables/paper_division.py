"""Tables of docs/paper-division.md, from the records of the `paper_*` experiments."""

from __future__ import annotations

from dataclasses import dataclass, field

from mpcvit_harness.formulas import operation_name
from mpcvit_harness.paper_models import BUDGETS
from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables.columns import (
    RECORD,
    SECONDS,
    TRAFFIC,
    href,
    hrefs,
    label,
    median,
    remarks,
    seconds,
)
from mpcvit_harness.tables.correctness import correctness_columns
from mpcvit_harness.tables.registry import Context, table
from mpcvit_harness.tables.table import Column, Entry, Table

ATTENTIONS = {"scale": "ScaleAttn", "softmax": "Softmax"}
"""The paper's words for attention."""


@table("paper_assumptions")
def assumptions(context: Context) -> Table:
    """Seconds with one assumption changed, and the difference to all of them as found."""
    runs = context.experiment("paper_assumptions")
    base = {run.cell.labels["attention"]: run for run in runs if run.cell.labels["assumption"] == "as_found"}
    rows = [run for run in runs if run.cell.labels["attention"] in base]

    def is_base(run: StoredRun) -> bool:
        return run.cell.labels["assumption"] == "as_found"

    def change(run: StoredRun) -> float | None:
        return None if is_base(run) else median(run) - median(base[run.cell.labels["attention"]])

    def share(run: StoredRun) -> float | None:
        found = change(run)
        return None if found is None else found / median(base[run.cell.labels["attention"]])

    columns: list[Column[StoredRun]] = [
        Column("model", lambda run: ATTENTIONS[run.cell.labels["attention"]]),
        label("assumption", "changed"),
        Column("seconds", lambda run: seconds(run, ".1f"), "number"),
        Column("difference", change, "number", "+.1f", "s"),
        Column("change", share, "number", "+.0%"),
        *TRAFFIC,
        RECORD,
    ]

    def order(run: StoredRun) -> tuple[str, bool, str]:
        words = run.cell.labels["assumption"].replace("_", " ")
        return ATTENTIONS[run.cell.labels["attention"]], not is_base(run), words

    return Table.of(columns, sorted(rows, key=order))


@table("paper_truncation")
def truncation(context: Context) -> Table:
    """How many inferences of many gave wrong logits."""

    def model(run: StoredRun) -> str:
        return f"{context.dataset_name(run.cell.labels['dataset'])}, {ATTENTIONS[run.cell.labels['attention']]}"

    columns: list[Column[StoredRun]] = [
        Column("model", model),
        *correctness_columns(),
        RECORD,
    ]
    return Table.of(columns, context.experiment("paper_truncation", may_be_wrong=True))


@table("paper_placements")
def placements(context: Context) -> Table:
    """The same number of ReLU-Softmax heads at different places, heads one after another."""
    runs = context.experiment("paper_placements")
    times = [median(run) for run in runs]
    note = f"Spread of the seconds, largest over smallest: {max(times) / min(times) - 1:.2%}." if times else ""
    columns = [label("placement", "placement", "code"), Column("seconds", SECONDS.value, "number"), *TRAFFIC, RECORD]
    return Table.of(columns, runs, note)


@table("paper_batched")
def batched(context: Context) -> Table:
    """Seconds of the same plans with heads one after another and with the heads of a kind in one call."""

    alone = {"scale_vit": "mu = 0 (ScaleAttn)", "relu_softmax_vit": "mu = 1 (ReLU-Softmax)", "softmax_vit": "Softmax"}

    def plan(run: StoredRun) -> str:
        labels = run.cell.labels
        if labels.get("form", "").startswith("heads_"):
            return f"{labels['form'].removeprefix('heads_')} of 4 heads in every layer"
        if labels.get("placement") == "packed":
            return f"mu = {labels['mu']}, packed into few layers"
        if labels.get("row") == "mpcvit":
            return f"mu = {labels['mu']}, spread over the layers"
        return alone.get(labels.get("row", ""), "")

    order = [
        alone["scale_vit"],
        *(f"mu = {mu}, spread over the layers" for mu in BUDGETS),
        *(f"mu = {mu}, packed into few layers" for mu in BUDGETS),
        alone["relu_softmax_vit"],
        alone["softmax_vit"],
        *(f"{heads} of 4 heads in every layer" for heads in range(1, 5)),
    ]
    loop = {plan(run): run for run in context.experiment("paper_cifar10") if "form" not in run.cell.labels}
    runs = {plan(run): run for run in context.experiment("paper_batched")}
    columns: list[Column[StoredRun]] = [
        Column("plan", plan),
        Column(
            "s, heads one after another",
            lambda run: seconds(loop[plan(run)], ".1f") if plan(run) in loop else None,
            "number",
        ),
        Column("s, heads batched", lambda run: seconds(run, ".1f"), "number"),
        Column("messages, batched", TRAFFIC[0].value, "number", ",d"),
        Column("MB sent, batched", TRAFFIC[1].value, "number", ",.1f"),
        RECORD,
    ]
    return Table.of(columns, [runs[name] for name in order if name in runs])


@dataclass(frozen=True)
class _Part:
    """Seconds of a part of a block, and the records they follow from."""

    protocol: str
    name: str
    seconds: float
    whole: float
    runs: list[StoredRun] = field(default_factory=list)


@table("paper_breakdown")
def breakdown(context: Context) -> Table:
    """What the functions of one ViT block take, as differences between blocks with and without them."""
    runs = context.experiment("paper_breakdown")
    rows = [part for protocol in ("semi2k", "cheetah") for part in _parts(runs, protocol)]
    columns: list[Column[_Part]] = [
        Column("protocol", lambda part: part.protocol.upper()),
        Column("part", lambda part: part.name),
        Column(
            "seconds",
            lambda part: Entry(f"{part.seconds:.2f}", part.seconds, notes=remarks(*(run.record for run in part.runs))),
            "number",
        ),
        Column("of the block with Softmax", lambda part: part.seconds / part.whole, "number", ".0%"),
        Column("", lambda part: hrefs(part.runs), "records"),
    ]
    return Table.of(columns, rows)


def _parts(runs: list[StoredRun], protocol: str) -> list[_Part]:
    """The parts of a block under one protocol; none unless every block is measured."""
    blocks = {
        (run.cell.labels["attention"], run.cell.labels["part"]): run for run in runs if run.cell.protocol == protocol
    }
    needed = [("softmax", "nothing"), ("relu_softmax", "nothing"), ("scale", "nothing"), ("softmax", "gelu")]
    needed.append(("scale", "gelu"))
    if not set(needed) <= blocks.keys():
        return []
    softmax, relu_softmax, scale, no_gelu, bare = (median(blocks[key]) for key in needed)
    shown = [blocks[key] for key in needed]
    parts = {
        "Softmax, four heads": softmax - scale,
        "ReLU-Softmax, four heads": relu_softmax - scale,
        "GeLU": softmax - no_gelu,
        "the block without either, embedding, head": bare,
        "the whole block, with Softmax": softmax,
    }
    inside = {"maximum (and sum)": "reduce", "exponential": "exponential", "division": "divide"}
    taken = {operation_name(o): o.seconds for o in shown[0].record.parties[0].operations}
    return [
        *(_Part(protocol, name, each, softmax, shown) for name, each in parts.items()),
        *(
            _Part(protocol, f"inside Softmax: {name}", taken.get(operation, 0.0), softmax)
            for name, operation in inside.items()
        ),
    ]


@table("paper_plus")
def plus(context: Context) -> Table:
    """MPCViT+ against MPCViT at the same budget."""
    base = {
        (run.cell.labels["dataset"], run.cell.labels["mu"]): run
        for experiment in ("paper_cifar10", "paper_cifar100", "paper_tiny")
        for run in context.experiment(experiment)
        if run.cell.labels.get("row") == "mpcvit"
    }

    def saved(run: StoredRun) -> float | None:
        without = base.get((run.cell.labels["dataset"], run.cell.labels["mu"]))
        return median(run) - median(without) if without else None

    columns: list[Column[StoredRun]] = [
        Column("data set", lambda run: context.dataset_name(run.cell.labels["dataset"])),
        Column("form", lambda run: run.cell.labels["form"].replace("_", ", ")),
        label("mu", "mu"),
        Column("seconds", SECONDS.value, "number"),
        Column("against MPCViT", saved, "number", "+.1f", "s"),
        *TRAFFIC,
        Column("", href, "records"),
    ]
    return Table.of(columns, context.experiment("paper_plus"))


@table("paper_load")
def load(context: Context) -> Table:
    """How busy the machine was while the cells of each experiment ran: by the run itself, and by anything else."""
    watched: dict[str, list[tuple[float, float]]] = {}
    for run in context.runs:
        if run.cell.experiment.startswith("paper_") and run.cell.network != "loopback" and run.record.watch:
            seen = run.record.watch
            watched.setdefault(run.cell.experiment, []).append((seen.own_cores, seen.other_cores))

    def range_of(at: int) -> Column[str]:
        title = ("cores kept busy by the run", "by everything else")[at]

        def text(experiment: str) -> str:
            cores = [cell[at] for cell in watched[experiment]]
            return f"{min(cores):.2f} to {max(cores):.2f}"

        return Column(title, text)

    columns: list[Column[str]] = [
        Column("experiment", lambda experiment: experiment, "code"),
        Column("cells", lambda experiment: len(watched[experiment]), "number"),
        range_of(0),
        range_of(1),
    ]
    return Table.of(columns, sorted(watched))
