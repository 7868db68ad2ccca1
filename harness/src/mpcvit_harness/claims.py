"""The claims: what the paper says, with its sources, and which cells answer it.

`harness/claims.toml` is read with the table of published numbers that it names, and expanded to a flat list of
`Claim`: one for every number of that table, and one for every statement made of several cells.
"""

from __future__ import annotations

import csv
import itertools
import json
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mpcvit_harness.formulas import FORMULAS, Formula, Quantity

CLAIMS = Path("harness/claims.toml")
"""Where the claims are, below the root of the repository."""

Column = Literal["latency_s", "accuracy_pct"]


class ClaimsError(ValueError):
    """The claims cannot be read: one line that names the place and what is wrong there."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tolerance(_Strict):
    """How near is near: limits of a difference, relative to the paper's value or in its own unit.

    For a bound (`at_most`, `at_least`) they are how far beyond it, relative to it, the measured value may lie. `above`
    is for means over seeds: how far below the paper's value the lower end of their 95 % interval, or the mean, may lie.
    """

    about: str
    kind: Literal["relative", "absolute", "at_most", "at_least", "above"] = "relative"
    reproduced: float = Field(ge=0)
    within_shape: float = Field(ge=0)


class AnsweredBy(_Strict):
    """Where a data set's rows are answered, how near they have to come, and under which heading they are shown."""

    experiment: str
    tolerance: str
    group: str


class Answer(_Strict):
    """Which cells answer rows of the facts: a cell's name a model, with words of the row in {braces}.

    The words are dataset, mu, percent (mu in per cent), and distilled (both, or none): as the runs of sweeps have it.
    """

    column: Column
    datasets: dict[str, AnsweredBy]
    cells: dict[str, str]


