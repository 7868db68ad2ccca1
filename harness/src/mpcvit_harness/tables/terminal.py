"""Tables in a terminal: within its width, in columns where they fit and otherwise a block per row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TextIO

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from mpc_search import printable
from mpcvit_harness.tables.table import Entry, Table

PIPED_WIDTH = 160
"""The width of text that goes to a file or to another program; the variable COLUMNS sets another."""

LEAST_WIDTH = 20
"""Characters that a column of longer text needs at least; longer words are broken."""


def show(
    table: Table, file: TextIO | None = None, *, width: int | None = None, is_terminal: bool | None = None
) -> None:
    """Print a table, to standard output unless `file` is given.

    A terminal gets a rule under the headings; a pipe gets plain aligned text. References to records are left out: they
    are in the forms for files, Markdown and CSV.
    """
    console = Console(file=file, width=width, force_terminal=is_terminal, highlight=False)
    if width is None and not console.is_terminal:
        console.width = int(os.environ.get("COLUMNS") or PIPED_WIDTH)
    shown = [at for at, column in enumerate(table.columns) if column.kind != "records" and _is_used(table, at)]
    widths = _widths(table, shown, console.width - (3 if console.is_terminal else 2) * len(shown))
    if widths is None:
        _print_blocks(console, table, shown)
    else:
        _print(console, _grid(table, shown, widths, console.is_terminal))
    for note in table.footnotes():
        _print(console, Text(note))


def _print(console: Console, what: RenderableType) -> None:
    """Print without spaces at the ends of lines."""
    with console.capture() as capture:
        console.print(what)
    for line in capture.get().splitlines():
        console.out(line.rstrip(), highlight=False)


def _is_used(table: Table, at: int) -> bool:
    return not table.rows or any(row[at].plain for row in table.rows)


def _text(table: Table, entry: Entry) -> str:
    return printable(entry.plain) + table.markers(entry)


def _widths(table: Table, shown: Sequence[int], available: int) -> list[int] | None:
    """The columns' widths, the widest texts narrowed first; None where they do not fit into `available` characters."""
    widths, least = [], []
    for at in shown:
        texts = [_text(table, row[at]) for row in table.rows]
        heading = table.columns[at].heading
        longest = max(map(len, texts), default=0)
        needed = longest if table.columns[at].kind == "number" else min(longest, LEAST_WIDTH)
        widths.append(max(longest, len(heading)))
        least.append(max(needed, *map(len, heading.split()), 1))
    if sum(least) > available:
        return None
    while sum(widths) > available:
        widest = max(range(len(widths)), key=lambda i: (widths[i] > least[i], widths[i]))
        widths[widest] -= 1
    return widths


def _grid(table: Table, shown: Sequence[int], widths: Sequence[int], is_terminal: bool) -> Grid:
    grid = Grid(box=SIMPLE_HEAD if is_terminal else None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for at, width in zip(shown, widths):
        column = table.columns[at]
        grid.add_column(Text(column.heading), justify=column.align, width=width, overflow="fold")
    for row in table.rows:
        grid.add_row(*(Text(_text(table, row[at])) for at in shown))
    return grid


def _print_blocks(console: Console, table: Table, shown: Sequence[int]) -> None:
    """A block per row: the first entry as its heading, then a line per entry."""
    first, *others = shown
    titles = [f"  {table.columns[at].heading}" for at in others]
    for row in table.rows:
        console.print(Text(_text(table, row[first]), style="bold"))
        grid = Grid(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        grid.add_column(width=min(max(map(len, titles)), console.width // 2))
        grid.add_column()
        for at, title in zip(others, titles):
            if row[at].plain:
                grid.add_row(Text(title), Text(_text(table, row[at])))
        _print(console, grid)
        console.print()
