"""The content of claims.toml, checked: what the paper says, which cells answer it, and how near they have to come."""

from __future__ import annotations

import itertools
import json
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mpcvit_harness.formulas import FORMULAS

FactColumn = Literal["latency_s", "accuracy_pct"]
"""The columns of the table of published numbers that hold a number."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tolerance(_Strict):
    """Limits of a difference, relative to the stated value or in its own unit.

    For a bound (`at_most`, `at_least`) they are how far beyond it, relative to it, the measured value may lie. `above`
    is for means over seeds: how far below the stated value the lower end of their 95 % interval, or the mean, may lie.
    """

    about: str
    kind: Literal["relative", "absolute", "at_most", "at_least", "above"] = "relative"
    reproduced: float = Field(ge=0)
    within_shape: float = Field(ge=0)


class Section(_Strict):
    """Groups that the summary counts together.

    `published` sections state numbers of a publication and are counted. A `reading` is another model for a row that is
    counted already, a `target` is this project's own: neither is counted.
    """

    title: str
    kind: Literal["published", "reading", "target"] = "published"


class Group(_Strict):
    """Claims under one heading."""

    title: str
    section: str


class Names(_Strict):
    """The names of data sets and of models as the paper writes them, by their names in the table of published numbers.

    A model's name may hold {mu}.
    """

    datasets: dict[str, str]
    models: dict[str, str]


class DatasetAnswer(_Strict):
    """Where a data set's rows are answered, how near they have to come, and the group that shows them."""

    experiment: str
    tolerance: str
    group: str


class Answer(_Strict):
    """Which cells answer rows of the table of published numbers: a cell's name per model, with words of the row in {}.

    The words are dataset, mu, percent (mu in per cent), and distilled (both, or none), as the runs of sweeps have it.
    """

    column: FactColumn
    datasets: dict[str, DatasetAnswer]
    cells: dict[str, str]


class DerivedClaim(_Strict):
    """A claim that follows from several cells, or a family of such: `each` puts its words in place of {words}.

    `each` is a list of axes; a family has a member for every choice of one entry per axis, the last varying fastest.
    `paper` (one number, or one per member) is what the paper says, `target` what this project aims at. Without either,
    the number follows from the rows that these cells answer, or those that `rows` names by the cells that answer them.
    `x` is for formulas that take it. `every_pair` makes a claim of each two cells, except pairs that another claim
    states. `unit` is the formula's own where it is left out.
    """

    id: str
    text: str
    group: str
    formula: str
    cells: list[str] = []
    rows: list[str] = []
    x: list[list[float]] | None = None
    each: list[list[dict[str, str]]] = []
    every_pair: bool = False
    paper: float | list[float] | None = None
    target: float | list[float] | None = None
    unit: str | None = None
    source: str
    tolerance: str
    not_run: str | None = None

    @property
    def members(self) -> list[dict[str, str]]:
        """The words of every member of the family."""
        return [{k: v for words in chosen for k, v in words.items()} for chosen in itertools.product(*self.each)]

    def stated(self, member: int) -> float | None:
        """The number that the file states for a member."""
        value = self.paper if self.paper is not None else self.target
        return value[member] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _check_lists(self) -> Self:
        for name, values in (("paper", self.paper), ("target", self.target), ("x", self.x)):
            if isinstance(values, list) and len(values) != len(self.members):
                raise ValueError(f"claim {self.id}: {name} has {len(values)} entries for {len(self.members)} members")
        if self.paper is not None and self.target is not None:
            raise ValueError(f"claim {self.id}: a number is the paper's or a target, not both")
        return self


class ClaimsFile(_Strict):
    """The content of claims.toml.

    `facts` is the table of published numbers beside it. `commands` make the records of an experiment or a sweep, where
    that takes more than to run the harness.
    """

    schema_version: Literal[2]
    facts: str
    commands: dict[str, str] = {}
    names: Names
    sections: dict[str, Section]
    groups: dict[str, Group]
    tolerance: dict[str, Tolerance]
    answer: list[Answer]
    claim: list[DerivedClaim]

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        used = [by for answer in self.answer for by in answer.datasets.values()]
        members = [(derived, words) for derived in self.claim for words in derived.members]
        tolerances = {by.tolerance for by in used} | {d.tolerance.format(**words) for d, words in members}
        groups = {by.group for by in used} | {d.group.format(**words) for d, words in members}
        for kind, names, known in (
            ("section", {group.section for group in self.groups.values()}, set(self.sections)),
            ("tolerance", tolerances, set(self.tolerance)),
            ("formula", {derived.formula for derived in self.claim}, set(FORMULAS)),
            ("group", groups, set(self.groups)),
        ):
            if unknown := names - known:
                raise ValueError(f"there is no {kind} {min(unknown)!r}, use one of {', '.join(sorted(known))}")
        for derived, words in members:
            section = self.sections[self.groups[derived.group.format(**words)].section]
            if (section.kind == "target") is not (derived.target is not None):
                raise ValueError(f"claim {derived.id}: a claim of a target section has `target`, and no other has it")
        return self


def claims_json_schema() -> str:
    """The JSON Schema of claims.toml, as committed in docs."""
    return json.dumps(ClaimsFile.model_json_schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(claims_json_schema(), end="")
