"""The claims: what the paper says, with its sources, and which cells answer it.

`harness/claims.toml` is read with the table of published numbers that it names, and expanded to a flat list of
`Claim`: one for every published number, and one for every statement that follows from several cells.
"""

from __future__ import annotations

import csv
import itertools
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from mpcvit_harness.claims_file import (
    Answer,
    ClaimsFile,
    DatasetAnswer,
    DerivedClaim,
    FactColumn,
    Group,
    Names,
    Section,
    Tolerance,
)
from mpcvit_harness.errors import HarnessError
from mpcvit_harness.formulas import FORMULAS, Formula, Quantity

CLAIMS = Path("harness/claims.toml")
"""Where the claims are, below the root of the repository."""


class Fact(BaseModel):
    """A row of the table of published numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int
    dataset: str
    model: str
    mu: str | None
    kd: bool
    accuracy_pct: float | None
    latency_s: float | None
    source: str
    note: str | None

    def number(self, column: FactColumn) -> float | None:
        """The number in one of the columns."""
        return self.latency_s if column == "latency_s" else self.accuracy_pct


@dataclass(frozen=True)
class Claim:
    """One stated number: what it is, where it stands, and what is to be computed of which cells.

    `stated` is the paper's number, or a target's. `numbers` are the (line, column) of the facts that it is.
    """

    id: str
    text: str
    group: str
    formula: str
    quantities: tuple[Quantity, ...]
    x: tuple[float, ...]
    stated: float
    source: str
    tolerance: Tolerance
    not_run: str | None = None
    unit: str = ""
    numbers: frozenset[tuple[int, FactColumn]] = frozenset()


@dataclass(frozen=True)
class Claims:
    """All claims in the order of the file, those of the facts first, with their groups and sections."""

    sections: dict[str, Section]
    groups: dict[str, Group]
    tolerances: dict[str, Tolerance]
    names: Names
    facts: tuple[Fact, ...]
    claims: tuple[Claim, ...]
    commands: dict[str, str]

    def section(self, claim: Claim) -> Section:
        """The section of a claim."""
        return self.sections[self.groups[claim.group].section]

    def is_target(self, claim: Claim) -> bool:
        """Whether it is this project's own target and no claim of a publication."""
        return self.section(claim).kind == "target"


def load(path: Path) -> Claims:
    """Read, check and expand the claims at `path`; raises HarnessError."""
    try:
        file = ClaimsFile.model_validate(tomllib.loads(path.read_text()))
        facts = tuple(_facts(path.parent / file.facts))
        answers = list(_answered(file, facts))
        claims = [*answers, *_derived(file, answers)]
    except ValidationError as error:
        first = error.errors()[0]
        raise _wrong(": ".join(filter(None, (str(path), ".".join(map(str, first["loc"])), first["msg"])))) from None
    except KeyError as error:
        raise _wrong(f"{path}: nothing fills in {{{error.args[0]}}}") from None
    except (OSError, ValueError) as error:
        raise _wrong(f"{path}: {error}") from None
    if twice := [name for name, times in Counter(claim.id for claim in claims).items() if times > 1]:
        raise _wrong(f"{path}: two claims have the id {twice[0]}")
    return Claims(file.sections, file.groups, file.tolerance, file.names, facts, tuple(claims), file.commands)


def model_name(names: Names, fact: Fact) -> str:
    """The model of a row as the paper writes it, with its budget."""
    return names.models[fact.model].format(mu=fact.mu)


def row_name(names: Names, fact: Fact, *, distilled: bool = False) -> str:
    """The data set and the model of a row as the paper writes them."""
    suffix = " with distillation" if distilled else ""
    return f"{names.datasets[fact.dataset]}: {model_name(names, fact)}{suffix}"


def _wrong(problem: str) -> HarnessError:
    return HarnessError(problem, "correct the claims, see docs/claims.md")


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


def _answered(file: ClaimsFile, facts: tuple[Fact, ...]) -> Iterator[Claim]:
    """A claim for every published number.

    Rows that repeat a number of the same cell are one claim: with and without distillation a latency is the same, and
    MPCViT without a per-layer search has the latency of MPCViT.
    """
    columns: tuple[FactColumn, ...] = get_args(FactColumn)
    for column in columns:
        same: dict[tuple[str, ...], list[Fact]] = {}
        for fact in facts:
            if fact.number(column) is not None:
                distilled = "kd" if fact.kd and column == "accuracy_pct" else ""
                same.setdefault((fact.dataset, fact.model, fact.mu or "", distilled), []).append(fact)
        merged: dict[tuple[Quantity, float, str], Claim] = {}
        for rows in same.values():
            claim = _of_rows(file, column, rows)
            key = claim.quantities[0], claim.stated, claim.group
            merged[key] = _with_row(merged[key], claim) if key in merged else claim
        yield from merged.values()


