"""Tables of the docs, made from records: first inferences, links, variants, peers. `pages` puts them in place."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from mpcvit_harness.cells import ModelSpec
from mpcvit_harness.stored import StoredRun
from spu_bench import RunRecord
from vit_models import describe, get_config


def plain_accuracy(record: RunRecord) -> str:
    """Accuracy of a record's trained weights in plaintext, with the number of test images; nothing for random ones."""
    training = record.program.training if record.program else None
    return f"{training.test_accuracy:.2%} of {training.test_images:,}" if training else ""


def floor_s(record: RunRecord) -> float:
    """Seconds that the link alone takes: rounds x one-way delay + bytes / the probed rate.

    The delay is the one asked for, the rate the mean of what the probes around the run saw in either direction.
    """
    rates = [
        rate for probe in (*record.link_before, *record.link_after) for rate in (probe.rate_mbit, probe.rate_back_mbit)
    ]
    delay_s = record.request.network.one_way_ms / 1e3
    transfer_s = max(record.sent_bytes) * 8 / (sum(rates) / len(rates) * 1e6) if rates else 0.0
    return record.rounds * delay_s + transfer_s


def first_inferences(measured: list[StoredRun], page: Path) -> str:
    """Private inferences over the loopback device: classes, errors, rounds and bytes."""
    rows = [
        (
            m.cell.name,
            plain_accuracy(m.record),
            m.cell.protocol,
            str(m.record.rounds),
            f"{max(m.record.sent_bytes) / 1e6:.1f}",
            f"{m.record.accuracy.max_abs_error:.4f}" if m.record.accuracy else "",
            f"{m.record.accuracy.clear_equal} of {m.record.accuracy.clear}" if m.record.accuracy else "",
            f"{m.record.accuracy.top1_equal} of {m.record.accuracy.inputs}" if m.record.accuracy else "",
            m.link(page),
        )
        for m in measured
        if m.cell.experiment == "first_inference"
    ]
    head = ("model", "plaintext accuracy, test images", "protocol", "rounds (messages of a party)")
    more = ("MB sent by a party", "largest logit error", "same class, margin > 0.1", "same class, all", "")
    return markdown((*head, *more), rows)


def links(measured: list[StoredRun], page: Path) -> str:
    """The same model over each link and executor, beside the link's floor."""
    rows = []
    for m in measured:
        if m.cell.experiment != "links" or m.cell.scale == "smoke":
            continue
        assert m.record.statistics is not None
        floor = floor_s(m.record)
        ratio = f"{m.record.statistics.median / floor:.3f}" if floor else ""
        probed = " / ".join(
            f"{p.rtt_ms:.2f} ms, {p.rate_mbit:.0f}, {p.rate_back_mbit:.0f}" for p in m.record.link_before
        )
        rows.append(
            (
                m.cell.network_name,
                m.record.executor.name if m.record.executor else "",
                m.record.executor.shaper if m.record.executor else "",
                probed,
                m.seconds,
                str(m.record.statistics.n),
                f"{floor:.2f}" if floor else "",
                ratio,
                f"{max(party.inferences[-1].cpu_s for party in m.record.parties):.2f}",
                m.link(page),
            )
        )
    head = ("network", "executor", "shaper", "probed RTT, Mbit/s there, back", "seconds: median [range]", "n")
    return markdown((*head, "floor s", "measured / floor", "CPU s", ""), rows)


def shaper_cost(measured: list[StoredRun], page: Path) -> str:
    """What the user-space shaper took of a core, and how punctual it was."""
    rows = []
    for m in measured:
        costs = m.record.executor.shaper_cost if m.record.executor else []
        if m.cell.experiment != "links" or not costs:
            continue
        busier = max(costs, key=lambda cost: cost.cpu_share_peak)
        probes = [*m.record.link_before, *m.record.link_after]
        rows.append(
            (
                f"`{m.cell.network_name}`",
                m.record.executor.name if m.record.executor else "",
                f"{max(p.rtt_ms for p in probes):.3f} ({max(p.rtt_p99_ms for p in probes):.3f})",
                f"{busier.cpu_share_peak:.0%}",
                f"{busier.cpu_seconds / busier.seconds:.1%}",
                f"{busier.late_us_p50 or 0:.0f}, {busier.late_us_p99 or 0:.0f}",
                m.link(page),
            )
        )
    head = ("network", "executor", "RTT ms: median (p99)", "share, busiest half second", "share, whole run")
    return markdown((*head, "late us: p50, p99", ""), rows)


