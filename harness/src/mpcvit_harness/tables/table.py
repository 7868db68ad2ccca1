"""A table as a value: typed columns over rows of entries, for the docs, the report and the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from mpc_search import printable

Kind = Literal["text", "number", "code", "records"]
"""What a column holds. Numbers align right; `records` holds references to records and no text of its own."""

Row = TypeVar("Row")

_MARKERS = "¹²³⁴⁵⁶⁷⁸⁹"


@dataclass(frozen=True)
class Href:
    """A reference to a file: its path below the root of the repository or of the report, and the text that shows it."""

    path: str
    text: str = "record"


@dataclass(frozen=True)
class Note:
    """A note on one entry. A table explains each `kind` once, below itself; `text` is what holds for this entry."""

    kind: str
    explanation: str
    text: str


@dataclass(frozen=True)
class Entry:
    """The content of one column in one row.

    `number` is the value behind the text: it sorts, and it goes into CSV. `hrefs` replace the text, with
    `separator` between them. `style` is a CSS class, `anchor` the name of the entry within a page.
    """

    text: str = ""
    number: float | None = None
    hrefs: tuple[Href, ...] = ()
    notes: tuple[Note, ...] = ()
    separator: str = " "
    style: str = ""
    anchor: str = ""

    @property
    def plain(self) -> str:
        """The entry without references and notes."""
        return self.text or self.separator.join(href.text for href in self.hrefs)

    @property
    def sort_key(self) -> str:
        """What a page sorts by where the text is not a plain number; otherwise empty."""
        if self.number is None:
            return ""
        try:
            float(self.text.replace(",", ""))
        except ValueError:
            return f"{self.number:.6g}"
        return ""


Value = Entry | Href | str | float | None
"""What a column's function returns: an entry, or what becomes one. None is an empty entry."""


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column: its title, how it follows from a row's object, and how it is shown.

    `format` is a format specification of Python for numbers (".2f"), `unit` follows the title. A reader of the report
    can choose rows by the values of a `filtered` column.
    """

    title: str
    value: Callable[[Row], Value]
    kind: Kind = "text"
    format: str = ""
    unit: str = ""
    filtered: bool = False

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    @property
    def align(self) -> Literal["left", "right"]:
        """The side on which entries align."""
        return "right" if self.kind == "number" else "left"

    def entry(self, row: Row) -> Entry:
        """The entry of one row."""
        value = self.value(row)
        if isinstance(value, Entry):
            return value
        if isinstance(value, Href):
            return Entry(hrefs=(value,))
        if value is None or isinstance(value, str):
            return Entry(value or "")
        return Entry(format(value, self.format), value)


@dataclass(frozen=True)
class Table:
    """Columns and the entries of each row, with an optional note of one paragraph."""

    columns: tuple[Column[Any], ...]
    rows: tuple[tuple[Entry, ...], ...]
    note: str = ""
    name: str = ""

    @classmethod
    def of(cls, columns: Sequence[Column[Row]], rows: Iterable[Row], note: str = "", name: str = "") -> Table:
        """The table of `rows`, one object a row."""
        entries = tuple(tuple(column.entry(row) for column in columns) for row in rows)
        return cls(tuple(columns), entries, note, name)

    @property
    def headings(self) -> list[str]:
        """The columns' titles with their units."""
        return [column.heading for column in self.columns]

    def left_columns(self) -> str:
        """The CSS classes of the columns that align left, numbered from 1."""
        return " ".join(f"l{at}" for at, column in enumerate(self.columns, 1) if column.align == "left")

    def choices(self, at: int) -> list[str]:
        """The different texts of a column, in the order of rows."""
        return list(dict.fromkeys(row[at].text for row in self.rows if row[at].text))

    @cached_property
    def explanations(self) -> dict[str, str]:
        """The explanations of the notes by their kinds, in the order in which they appear."""
        return {note.kind: note.explanation for row in self.rows for entry in row for note in entry.notes}

    def markers(self, entry: Entry) -> str:
        """The marks of an entry's notes, after a space; empty without notes."""
        kinds = list(self.explanations) if entry.notes else []
        marks = "".join(_MARKERS[kinds.index(kind)] for kind in dict.fromkeys(note.kind for note in entry.notes))
        return f" {marks}" if marks else ""

    def footnotes(self) -> list[str]:
        """What stands below the table: its note, and the explanation of every mark."""
        marked = [f"{mark} {text}" for mark, text in zip(_MARKERS, self.explanations.values())]
        return ([self.note] if self.note else []) + marked

    def markdown(self, page: Path = Path("page.md")) -> str:
        """As Markdown for `page`, a path below the root that references start from."""
        up = "../" * (len(page.parts) - 1)
        lines = [self.headings, ["---"] * len(self.columns)]
        for row in self.rows:
            lines.append([self._markdown(column, entry, up) for column, entry in zip(self.columns, row)])
        text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        return text + "".join(f"\n{note}\n" for note in self.footnotes())

    def _markdown(self, column: Column[Any], entry: Entry, up: str) -> str:
        if entry.hrefs:
            return entry.separator.join(f"[{_escaped(href.text)}]({up}{href.path})" for href in entry.hrefs)
        if column.kind == "code" and entry.text:
            code = printable(entry.text).replace("|", "\\|").replace("`", "'")
            return f"`{code}`" + self.markers(entry)
        return _escaped(entry.text) + self.markers(entry)

    def csv(self) -> str:
        """As CSV with a heading: numbers with all digits, references as their paths."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.headings)
        for row in self.rows:
            writer.writerow(
                (entry.text or " ".join(href.path for href in entry.hrefs)) if entry.number is None else entry.number
                for entry in row
            )
        return stream.getvalue()


def _escaped(text: str) -> str:
    return printable(text).replace("|", "\\|").replace("<", "&lt;")
