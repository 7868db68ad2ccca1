"""The tables that pages of the docs can hold, each registered by a decorator where it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mpcvit_harness.claims import Claims, load
from mpcvit_harness.errors import HarnessError
from mpcvit_harness.stored import StoredRun, StoredTraining, counted_runs, counted_trainings
from mpcvit_harness.tables.table import Table
from mpcvit_harness.verdicts import Evaluation, evaluate


@dataclass(frozen=True)
class Context:
    """What tables are made of.

    `runs` are the valid records that count, `wrong` those whose logits are wrong: they are no latency, and only a table
    that studies failures shows them.
    """

    runs: Sequence[StoredRun] = ()
    wrong: Sequence[StoredRun] = ()
    trainings: Sequence[StoredTraining] = ()
    claims: Claims | None = None
    evaluations: Sequence[Evaluation] = ()

    @classmethod
    def load(cls, root: Path, results: Path, claims: Path | None = None) -> Context:
        """Everything below `results`, with file names relative to `root`; raises ClaimsError."""
        every = list(counted_runs(root, results))
        runs = [run for run in every if run.is_latency]
        trainings = list(counted_trainings(root, results))
        loaded = load(claims) if claims else None
        evaluations = evaluate(loaded, runs, trainings) if loaded else []
        return cls(runs, [run for run in every if not run.is_latency], trainings, loaded, evaluations)

    def dataset_name(self, name: str) -> str:
        """A data set's name as the paper writes it."""
        known = self.claims.names.datasets if self.claims else {}
        return known.get(name.replace("-", "_"), name)

    def experiment(self, name: str, *, may_be_wrong: bool = False) -> list[StoredRun]:
        """The records of one experiment, without the cells that only show that it runs."""
        runs = [*self.runs, *self.wrong] if may_be_wrong else self.runs
        return [run for run in runs if run.cell.experiment == name and run.cell.scale != "smoke"]


TableMaker = Callable[[Context], Table]
GroupTableMaker = Callable[[Context, str], Table]

_MAKERS: dict[str, TableMaker] = {}
_GROUP_MAKERS: dict[str, GroupTableMaker] = {}


def table(name: str) -> Callable[[TableMaker], TableMaker]:
    """Register a function of a Context as the table `name`."""

    def register(make: TableMaker) -> TableMaker:
        _MAKERS[name] = make
        return make

    return register


def group_table(prefix: str) -> Callable[[GroupTableMaker], GroupTableMaker]:
    """Register a function of a Context and a group of claims: the tables `prefix`_GROUP."""

    def register(make: GroupTableMaker) -> GroupTableMaker:
        _GROUP_MAKERS[prefix] = make
        return make

    return register


def table_names(context: Context) -> list[str]:
    """The name of every table."""
    groups = context.claims.groups if context.claims else ()
    return [*_MAKERS, *(f"{prefix}_{group}" for prefix in _GROUP_MAKERS for group in groups)]


def make_table(name: str, context: Context) -> Table:
    """The table `name`; raises HarnessError where there is none."""
    if name in _MAKERS:
        return replace(_MAKERS[name](context), name=name)
    prefix, _, group = name.partition("_")
    if prefix in _GROUP_MAKERS and context.claims is not None and group in context.claims.groups:
        return replace(_GROUP_MAKERS[prefix](context, group), name=name)
    raise HarnessError(f"there is no table {name!r}", f"use one of {', '.join(table_names(context))}")