class Statement(_Strict):
    """A claim made of several cells, or a family of such: `each` puts its words in place of {braces}.

    `each` is a list of axes, a family has a member for every choice of one entry an axis, the last varying fastest.
    `paper` (one number, or one a member) is what the paper says; left out, it follows from the rows that these cells
    answer, or those that `rows` names by the cells that answer them. `x` goes with formulas that take it, `every_pair`
    makes a claim of each two of the cells, `unit` is the formula's own where it is left out.
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
    unit: str | None = None
    source: str
    tolerance: str
    not_run: str | None = None

    @property
    def members(self) -> list[dict[str, str]]:
        """The words of every member of the family."""
        return [{k: v for words in chosen for k, v in words.items()} for chosen in itertools.product(*self.each)]

    @model_validator(mode="after")
    def _lists_are_as_long_as_the_family(self) -> Self:
        for name, values in (("paper", self.paper), ("x", self.x)):
            if isinstance(values, list) and len(values) != len(self.members):
                raise ValueError(f"claim {self.id}: {name} has {len(values)} entries for {len(self.members)} members")
        return self


class ClaimsFile(_Strict):
    """The content of claims.toml. `facts` is the table of published numbers beside it, `groups` headings by name.

    `commands` are what makes the records of an experiment or a sweep, where it takes more than to run the harness.
    """

    schema_version: Literal[1]
    facts: str
    commands: dict[str, str] = {}
    groups: dict[str, str]
    tolerance: dict[str, Tolerance]
    answer: list[Answer]
    claim: list[Statement]

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        used = [by for answer in self.answer for by in answer.datasets.values()]
        members = [(statement, words) for statement in self.claim for words in statement.members]
        tolerances = {by.tolerance for by in used} | {s.tolerance.format(**words) for s, words in members}
        groups = {by.group for by in used} | {s.group.format(**words) for s, words in members}
        formulas = {statement.formula for statement in self.claim}
        for kind, names, known in (
            ("tolerance", tolerances, set(self.tolerance)),
            ("formula", formulas, set(FORMULAS)),
            ("group", groups, set(self.groups)),
        ):
            if unknown := names - known:
                raise ValueError(f"there is no {kind} {min(unknown)!r}, use one of {', '.join(sorted(known))}")
        return self


class Fact(_Strict):
    """A row of the table of published numbers."""

    line: int
    dataset: str
    model: str
    mu: str | None
    kd: bool
    accuracy_pct: float | None
    latency_s: float | None
    source: str
    note: str | None

    @property
    def name(self) -> str:
        """The model as it is shown."""
        return f"{self.model}, mu {self.mu}" if self.mu else self.model


@dataclass(frozen=True)
class Claim:
    """One number of the paper: what it is, where it stands, and what is to be computed of which cells.

    `numbers` are the (line, column) of the facts that it is.
    """

    id: str
    text: str
    group: str
    formula: str
    quantities: tuple[Quantity, ...]
    x: tuple[float, ...]
    paper: float
    source: str
    tolerance: Tolerance
    not_run: str | None = None
    unit: str = ""
    numbers: frozenset[tuple[int, str]] = frozenset()


@dataclass(frozen=True)
class Claims:
    """All claims in the order of the file, those of the facts first, the headings of their groups, and commands."""

    groups: dict[str, str]
    tolerances: dict[str, Tolerance]
    facts: tuple[Fact, ...]
    claims: tuple[Claim, ...]
    commands: dict[str, str]


def load(path: Path) -> Claims:
    """Read, check and expand the claims at `path`; raises ClaimsError."""
    try:
        file = ClaimsFile.model_validate(tomllib.loads(path.read_text()))
        facts = tuple(_facts(path.parent / file.facts))
        answers = list(_of_facts(file, facts))
        claims = [*answers, *_of_statements(file, answers)]
    except ValidationError as error:
        first = error.errors()[0]
        raise ClaimsError(
            ": ".join(filter(None, (str(path), ".".join(map(str, first["loc"])), first["msg"])))
        ) from None
    except KeyError as error:
        raise ClaimsError(f"{path}: there is no word for {{{error.args[0]}}}") from None
    except (OSError, ValueError) as error:
        raise ClaimsError(f"{path}: {error}") from None
    if twice := [name for name, times in Counter(claim.id for claim in claims).items() if times > 1]:
        raise ClaimsError(f"{path}: two claims have the id {twice[0]}")
    return Claims(file.groups, file.tolerance, facts, tuple(claims), file.commands)


def claims_json_schema() -> str:
    """The JSON Schema of claims.toml, as committed in docs."""
    return json.dumps(ClaimsFile.model_json_schema(), indent=1, sort_keys=True) + "\n"


def _facts(path: Path) -> Iterator[Fact]:
    with path.open(newline="") as stream:
        rows = csv.DictReader(stream)
        for row in rows:
            values = {name: value or None for name, value in row.items()}
            try:
                yield Fact.model_validate({**values, "line": rows.line_num})
            except ValidationError as error:
                first = error.errors()[0]
                raise ValueError(f"{path.name} line {rows.line_num}: {first['loc'][0]}: {first['msg']}") from None


def _of_facts(file: ClaimsFile, facts: tuple[Fact, ...]) -> Iterator[Claim]:
    """A claim for every number of the facts; rows that repeat a latency, with and without distillation, are one."""
    columns: tuple[Column, ...] = ("latency_s", "accuracy_pct")
    for column in columns:
        what = "seconds" if column == "latency_s" else "accuracy"
        same: dict[tuple[str, ...], list[Fact]] = {}
        for fact in facts:
            if getattr(fact, column) is not None:
                distilled = "kd" if fact.kd and column == "accuracy_pct" else ""
                same.setdefault((fact.dataset, fact.model, fact.mu or "", distilled, what), []).append(fact)
        for words, found in same.items():
            yield _of_numbers(file, column, [word for word in words if word], found)


def _of_numbers(file: ClaimsFile, column: Column, words: list[str], found: list[Fact]) -> Claim:
    """The claim that rows make of one number."""
    fact, value = found[0], getattr(found[0], column)
    if any(getattr(other, column) != value for other in found):
        raise ValueError(f"lines {', '.join(str(other.line) for other in found)} of the facts differ in {column}")
    answer = _answer(file, column, fact)
    by = answer.datasets[fact.dataset]
    filled = {
        "dataset": fact.dataset,
        "mu": fact.mu,
        "percent": f"{float(fact.mu or 0) * 100:.0f}",
        "distilled": "both" if fact.kd else "none",
    }
    cell = answer.cells[fact.model].format(**filled) + ("#accuracy" if column == "accuracy_pct" else "")
    return Claim(
        id="-".join(words),
        text=f"{fact.dataset}: {fact.name}{' with distillation' if 'kd' in words else ''}",
        group=by.group,
        formula="value",
        quantities=(Quantity.parse(f"{by.experiment}/{cell}"),),
        x=(),
        paper=value,
        source=fact.source + (f"; {fact.note}" if fact.note else ""),
        tolerance=file.tolerance[by.tolerance],
        unit="s" if column == "latency_s" else "%",
        numbers=frozenset((other.line, column) for other in found),
    )


def _answer(file: ClaimsFile, column: Column, fact: Fact) -> Answer:
    """The one answer to a number of the facts."""
    found = [
        answer
        for answer in file.answer
        if answer.column == column and fact.dataset in answer.datasets and fact.model in answer.cells
    ]
    if len(found) != 1:
        raise ValueError(
            f"line {fact.line} of the facts, {column} of {fact.model} on {fact.dataset}, has {len(found)} answers; "
            "name its cell in one [[answer]]"
        )
    return found[0]


def _of_statements(file: ClaimsFile, answers: list[Claim]) -> Iterator[Claim]:
    """The claims made of several cells."""
    said = {claim.quantities[0]: claim.paper for claim in answers if claim.quantities}
    for statement in file.claim:
        formula = FORMULAS[statement.formula]
        for i, words in enumerate(statement.members):
            paper = statement.paper[i] if isinstance(statement.paper, list) else statement.paper
            x = tuple(statement.x[i]) if statement.x else ()
            filled = {**words, "paper": str(paper)}
            of_all = tuple(Quantity.parse(cell.format(**filled)) for cell in statement.cells)
            rows = tuple(Quantity.parse(cell.format(**filled)) for cell in statement.rows)
            for quantities in itertools.combinations(of_all, 2) if statement.every_pair else [of_all]:
                pair = [quantity.cell for quantity in quantities] if statement.every_pair else []
                name = "-".join([statement.id.format(**filled), *pair])
                if statement.not_run is None and not formula.takes_these(quantities, x):
                    raise ValueError(f"claim {name}: {statement.formula} takes other numbers of cells and x")
                if len({quantity.trained for quantity in quantities}) > 1:
                    raise ValueError(f"claim {name}: trainings and inferences have no record in common")
                yield Claim(
                    id=name,
                    text=": ".join([statement.text.format(**filled), *([" over ".join(pair)] if pair else [])]),
                    group=statement.group.format(**filled),
                    formula=statement.formula,
                    quantities=quantities,
                    x=x,
                    paper=_from_facts(name, formula, rows or quantities, x, said) if paper is None else paper,
                    source=statement.source,
                    tolerance=file.tolerance[statement.tolerance.format(**filled)],
                    not_run=statement.not_run,
                    unit=formula.unit if statement.unit is None else statement.unit,
                )


def _from_facts(
    name: str, formula: Formula, quantities: Iterable[Quantity], x: tuple[float, ...], said: dict[Quantity, float]
) -> float:
    """What the paper says of these cells, where their rows say it."""
    if unsaid := [quantity.cell for quantity in quantities if quantity not in said]:
        raise ValueError(f"claim {name}: no row of the facts is answered by {unsaid[0]}; give `paper`")
    return formula.compute([said[quantity] for quantity in quantities], x)


if __name__ == "__main__":
    print(claims_json_schema(), end="")