def variants(measured: list[StoredRun], page: Path) -> str:
    """One row per attention variant: what it holds, computes, sends, takes and errs by."""
    by_name: dict[str, dict[str, StoredRun]] = {}
    for m in measured:
        if m.cell.experiment == "variants":
            by_name.setdefault(m.cell.name, {})[m.cell.network_name] = m
    rows = []
    for name, of in by_name.items():
        if not {"wan", "lan"} <= of.keys():
            continue
        spec, record = of["wan"].cell.model, of["wan"].record
        assert isinstance(spec, ModelSpec)
        size = describe(
            get_config(spec.config, num_classes=spec.num_classes, **spec.overrides), attention=spec.attention
        )
        assert record.accuracy is not None
        rows.append(
            (
                f"`{name}`",
                f"{size.parameters:,}",
                f"{size.macs / 1e6:.1f}",
                str(record.rounds),
                f"{max(record.sent_bytes) / 1e6:.1f}",
                of["lan"].seconds,
                of["wan"].seconds,
                f"{record.accuracy.max_abs_error:.5f}",
                f"{of['lan'].link(page)} {of['wan'].link(page)}",
            )
        )
    rows.sort(key=lambda row: float(row[6].split()[0]))
    head = (
        "variant",
        "parameters",
        "million multiply-adds",
        "rounds",
        "MB sent by a party",
        "s over lan",
        "s over wan",
    )
    return markdown((*head, "largest logit error", ""), rows)


@dataclass(frozen=True)
class Peer:
    """One system's record of a model, and how many times as fast it is as accurate CrypTen on that link and machine."""

    measured: StoredRun
    system: str
    model: str
    times_as_fast: float | None

    @property
    def seconds(self) -> float:
        """Median seconds."""
        assert self.measured.record.statistics is not None
        return self.measured.record.statistics.median


def compared(measured: Iterable[StoredRun]) -> list[Peer]:
    """The records of the peers: models, links and machines together, the slowest system of each first."""
    mine = (m for m in measured if m.cell.experiment == "peers" and m.cell.scale == "paper")
    of = [(m, *m.cell.name.removeprefix(f"{m.cell.network_name}-").rpartition("-")[::2]) for m in mine]
    found = [Peer(m, system, model, None) for m, system, model in of]

    def key(peer: Peer) -> tuple[str, str, str]:
        return peer.model, peer.measured.cell.network_name, peer.measured.machine

    accurate = {key(peer): peer.seconds for peer in found if peer.system == "crypten-accurate"}
    found = [replace(p, times_as_fast=accurate[key(p)] / p.seconds if key(p) in accurate else None) for p in found]
    return sorted(found, key=lambda peer: (key(peer), -peer.seconds))


def peers(measured: list[StoredRun], page: Path) -> str:
    """The same model on CrypTen and on SPU: a row a model, link and system, beside accurate CrypTen on that machine."""
    rows = [
        (
            peer.model,
            f"`{peer.measured.cell.network_name}`",
            peer.system,
            peer.measured.seconds,
            str(peer.measured.record.rounds),
            f"{max(peer.measured.record.sent_bytes) / 1e6:.1f}",
            f"{peer.measured.record.accuracy.max_abs_error:.4f}" if peer.measured.record.accuracy else "",
            f"{peer.times_as_fast:.2f}" if peer.times_as_fast else "",
            peer.measured.record.trust or "",
            peer.measured.link(page),
        )
        for peer in compared(measured)
    ]
    head = ("model", "network", "system", "seconds: median [range]", "rounds", "MB sent by a party")
    more = ("largest logit error", "times as fast as accurate CrypTen", "trust", "")
    return markdown((*head, *more), rows)


OVERHEAD_S = {"netns": 3.0, "docker": 8.0}
"""What the harness may take around a cell's parties, by executor."""


def overhead(measured: list[StoredRun], page: Path) -> str:
    """Seconds that the harness took around a cell's parties, by executor and network, of the newest code there."""
    kinds: dict[tuple[str, str], list[StoredRun]] = {}
    for m in sorted(measured, key=lambda m: m.record.started_at, reverse=True):
        if m.record.overhead_s is not None:
            of = kinds.setdefault(
                (m.record.executor.name if m.record.executor else "", m.record.request.network.name), []
            )
            if not of or of[0].record.code.source == m.record.code.source:
                of.append(m)
    rows = []
    for (name, network), cells in sorted(kinds.items()):
        longest = max(cells, key=lambda m: m.record.overhead_s or 0.0)
        seconds = [m.record.overhead_s or 0.0 for m in cells]
        probing = [sum(link.seconds for link in m.record.link_before + m.record.link_after) for m in cells]
        limit = OVERHEAD_S.get(name)
        rows.append(
            (
                name,
                network,
                str(len(cells)),
                f"{statistics.median(seconds):.1f}",
                f"{max(seconds):.1f}",
                f"{statistics.median(probing):.1f}",
                f"{limit:g}" if limit else "",
                longest.link(page, "longest"),
            )
        )
    head = ("executor", "network", "cells", "overhead s: median", "largest", "of it two probes", "at most", "")
    return markdown(head, rows)


TABLES: dict[str, Callable[[list[StoredRun], Path], str]] = {
    "first_inferences": first_inferences,
    "links": links,
    "shaper_cost": shaper_cost,
    "variants": variants,
    "peers": peers,
    "overhead": overhead,
}


def markdown(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
