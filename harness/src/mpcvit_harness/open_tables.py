"""Tables of docs/open-division.md and of the option presets, made from the records of the `open_*` experiments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from mpcvit_harness.cells import ModelSpec
from mpcvit_harness.paper_tables import WRONG, median
from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables import floor_s, markdown, plain_accuracy
from spu_bench import PRESETS

GIB = 2**30
COST = ("seconds: median [range]", "rounds", "MB sent by a party", "largest logit error")


def cost(m: StoredRun) -> tuple[str, str, str, str]:
    """What COST heads."""
    error = f"{m.record.accuracy.max_abs_error:.4f}" if m.record.accuracy else ""
    return m.seconds, f"{m.record.rounds:,}", f"{max(m.record.sent_bytes) / 1e6:.1f}", error


def split_name(m: StoredRun) -> tuple[str, str]:
    """(what runs, attention) of a cell that is named so."""
    kind, _, attention = m.cell.name.rpartition("-")
    return kind, attention


def batches(measured: list[StoredRun], page: Path) -> str:
    """Batches and streams: seconds an image, images a minute, and seconds beside those of one image."""
    mine = _of(measured, "batches")
    alone = {(split_name(m)[1], m.machine): median(m) for m in mine if split_name(m)[0] == "batch_1"}
    rows = []
    for m in mine:
        kind, attention = split_name(m)
        assert isinstance(m.cell.model, ModelSpec)
        each = median(m) / m.cell.model.batch
        one = alone.get((attention, m.machine))
        rows.append(
            (
                attention,
                kind.replace("_", " of "),
                *cost(m),
                f"{floor_s(m.record):.1f}",
                f"{each:.2f}",
                f"{60 / each:.1f}",
                f"{median(m) / one:.2f}" if one else "",
                m.link(page),
            )
        )
    head = ("model", "images", *COST, "floor s", "s an image", "images a minute", "times one image's seconds", "")
    return markdown(head, rows)


def streams(measured: list[StoredRun], page: Path) -> str:
    """What only the first image of a stream pays: the weights' shares, and their opening."""
    rows = []
    for m in _of(measured, "batches"):
        kind, attention = split_name(m)
        if kind != "stream":
            continue
        server = m.record.parties[0]
        sent = [each.link.sent_bytes / 1e6 if each.link else 0.0 for each in server.inferences]
        rows.append(
            (
                attention,
                str(len(sent)),
                f"{server.compile_s:.1f}",
                f"{server.share_weights_s:.1f}",
                f"{m.record.samples_s[0]:.2f}, {sent[0]:.1f}",
                f"{np.median(m.record.samples_s[1:]):.2f}, {max(sent[1:]):.1f}",
                m.link(page),
            )
        )
    head = (
        "model",
        "images",
        "compiling s, once",
        "sharing weights s, once",
        "first image: s, MB",
        "later ones: s, MB",
    )
    return markdown((*head, ""), rows)


def holders(measured: list[StoredRun], page: Path) -> str:
    """Who holds what."""
    rows = [
        (*reversed(split_name(m)), f"`{m.cell.network_name}`", *cost(m), m.link(page)) for m in _of(measured, "holders")
    ]
    return markdown(("model", "held", "network", *COST, ""), rows)


def cheetah(measured: list[StoredRun], page: Path) -> str:
    """CHEETAH: tuned kernels beside the plain port."""

    def key(m: StoredRun) -> tuple[str, str, str]:
        return split_name(m)[1], m.cell.network_name, m.machine

    def system(m: StoredRun) -> str:
        return m.cell.name.partition("-")[0]

    mine = _of(measured, "cheetah")
    plain = {key(m): median(m) for m in mine if system(m) == "plain"}
    rows = [
        (
            split_name(m)[1],
            f"`{m.cell.network_name}`",
            f"`{system(m)}`",
            *cost(m),
            f"{median(m) / plain[key(m)]:.2f}" if key(m) in plain else "",
            m.link(page),
        )
        for m in mine
    ]
    head = ("model", "network", "kernels", COST[0], "messages", *COST[2:], "of the plain port's seconds", "")
    return markdown(head, rows)


def tiny(measured: list[StoredRun], page: Path) -> str:
    """Tiny-ImageNet's model: seconds and memory."""
    rows = [
        (
            m.cell.name,
            f"`{m.cell.network_name}`",
            *cost(m),
            f"{max(party.peak_memory_bytes for party in m.record.parties) / GIB:.2f}",
            m.link(page),
        )
        for m in _of(measured, "tiny")
    ]
    return markdown(("model", "network", *COST, "peak memory of a party, GiB", ""), rows)


