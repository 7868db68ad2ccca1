"""Columns that several tables have: what a record of private inferences says of itself."""

from __future__ import annotations

from collections.abc import Iterable

from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables.table import Column, Entry, Href, Kind, Note
from spu_bench import RunRecord

REMARKS = {
    "other_load": "Other processes kept cores busy during the run.",
    "frequency": "The cores' frequency fell during the run.",
    "steal": "The hypervisor took time from the cores during the run.",
    "swap": "The machine swapped memory during the run.",
}
"""What each remark of the machine's watch means; its limits are in docs/method.md."""


def remarks(*records: RunRecord) -> tuple[Note, ...]:
    """The remarks of the machine's watch on these records, as notes on a number that follows from them."""
    found = [remark for record in records for remark in record.remarks]
    return tuple(Note(remark.kind, REMARKS[remark.kind], remark.text) for remark in found)


def remark_lines(record: RunRecord) -> str:
    """The remarks as lines below other text; empty where there are none."""
    return "".join(f"\nRemark: {note.text}" for note in remarks(record))


def cell_name(run: StoredRun) -> str:
    """The cell's name, with its protocol where that is not the usual one."""
    return run.cell.name if run.cell.protocol in ("semi2k", "beaver") else f"{run.cell.name}, {run.cell.protocol}"


def executor_name(run: StoredRun) -> str:
    """The executor that ran it."""
    return run.record.executor.name if run.record.executor else ""


def median(run: StoredRun) -> float:
    """Median seconds of a record."""
    assert run.record.statistics is not None
    return run.record.statistics.median


def seconds(run: StoredRun, format_spec: str = ".2f") -> Entry:
    """The median seconds, with the remarks on them."""
    return Entry(format(median(run), format_spec), median(run), notes=remarks(run.record))


def spread(run: StoredRun) -> Entry:
    """The median seconds and their range, with the remarks on them."""
    return Entry(run.seconds, median(run), notes=remarks(run.record))


def sent_mb(record: RunRecord) -> float:
    """MB that the busier party sent in the last inference."""
    return max(record.sent_bytes) / 1e6


def logit_error(run: StoredRun) -> Entry:
    """The largest difference of a logit to plaintext."""
    if run.record.accuracy is None:
        return Entry()
    error = run.record.accuracy.max_abs_error
    return Entry(f"{error:.4f}" if error < 1000 else f"{error:.3g}", error)


def floor_s(record: RunRecord) -> float:
    """The least seconds that the network allows: rounds x one-way delay + bytes / the probed rate.

    The delay is the one asked for, the rate the mean of what the probes around the run saw in either direction.
    """
    probes = (*record.link_before, *record.link_after)
    rates = [rate for probe in probes for rate in (probe.rate_mbit, probe.rate_back_mbit)]
    delay_s = record.request.network.one_way_ms / 1e3
    transfer_s = max(record.sent_bytes) * 8 / (sum(rates) / len(rates) * 1e6) if rates else 0.0
    return record.rounds * delay_s + transfer_s


def plain_accuracy(record: RunRecord) -> str:
    """Accuracy of a record's trained weights in plaintext, with the number of test images; nothing for random ones."""
    training = record.program.training if record.program else None
    return f"{training.test_accuracy:.2%} of {training.test_images:,}" if training else ""


def busier_cpu_s(run: StoredRun) -> float:
    """CPU seconds of the busier party in the last inference."""
    return max(party.inferences[-1].cpu_s for party in run.record.parties)


def href(run: StoredRun, text: str = "record") -> Href:
    """The reference to a record."""
    return Href(run.file.as_posix(), text)


def hrefs(runs: Iterable[StoredRun], text: str = "record") -> Entry:
    """The references to several records."""
    return Entry(hrefs=tuple(href(run, text) for run in runs))


def label(key: str, title: str, kind: Kind = "text") -> Column[StoredRun]:
    """The column of one label of the cells."""
    return Column(title, lambda run: run.cell.labels.get(key, "").replace("_", " " if kind == "text" else "_"), kind)


MODEL = label("attention", "model")
NETWORK: Column[StoredRun] = Column("network", lambda run: run.cell.network_name, "code", filtered=True)
SECONDS = Column("seconds: median [range]", spread, "number")
ROUNDS: Column[StoredRun] = Column("rounds", lambda run: run.record.rounds, "number", ",d")
MESSAGES: Column[StoredRun] = Column("messages", lambda run: run.record.rounds, "number", ",d")
SENT: Column[StoredRun] = Column("MB sent by a party", lambda run: sent_mb(run.record), "number", ",.1f")
ERROR = Column("largest logit error", logit_error, "number")
RECORD = Column("", href, "records")
TRAFFIC = (MESSAGES, SENT)
COST = (SECONDS, ROUNDS, SENT, ERROR)
