"""Tables of docs/paper-division.md, made from the records of the `paper_*` experiments."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from mpcvit_harness.paper_models import BUDGETS
from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables import markdown

WRONG = 1.0
"""A logit further than this from plaintext is garbage: rounding moves one by thousandths."""


def by_name(measured: Iterable[StoredRun], experiment: str) -> dict[str, StoredRun]:
    """The records of one experiment by their cells' names, without toys."""
    return {m.cell.name: m for m in measured if m.cell.experiment == experiment and m.cell.scale == "paper"}


def median(m: StoredRun) -> float:
    """Median seconds of a record."""
    assert m.record.statistics is not None
    return m.record.statistics.median


def traffic(m: StoredRun) -> tuple[str, str]:
    """Messages and MB that a party sent in one inference."""
    return f"{m.record.rounds:,}", f"{max(m.record.sent_bytes) / 1e6:.1f}"


def assumptions(measured: list[StoredRun], page: Path) -> str:
    """Seconds with one assumption changed, and the difference to all of them as found."""
    found = by_name(measured, "paper_assumptions")
    rows = []
    for attention in ("scale", "softmax"):
        base = found.get(f"{attention}-as_found")
        for name, m in found.items():
            if base is None or not name.startswith(f"{attention}-"):
                continue
            change = median(m) - median(base)
            rows.append(
                (
                    "ScaleAttn" if attention == "scale" else "Softmax",
                    name.removeprefix(f"{attention}-").replace("_", " "),
                    f"{median(m):.1f}",
                    "" if m is base else f"{change:+.1f}",
                    "" if m is base else f"{change / median(base):+.0%}",
                    *traffic(m),
                    m.link(page),
                )
            )
    rows.sort(key=lambda row: (row[0], row[3] != "", row[1]))
    return markdown(("model", "changed", "seconds", "difference, s", "", "messages", "MB sent by a party", ""), rows)


def truncation(measured: list[StoredRun], page: Path) -> str:
    """How many inferences of many gave garbage."""
    rows = []
    for name, m in by_name(measured, "paper_truncation").items():
        errors = (m.record.accuracy.errors if m.record.accuracy else None) or []
        wrong = [error for error in errors if error > WRONG]
        right = [error for error in errors if error <= WRONG]
        rows.append(
            (
                name,
                str(len(errors)),
                str(len(wrong)),
                f"{max(wrong):.3g}" if wrong else "",
                f"{max(right):.4f}" if right else "",
                m.link(page),
            )
        )
    head = ("model", "inferences", "with garbage", "its largest logit error", "largest error of the others", "")
    return markdown(head, rows)


def placements(measured: list[StoredRun], page: Path) -> str:
    """The same number of ReLU-Softmax heads at different places, heads one after another."""
    found = by_name(measured, "paper_placements")
    seconds = [median(m) for m in found.values()]
    rows = [(f"`{name}`", m.seconds, *traffic(m), m.link(page)) for name, m in found.items()]
    if seconds:
        rows.append(("spread, largest over smallest", f"{max(seconds) / min(seconds) - 1:.2%}", "", "", ""))
    return markdown(("placement", "seconds", "messages", "MB sent by a party", ""), rows)


def batched(measured: list[StoredRun], page: Path) -> str:
    """Seconds of the same plans with heads one after another and with the heads of a kind in one call."""
    loop, batch = by_name(measured, "paper_cifar10"), by_name(measured, "paper_batched")
    labels = {
        "main-scale": "mu = 0 (ScaleAttn)",
        **{f"main-mpcvit_{mu}": f"mu = {mu}, spread over the layers" for mu in BUDGETS},
        **{f"packed-mpcvit_{mu}": f"mu = {mu}, packed into few layers" for mu in BUDGETS},
        "main-relu_softmax": "mu = 1 (ReLU-Softmax)",
        "main-softmax": "Softmax",
        **{f"heads_{n}": f"{n} of 4 heads in every layer" for n in range(1, 5)},
    }
    rows = []
    for name, label in labels.items():
        if name not in batch:
            continue
        one_by_one = f"{median(loop[name]):.1f}" if name in loop else ""
        rows.append((label, one_by_one, f"{median(batch[name]):.1f}", *traffic(batch[name]), batch[name].link(page)))
    head = ("plan", "s, heads one after another", "s, heads batched", "messages, batched", "MB sent, batched", "")
    return markdown(head, rows)