def _with_row(first: Claim, other: Claim) -> Claim:
    """The claim of two rows that are one number of one cell."""
    return replace(first, text=f"{first.text}; {other.text.partition(': ')[2]}", numbers=first.numbers | other.numbers)


def _of_rows(file: ClaimsFile, column: FactColumn, rows: list[Fact]) -> Claim:
    """The claim of rows that repeat one number."""
    fact, value = rows[0], rows[0].number(column)
    if value is None or any(other.number(column) != value for other in rows):
        raise ValueError(f"lines {', '.join(str(other.line) for other in rows)} of the facts differ in {column}")
    answer, by = _answer(file, column, fact)
    words = {
        "dataset": fact.dataset,
        "mu": fact.mu,
        "percent": f"{float(fact.mu or 0) * 100:.0f}",
        "distilled": "both" if fact.kd else "none",
    }
    is_accuracy = column == "accuracy_pct"
    distilled = fact.kd and is_accuracy
    cell = answer.cells[fact.model].format(**words) + ("#accuracy" if is_accuracy else "")
    what = "accuracy" if is_accuracy else "seconds"
    return Claim(
        id="-".join(filter(None, (fact.dataset, fact.model, fact.mu, "kd" if distilled else "", what))),
        text=row_name(file.names, fact, distilled=distilled),
        group=by.group,
        formula="value",
        quantities=(Quantity.parse(f"{by.experiment}/{cell}"),),
        x=(),
        stated=value,
        source=fact.source + (f"; {fact.note}" if fact.note else ""),
        tolerance=file.tolerance[by.tolerance],
        unit="%" if is_accuracy else "s",
        numbers=frozenset((other.line, column) for other in rows),
    )


def _answer(file: ClaimsFile, column: FactColumn, fact: Fact) -> tuple[Answer, DatasetAnswer]:
    """The one answer to a number of the facts, and its part for the data set."""
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
    return found[0], found[0].datasets[fact.dataset]


def _derived(file: ClaimsFile, answers: list[Claim]) -> Iterator[Claim]:
    """The claims that follow from several cells."""
    rows = {claim.quantities[0]: claim for claim in answers}
    families = [(derived, list(_members(file, derived, rows))) for derived in file.claim]
    stated = {(one.formula, one.quantities) for derived, of in families if not derived.every_pair for one in of}
    for derived, of in families:
        yield from (one for one in of if not derived.every_pair or (one.formula, one.quantities) not in stated)


def _members(file: ClaimsFile, derived: DerivedClaim, rows: dict[Quantity, Claim]) -> Iterator[Claim]:
    """Every member of a family, and of a member every pair of cells where the family is of pairs."""
    formula = FORMULAS[derived.formula]
    for i, words in enumerate(derived.members):
        stated = derived.stated(i)
        filled = {**words, "paper": str(stated)}
        x = tuple(derived.x[i]) if derived.x else ()
        cells = tuple(Quantity.parse(cell.format(**filled)) for cell in derived.cells)
        of_rows = tuple(Quantity.parse(cell.format(**filled)) for cell in derived.rows)
        name, text = derived.id.format(**filled), derived.text.format(**filled)
        for quantities in itertools.combinations(cells, 2) if derived.every_pair else [cells]:
            if derived.every_pair:
                name = "-".join([derived.id.format(**filled), *(quantity.cell for quantity in quantities)])
                text = f"{derived.text.format(**filled)}: {' over '.join(_row_of(q, rows) for q in quantities)}"
            if derived.not_run is None and not formula.accepts(quantities, x):
                raise ValueError(f"claim {name}: {derived.formula} takes other numbers of cells and x")
            if len({quantity.is_training for quantity in quantities}) > 1:
                raise ValueError(f"claim {name}: trainings and inferences have no record in common")
            yield Claim(
                id=name,
                text=text,
                group=derived.group.format(**filled),
                formula=derived.formula,
                quantities=quantities,
                x=x,
                stated=_from_rows(name, formula, of_rows or quantities, x, rows) if stated is None else stated,
                source=derived.source,
                tolerance=file.tolerance[derived.tolerance.format(**filled)],
                not_run=derived.not_run,
                unit=formula.unit if derived.unit is None else derived.unit,
            )


def _row_of(quantity: Quantity, rows: dict[Quantity, Claim]) -> str:
    """The model that a cell answers as the paper writes it; the cell's name where it answers none."""
    claim = rows.get(quantity)
    return claim.text.partition(": ")[2].partition(";")[0] if claim else quantity.cell


def _from_rows(
    name: str, formula: Formula, quantities: Iterable[Quantity], x: tuple[float, ...], rows: dict[Quantity, Claim]
) -> float:
    """The paper's number for these cells, where their rows state it."""
    if unstated := [quantity.cell for quantity in quantities if quantity not in rows]:
        raise ValueError(f"claim {name}: no row of the facts is answered by {unstated[0]}; give `paper`")
    return formula.compute([rows[quantity].stated for quantity in quantities], x)