def ablation(measured: list[StoredRun], page: Path) -> str:
    """All parts of the tuned kernels, and all but one."""
    mine = _of(measured, "ablation")

    def parts(m: StoredRun) -> tuple[str, str]:
        attention, _, part = m.cell.name.partition("-without-")
        return attention, part.replace("_", " ")

    whole = {(parts(m)[0], m.machine): m for m in mine if parts(m)[1] == "nothing"}
    rows = []
    for m in sorted(mine, key=lambda m: (parts(m)[0], median(m))):
        attention, part = parts(m)
        base = whole.get((attention, m.machine))
        more = ("", "", "")
        if base is not None:
            more = (
                f"{median(m) - median(base):+.2f}",
                f"{m.record.rounds - base.record.rounds:+,}",
                f"{(max(m.record.sent_bytes) - max(base.record.sent_bytes)) / 1e6:+.1f}",
            )
        rows.append((attention, part, *cost(m), *more, m.link(page)))
    return markdown(("model", "without", *COST, "s more", "rounds more", "MB more", ""), rows)


def truncation(measured: list[StoredRun], page: Path) -> str:
    """Errors of many inferences under each truncation; failures counted."""
    rows = []
    for m in _of(measured, "truncation"):
        assert m.record.accuracy is not None and m.record.accuracy.errors is not None
        errors = np.array(m.record.accuracy.errors)
        right = errors[errors <= WRONG]
        kernels, _, mode = m.cell.name.partition("-")
        quantiles = np.quantile(right, (0.5, 0.99, 1.0)) if right.size else ()
        rows.append(
            (
                kernels,
                f"`{mode}`",
                f"{errors.size:,}",
                str(int((errors > WRONG).sum())),
                ", ".join(f"{each:.4f}" for each in quantiles),
                m.link(page),
            )
        )
    head = ("kernels", "options", "inferences", f"failed: a logit off by more than {WRONG:g}")
    return markdown((*head, "error of the others: median, 99 %, largest", ""), rows)


def accuracy(measured: list[StoredRun], page: Path) -> str:
    """Trained weights on real images."""
    rows = []
    for m in _of(measured, "accuracy"):
        assert m.record.accuracy is not None
        found = m.record.accuracy
        rows.append(
            (
                m.cell.name,
                plain_accuracy(m.record),
                str(found.inputs),
                f"{found.max_abs_error:.4f}",
                f"{found.clear_equal} of {found.clear}",
                f"{found.top1_equal} of {found.inputs}",
                m.link(page),
            )
        )
    head = ("model", "plaintext accuracy, test images", "images", "largest logit error", "same class, margin > 0.1")
    return markdown((*head, "same class, all", ""), rows)


def presets(measured: list[StoredRun], page: Path) -> str:
    """The named options: what each does, and what it costs where it has been measured."""
    found: dict[str, list[StoredRun]] = {}
    for m in _of(measured, "presets"):
        found.setdefault(m.cell.name, []).append(m)
    rows = []
    for name, preset in PRESETS.items():
        does = (f"`{name}`", preset.does)
        if name not in found:
            rows.append((*does, ", ".join(preset.protocols), *("",) * 6))
        rows += [
            (*does, m.cell.protocol, f"`{m.cell.network_name}`", *cost(m), m.link(page)) for m in found.get(name, [])
        ]
    return markdown(("preset", "what it does", "protocol", "network", *COST, ""), rows)


def latency(measured: list[StoredRun], page: Path) -> str:
    """Seconds of one image beside the network's floor."""
    rows = []
    for m in _of(measured, "latency"):
        mode, _, attention = m.cell.name.rpartition("-")
        floor = floor_s(m.record)
        rows.append(
            (
                attention,
                f"`{mode}`",
                *cost(m),
                f"{floor:.2f}",
                f"{median(m) / floor:.3f}",
                f"{max(party.inferences[-1].cpu_s for party in m.record.parties):.2f}",
                m.link(page),
            )
        )
    head = ("model", "options", *COST, "floor s", "measured / floor", "CPU s of the busier party", "")
    return markdown(head, rows)


def _of(measured: list[StoredRun], name: str) -> list[StoredRun]:
    """The records of `open_<name>` that a table shows: none of those that show only that it runs."""
    return sorted(
        (m for m in measured if m.cell.experiment == f"open_{name}" and m.cell.scale != "smoke"),
        key=lambda m: (m.cell.name.rpartition("-")[2], m.cell.network_name, m.cell.name),
    )


TABLES: dict[str, Callable[[list[StoredRun], Path], str]] = {
    "open_batches": batches,
    "open_streams": streams,
    "open_holders": holders,
    "open_cheetah": cheetah,
    "open_tiny": tiny,
    "open_ablation": ablation,
    "open_latency": latency,
    "open_truncation": truncation,
    "open_accuracy": accuracy,
    "presets": presets,
}
