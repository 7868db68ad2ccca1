"""The table of peers: the same model on CrypTen and on SPU."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables.columns import href, logit_error, median, sent_mb, spread
from mpcvit_harness.tables.correctness import correctness
from mpcvit_harness.tables.registry import Context, table
from mpcvit_harness.tables.table import Column, Entry, Table

BASELINE = "crypten-accurate"


@dataclass(frozen=True)
class Peer:
    """One system's record of a model, and the baseline of that model, network and machine: accurate CrypTen's record.

    A record whose logits are wrong is no baseline, and has no latency.
    """

    run: StoredRun
    baseline: StoredRun | None

    @property
    def system(self) -> str:
        """What runs the model."""
        return self.run.cell.labels["system"]

    @property
    def model(self) -> str:
        """The model, by its attention; "trained" where its weights are those of a training run."""
        return "trained" if "run" in self.run.cell.labels else self.run.cell.labels["attention"]

    @property
    def key(self) -> tuple[str, str, str]:
        """What peers have to share to be compared: model, network, machine."""
        return self.model, self.run.cell.network_name, self.run.machine

    @property
    def is_wrong(self) -> bool:
        """Whether its logits are wrong."""
        return self.run.record.correctness == "wrong"

    @property
    def times_as_fast(self) -> float | None:
        """How many times as fast it is as the baseline."""
        return None if self.is_wrong or self.baseline is None else median(self.baseline) / median(self.run)


def peers_of(runs: Iterable[StoredRun]) -> list[Peer]:
    """The records of the peers, by model, network and machine, the slowest system of each first."""
    alone = [Peer(run, None) for run in runs]
    baselines = {peer.key: peer.run for peer in alone if peer.system == BASELINE and not peer.is_wrong}
    found = [Peer(peer.run, baselines.get(peer.key)) for peer in alone]
    return sorted(found, key=lambda peer: (peer.key, -median(peer.run)))


@table("peers")
def peers(context: Context) -> Table:
    """A row per model, network and system, beside accurate CrypTen on the same machine."""
    found = peers_of(context.experiment("peers", may_be_wrong=True))
    columns: list[Column[Peer]] = [
        Column("model", lambda peer: peer.model, filtered=True),
        Column("network", lambda peer: peer.run.cell.network_name, "code", filtered=True),
        Column("system", lambda peer: peer.system),
        Column("seconds: median [range]", lambda peer: Entry() if peer.is_wrong else spread(peer.run), "number"),
        Column("rounds", lambda peer: peer.run.record.rounds, "number", ",d"),
        Column("MB sent by a party", lambda peer: sent_mb(peer.run.record), "number", ",.1f"),
        Column("correctness", lambda peer: correctness(peer.run)),
        Column("largest logit error", lambda peer: logit_error(peer.run), "number"),
        Column("times as fast as accurate CrypTen", lambda peer: peer.times_as_fast, "number", ".2f"),
        Column("trust", lambda peer: peer.run.record.trust or ""),
        Column("", lambda peer: href(peer.run), "records"),
    ]
    wrong = [f"{peer.system} ({peer.model}, {peer.key[1]})" for peer in found if peer.is_wrong]
    note = ""
    if wrong:
        note = (
            f"Wrong logits: {', '.join(wrong)}. Such a record has no latency and is no baseline. Where the record of "
            "accurate CrypTen is wrong, nothing is compared with it."
        )
    return Table.of(columns, found, note)
