"""Tables of the open division: what follows from several records, on records with replaced numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from experiment_files import ROOT, texts

from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import Cell
from mpcvit_harness.open_models import cifar, smoke
from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables import Context, make_table
from spu_bench import PRESETS
from spu_bench.comparison import Accuracy
from spu_bench.samples import summarize


@pytest.fixture(scope="module")
def some() -> CellRecord:
    """A committed record, whose seconds and errors the tests replace."""
    return CellRecord.load(min((ROOT / "results").glob("*/open_holders/shared-*.json")))


def measured(
    record: CellRecord,
    experiment: str,
    seconds: float,
    labels: dict[str, str],
    errors: tuple[float, ...] = (0.001,),
    **of_model: Any,
) -> StoredRun:
    """A record of a cell with `labels` that took so long and erred by so much."""
    cell = Cell(
        experiment=experiment,
        name="-".join(labels.values()),
        model=cifar("softmax", **of_model),
        network="wan",
        scale="paper",
        labels={"attention": "softmax", **labels},
    )
    accuracy = Accuracy(
        inputs=len(errors), max_abs_error=max(errors), top1_equal=0, clear=0, clear_equal=0, errors=list(errors)
    )
    wrong = max(errors) > record.error_bound
    changes: dict[str, Any] = {"statistics": summarize([seconds]), "accuracy": accuracy}
    changes |= {"correctness": "wrong", "status": "wrong"} if wrong else {"correctness": "right", "status": "ok"}
    stored = CellRecord.of(cell, record.model_copy(update=changes))
    return StoredRun(stored, Path("results/here") / experiment / f"{cell.name}.json")


def test_a_batch_is_compared_with_one_image(some: CellRecord) -> None:
    runs = [
        measured(some, "open_batches", 12.0, {"images": "batch_1"}),
        measured(some, "open_batches", 36.0, {"images": "batch_16"}, batch=16),
    ]
    found = texts(make_table("open_batches", Context(runs)))
    columns = ("images", "s an image", "images a minute", "times one image's seconds")
    assert [tuple(row[each] for each in columns) for row in found] == [
        ("batch of 1", "12.00", "5.0", "1.00"),
        ("batch of 16", "2.25", "26.7", "3.00"),
    ]


def test_what_is_left_out_costs_the_difference(some: CellRecord) -> None:
    runs = [
        measured(some, "open_ablation", 14.5, {"part": "joint heads"}),
        measured(some, "open_ablation", 12.0, {"part": "nothing"}),
    ]
    found = texts(make_table("open_ablation", Context(runs)))
    assert [(row["without"], row["s more"], row["rounds more"]) for row in found] == [
        ("nothing", "+0.00", "+0"),
        ("joint heads", "+2.50", "+0"),
    ]


def test_wrong_inferences_are_counted_and_not_averaged(some: CellRecord) -> None:
    """The table that studies failures shows them, and that the record is wrong."""
    labels = {"kernels": "tuned", "options": "local-truncation"}
    run = measured(some, "open_truncation", 1.0, labels, (0.002, 0.004, 0.003, 2.0**28))
    (row,) = texts(make_table("open_truncation", Context(wrong=[run])))
    assert row["options"] == "local-truncation" and row["inferences"] == "4"
    assert row["correctness"] == "wrong: 1 of 4 inferences" and row["wrong inferences"] == "1"
    assert row["errors of the others: median, 99 %, largest"].startswith("0.0030, ")


def test_a_wrong_result_is_in_no_table_of_latencies(some: CellRecord) -> None:
    wrong = measured(some, "open_latency", 9.0, {"options": "exact"}, (2.0**28,))
    assert texts(make_table("open_latency", Context(wrong=[wrong]))) == []


def test_cells_that_show_only_that_they_run_are_in_no_table(some: CellRecord) -> None:
    cell = smoke("open_holders", "shared", cifar("softmax"))
    run = StoredRun(CellRecord.of(cell, some), Path("results/here/open_holders/x.json"))
    assert texts(make_table("open_holders", Context([run]))) == []


def test_every_preset_is_described() -> None:
    assert [row["preset"] for row in texts(make_table("presets", Context()))] == list(PRESETS)
