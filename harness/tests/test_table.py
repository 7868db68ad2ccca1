"""A table is one value: the same entries as Markdown, CSV, HTML and in a terminal."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import pytest

from mpcvit_harness.errors import HarnessError
from mpcvit_harness.tables import Column, Context, Entry, Href, Note, Table, make_table, table, table_names
from mpcvit_harness.tables.html import html
from mpcvit_harness.tables.terminal import PIPED_WIDTH, show

BUSY = Note("other_load", "Other processes kept cores busy.", "other processes kept 0.50 cores busy")


@dataclass(frozen=True)
class Row:
    name: str
    seconds: float | None
    notes: tuple[Note, ...] = ()


COLUMNS: list[Column[Row]] = [
    Column("model", lambda row: row.name, "code", filtered=True),
    Column(
        "median",
        lambda row: None if row.seconds is None else Entry(f"{row.seconds:.2f}", row.seconds, notes=row.notes),
        "number",
        unit="s",
    ),
    Column("rounds", lambda row: 1987, "number", ",d"),
    Column("what it is", lambda row: f"a model with {row.name} | attention", "text"),
    Column("", lambda row: Href(f"results/here/{row.name}.json"), "records"),
]
ROWS = [Row("softmax", 12.3456, (BUSY,)), Row("scale", None)]
TABLE = Table.of(COLUMNS, ROWS, "A note.", name="models")


def printed(of: Table, **how: object) -> str:
    stream = io.StringIO()
    show(of, stream, **how)  # type: ignore[arg-type]
    return stream.getvalue()


def test_markdown() -> None:
    """Headings with units, code in backticks, references from the page, and marks that are explained below."""
    assert TABLE.markdown(Path("docs/page.md")).splitlines() == [
        "| model | median, s | rounds | what it is |  |",
        "| --- | --- | --- | --- | --- |",
        "| `softmax` | 12.35 ¹ | 1,987 | a model with softmax \\| attention | [record](../results/here/softmax.json) |",
        "| `scale` |  | 1,987 | a model with scale \\| attention | [record](../results/here/scale.json) |",
        "",
        "A note.",
        "",
        "¹ Other processes kept cores busy.",
    ]


def test_csv_holds_all_digits() -> None:
    head, first, second = csv.reader(io.StringIO(TABLE.csv()))
    assert head == ["model", "median, s", "rounds", "what it is", ""]
    assert first == ["softmax", "12.3456", "1987", "a model with softmax | attention", "results/here/softmax.json"]
    assert second[1] == ""


def test_html() -> None:
    """References from the report's root, a tip on each mark, choices of filtered columns; text is escaped."""
    text = html(Table.of(COLUMNS, [Row("<b>", 1.0, (BUSY,))], name="models"), up="../", controls=True)
    assert 'href="../results/here/&lt;b&gt;.json"' in text and "<b>" not in text
    assert 'data-tip="other processes kept 0.50 cores busy"> ¹</span>' in text
    assert "<option>&lt;b&gt;</option>" in text and 'class="l1 l4 l5"' in text
    assert "select" not in html(TABLE)


def test_a_pipe_gets_plain_aligned_text() -> None:
    """No rules or boxes, no references, numbers to the right; every line fits."""
    lines = printed(TABLE).splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["model", "median,", "s", "rounds", "what", "it", "is"],
        ["softmax", "12.35", "¹", "1,987", "a", "model", "with", "softmax", "|", "attention"],
        ["scale", "1,987", "a", "model", "with", "scale", "|", "attention"],
    ]
    assert lines[1].index("1,987") == lines[2].index("1,987")
    assert "record" not in "\n".join(lines) and not set("│─━┃") & set("\n".join(lines))
    long = Table.of(COLUMNS, [Row("word " * 200, 1.0)])
    assert max(map(len, printed(long).splitlines())) <= PIPED_WIDTH


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_terminals_width_is_kept(width: int) -> None:
    """Text wraps between words, numbers stay whole."""
    rows = [Row("softmax", 12.3456, (BUSY,)), Row("a_name_with_many_parts", 1234567.0)]
    text = printed(Table.of(COLUMNS, rows), width=width, is_terminal=False)
    assert max(map(len, text.splitlines())) <= width
    assert "1234567.00" in text and "a_name_with_many_parts" in text


def test_a_narrow_terminal_gets_a_block_per_row() -> None:
    """Each entry beside its heading; empty entries are left out."""
    columns: list[Column[Row]] = [
        *COLUMNS[:3],
        *(Column(f"column {i}", lambda row: 123456.0, "number") for i in range(9)),
    ]
    lines = printed(Table.of(columns, ROWS), width=50, is_terminal=False).splitlines()
    assert lines[0] == "softmax" and lines[1].split() == ["median,", "s", "12.35", "¹"]
    scale = lines[lines.index("scale") :]
    assert scale[1].split() == ["rounds", "1,987"]


def test_a_table_is_registered_where_it_stands() -> None:
    """A decorator is all that a new table needs; an unknown name is refused with the known ones."""

    @table("of_this_test")
    def of_this_test(context: Context) -> Table:
        return Table.of(COLUMNS, ROWS)

    assert "of_this_test" in table_names(Context())
    assert make_table("of_this_test", Context()).name == "of_this_test"
    with pytest.raises(HarnessError, match=r"no table 'nonsense'.*Fix: use one of .*open_latency"):
        make_table("nonsense", Context())
