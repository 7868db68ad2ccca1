"""The table of peers: each system beside accurate CrypTen with the same attention, on the same network and machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from experiment_files import ROOT, texts

from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import Cell, ModelSpec
from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables import Context, make_table
from spu_bench.comparison import Accuracy
from spu_bench.samples import summarize


@pytest.fixture(scope="module")
def some() -> CellRecord:
    """A committed record, whose seconds the tests replace."""
    return CellRecord.load(min((ROOT / "results").glob("*/variants/*.json")))


def measured(
    record: CellRecord, system: str, attention: str, seconds: float, machine: str = "here", **changes: Any
) -> StoredRun:
    """A record of `system` that took so long."""
    labels = {"system": system, "attention": attention}
    name = f"wan-{system}-{attention}"
    model = ModelSpec(config="vit_7_4_32")
    cell = Cell(experiment="peers", name=name, model=model, network="wan", scale="paper", labels=labels)
    timed = record.model_copy(update={"statistics": summarize([seconds]), "trust": "none", **changes})
    return StoredRun(CellRecord.of(cell, timed), Path("results") / machine / "peers" / f"{name}.json")


def test_a_row_is_compared_with_crypten_on_its_own_machine_alone(some: CellRecord) -> None:
    runs = [
        measured(some, "plain", "softmax", 40),
        measured(some, "crypten", "softmax", 60),
        measured(some, "crypten-accurate", "softmax", 80),
        measured(some, "crypten-accurate", "softmax", 10, machine="elsewhere"),
        measured(some, "plain", "scale", 40),
    ]
    table = make_table("peers", Context(runs))
    found = {
        (row["model"], row["system"], row["seconds: median [range]"]): row["times as fast as accurate CrypTen"]
        for row in texts(table)
    }
    assert found == {
        ("softmax", "plain", "40.00"): "2.00",
        ("softmax", "crypten", "60.00"): "1.33",
        ("softmax", "crypten-accurate", "80.00"): "1.00",
        ("softmax", "crypten-accurate", "10.00"): "1.00",
        ("scale", "plain", "40.00"): "",
    }
    page = table.markdown(Path("docs/peers.md"))
    assert "[record](../results/elsewhere/peers/wan-crypten-accurate-softmax.json)" in page


def test_a_wrong_result_is_no_baseline_and_no_latency(some: CellRecord) -> None:
    """It is shown as wrong, without seconds; nothing is compared with it, and a note says why."""
    errors = [0.001, 7.8e8, 0.002]
    accuracy = Accuracy(inputs=3, max_abs_error=7.8e8, top1_equal=2, clear=0, clear_equal=0, errors=errors)
    wrong = {"status": "wrong", "correctness": "wrong", "accuracy": accuracy}
    context = Context(
        runs=[measured(some, "tuned", "softmax", 2)],
        wrong=[measured(some, "crypten-accurate", "softmax", 7, **wrong)],
    )
    table = make_table("peers", context)
    crypten, tuned = texts(table)
    assert crypten["correctness"] == "wrong: 1 of 3 inferences" and crypten["largest logit error"] == "7.8e+08"
    assert crypten["seconds: median [range]"] == crypten["times as fast as accurate CrypTen"] == ""
    assert tuned["seconds: median [range]"] == "2.00" and tuned["times as fast as accurate CrypTen"] == ""
    assert "Wrong logits: crypten-accurate (softmax, wan)." in table.note