def breakdown(measured: list[StoredRun], page: Path) -> str:
    """What the functions of one ViT block take, as differences between blocks with and without them."""
    found = by_name(measured, "paper_breakdown")
    rows = []
    for prefix, protocol in (("", "SEMI2K"), ("cheetah-", "CHEETAH")):
        of = {name: found.get(prefix + name) for name in ("softmax", "relu_softmax", "scale", "no_gelu", "bare")}
        present = {name: m for name, m in of.items() if m is not None}
        if len(present) < len(of):
            continue
        whole, bare = median(present["softmax"]), median(present["bare"])
        parts = {
            "Softmax, four heads": whole - median(present["scale"]),
            "ReLU-Softmax, four heads": median(present["relu_softmax"]) - median(present["scale"]),
            "GeLU": whole - median(present["no_gelu"]),
            "the block without either, embedding, head": bare,
            "the whole block, with Softmax": whole,
        }
        links = " ".join(m.link(page) for m in present.values())
        rows += [(protocol, part, f"{s:.2f}", f"{s / whole:.0%}", links) for part, s in parts.items()]
        seconds = {o.name: o.seconds for o in present["softmax"].record.parties[0].operations}
        for part, operation in (
            ("maximum (and sum)", "reduce"),
            ("exponential", "exponential"),
            ("division", "divide"),
        ):
            s = seconds.get(operation, 0.0) or seconds.get(f"pphlo.{operation}", 0.0)
            rows.append((protocol, f"inside Softmax: {part}", f"{s:.2f}", f"{s / whole:.0%}", ""))
    return markdown(("protocol", "part", "seconds", "of the block with Softmax", ""), rows)


def plus(measured: list[StoredRun], page: Path) -> str:
    """MPCViT+ against MPCViT at the same budget."""
    found = by_name(measured, "paper_plus")
    base = {
        name: by_name(measured, f"paper_{short}")
        for name, short in (("cifar10", "cifar10"), ("cifar100", "cifar100"), ("tiny_imagenet", "tiny"))
    }
    rows = []
    for name, m in found.items():
        data, _, rest = name.partition("-")
        form, _, mu = rest.rpartition("_")
        without = base[data].get(f"main-mpcvit_{mu}")
        saved = f"{median(m) - median(without):+.1f}" if without else ""
        rows.append((data, form.replace("_", ", "), mu, m.seconds, saved, *traffic(m), m.link(page)))
    head = ("data set", "form", "mu", "seconds", "against MPCViT, s", "messages", "MB sent by a party", "")
    return markdown(head, rows)


def load(measured: list[StoredRun], page: Path) -> str:
    """How busy the machine was while the cells of each experiment ran: by the run itself, and by anything else."""
    watched: dict[str, list[tuple[float, float]]] = {}
    for m in measured:
        if m.cell.experiment.startswith("paper_") and m.cell.network != "loopback" and m.record.watch:
            seen = m.record.watch
            watched.setdefault(m.cell.experiment, []).append((seen.own_cores, seen.other_cores))
    rows = []
    for experiment, cells in sorted(watched.items()):
        own, others = ([cell[i] for cell in cells] for i in (0, 1))
        rows.append((f"`{experiment}`", str(len(cells)), *(f"{min(c):.2f} to {max(c):.2f}" for c in (own, others))))
    return markdown(("experiment", "cells", "cores kept busy by the run", "by everything else"), rows)


TABLES: dict[str, Callable[[list[StoredRun], Path], str]] = {
    "paper_assumptions": assumptions,
    "paper_truncation": truncation,
    "paper_placements": placements,
    "paper_batched": batched,
    "paper_breakdown": breakdown,
    "paper_plus": plus,
    "paper_load": load,
}
