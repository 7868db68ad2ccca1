"""Tables of the open division: what is computed from several records, on records with replaced numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mpcvit_harness import open_tables
from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import Cell
from mpcvit_harness.open_models import cifar, smoke
from mpcvit_harness.stored import StoredRun
from spu_bench.record import Accuracy
from spu_bench.samples import summarize

RESULTS = Path(__file__).resolve().parents[2] / "results"
PAGE = Path("docs/open-division.md")


@pytest.fixture(scope="module")
def some() -> CellRecord:
    """A committed record, whose seconds and errors the tests replace."""
    return CellRecord.load(min(RESULTS.glob("*/open_latency/exact-*.json")))


def measured(
    record: CellRecord,
    experiment: str,
    name: str,
    seconds: float,
    errors: tuple[float, ...] = (0.001,),
    **of_model: Any,
) -> StoredRun:
    """A record of the cell `name` that took so long and erred by so much."""
    cell = Cell(experiment=experiment, name=name, model=cifar("softmax", **of_model), network="wan", scale="paper")
    accuracy = Accuracy(
        inputs=len(errors), max_abs_error=max(errors), top1_equal=0, clear=0, clear_equal=0, errors=list(errors)
    )
    timed = record.model_copy(update={"statistics": summarize([seconds]), "accuracy": accuracy})
    return StoredRun(CellRecord.of(cell, timed), Path("results") / "here" / experiment / f"{name}.json")


def table(text: str) -> list[dict[str, str]]:
    """Rows of a Markdown table by their heads."""
    head, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines())
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_a_batch_stands_beside_one_image(some: CellRecord) -> None:
    found = table(
        open_tables.batches(
            [
                measured(some, "open_batches", "batch_1-softmax", 12.0),
                measured(some, "open_batches", "batch_16-softmax", 36.0, batch=16),
            ],
            PAGE,
        )
    )
    columns = ("images", "s an image", "images a minute", "times one image's seconds")
    assert [tuple(row[each] for each in columns) for row in found] == [
        ("batch of 1", "12.00", "5.0", "1.00"),
        ("batch of 16", "2.25", "26.7", "3.00"),
    ]


def test_what_is_left_out_costs_the_difference(some: CellRecord) -> None:
    found = table(
        open_tables.ablation(
            [
                measured(some, "open_ablation", "softmax-without-joint_heads", 14.5),
                measured(some, "open_ablation", "softmax-without-nothing", 12.0),
            ],
            PAGE,
        )
    )
    assert [(row["without"], row["s more"], row["rounds more"]) for row in found] == [
        ("nothing", "+0.00", "+0"),
        ("joint heads", "+2.50", "+0"),
    ]


def test_failures_are_counted_and_not_averaged(some: CellRecord) -> None:
    errors = (0.002, 0.004, 0.003, 2.0**28)
    (row,) = table(
        open_tables.truncation([measured(some, "open_truncation", "tuned-local-truncation", 1.0, errors)], PAGE)
    )
    assert row["options"] == "`local-truncation`" and row["inferences"] == "4"
    assert row["failed: a logit off by more than 1"] == "1"
    assert row["error of the others: median, 99 %, largest"].startswith("0.0030, ")


def test_cells_that_show_only_that_they_run_are_in_no_table(some: CellRecord) -> None:
    cell = smoke("open_holders", "shared", cifar("softmax"))
    assert (
        table(
            open_tables.holders([StoredRun(CellRecord.of(cell, some), Path("results/here/open_holders/x.json"))], PAGE)
        )
        == []
    )


def test_every_preset_is_described(some: CellRecord) -> None:
    names = [row["preset"] for row in table(open_tables.presets([], Path("docs/running.md")))]
    assert names == [f"`{name}`" for name in open_tables.PRESETS]
