"""Cells are values with a fingerprint; the flat list of them is what runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mpcvit_harness.cells import Cell, LinearGelu, ModelSpec, canonical_sha256, select
from mpcvit_harness.store import all_records
from spu_bench import Options, RunRecord

words = st.text(alphabet="abcdefgh", min_size=1, max_size=6)
models = st.builds(
    ModelSpec,
    config=words,
    weights=words,
    num_classes=st.integers(2, 200),
    overrides=st.dictionaries(words, st.integers(1, 3), max_size=2),
    attention=words,
    heads=st.none() | st.lists(st.lists(st.integers(0, 1), max_size=2), max_size=2),
    kernels=words,
    gelu=st.none() | words,
    batch=st.integers(1, 8),
    linear_gelu=st.none() | st.builds(LinearGelu, keep=st.lists(st.text("01", max_size=2), max_size=2)),
    weights_held=st.sampled_from(["server", "public"]),
    open_weights_once=st.booleans(),
    without=st.none() | words,
)
cells = st.builds(
    Cell,
    experiment=words,
    name=words,
    model=models,
    protocol=words,
    network=words,
    executor=words,
    runtime=words,
    options=st.builds(Options, runtime=st.dictionaries(words, st.integers(0, 3) | st.booleans(), max_size=2)),
    images=st.integers(0, 64),
    repeats=st.integers(1, 9),
    warmup=st.integers(0, 3),
    timeout_s=st.floats(1, 1e4),
    scale=st.sampled_from(["smoke", "reduced", "paper"]),
)


@given(cells, cells)
def test_equal_fingerprints_mean_equal_cells(first: Cell, second: Cell) -> None:
    """Two cells share a fingerprint if and only if they are the same."""
    assert (first.fingerprint() == second.fingerprint()) == (first == second)


@given(cells, cells, st.sampled_from(sorted(set(Cell.model_fields) - {"labels"})))
def test_every_field_counts(cell: Cell, other: Cell, field: str) -> None:
    """Taking a single field from another cell changes the fingerprint whenever it changes the field."""
    changed = cell.model_copy(update={field: getattr(other, field)})
    assert (changed.fingerprint() == cell.fingerprint()) == (getattr(cell, field) == getattr(other, field))


@given(models, models, st.sampled_from(sorted(ModelSpec.model_fields)))
def test_every_field_of_the_model_counts(model: ModelSpec, other: ModelSpec, field: str) -> None:
    """So it is one level below."""
    cell = Cell(experiment="e", name="n", model=model)
    changed = Cell(experiment="e", name="n", model=model.model_copy(update={field: getattr(other, field)}))
    assert (changed.fingerprint() == cell.fingerprint()) == (getattr(model, field) == getattr(other, field))


@given(cells)
def test_a_cell_round_trips(cell: Cell) -> None:
    """Cell -> JSON -> cell is the identity, fingerprint included."""
    again = Cell.model_validate_json(cell.model_dump_json())
    assert again == cell and again.fingerprint() == cell.fingerprint()


def test_fingerprints_are_the_same_in_every_process() -> None:
    """No salted hash is in it."""
    cell = Cell(experiment="e", name="n", model=ModelSpec(config="c", heads=((0, 1), (1, 1))))
    code = (
        "import sys; from mpcvit_harness.cells import Cell;"
        "print(Cell.model_validate_json(sys.argv[1]).fingerprint(), hash('salted'))"
    )
    seen = [
        subprocess.run(
            [sys.executable, "-c", code, cell.model_dump_json()],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert {fingerprint for fingerprint, _ in seen} == {cell.fingerprint()}
    assert len({salted for _, salted in seen}) == 2, "the processes must differ where they may"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {"a": {1, 2}}])
def test_what_has_no_stable_form_is_refused(value: Any) -> None:
    """A fingerprint of such a thing would not mean anything."""
    with pytest.raises(ValueError, match=r"JSON|stable"):
        canonical_sha256(value)


def test_a_field_too_many_is_refused() -> None:
    """A misspelt field would otherwise be a cell with a default."""
    with pytest.raises(ValidationError, match="protocl"):
        Cell(experiment="e", name="n", model=ModelSpec(config="c"), protocl="cheetah")


def some(count: int, scale: str = "smoke") -> list[Cell]:
    return [Cell(experiment="e", name=f"n{i}", model=ModelSpec(config="c"), scale=scale) for i in range(count)]


def test_selection() -> None:
    """Scales nest, the executor is put in, and the order is that of the ids."""
    cells = [*some(5), Cell(experiment="e", name="big", model=ModelSpec(config="c"), scale="paper")]
    assert len(select(cells, scale="reduced", executor="netns")) == 5
    whole = select(cells, scale="paper", executor="netns")
    assert len(whole) == 6 and {cell.executor for cell in whole} == {"netns"}
    assert json.dumps([cell.id for cell in whole]) == json.dumps(sorted(cell.id for cell in whole))


def test_two_cells_of_one_name_are_refused() -> None:
    """They would write over each other in a report's reader's mind."""
    same = [*some(1), Cell(experiment="e", name="n0", model=ModelSpec(config="d"))]
    with pytest.raises(ValueError, match="n0-semi2k-loopback"):
        select(same, scale="smoke", executor="auto")


def test_a_committed_records_cell_has_its_fingerprint() -> None:
    """Every committed record loads, and a field that came to a cell later leaves those without it what they were."""
    records = [record for _, record in all_records(Path(__file__).parents[2] / "results")]
    assert records
    for record in records:
        assert isinstance(record, RunRecord), record
        assert Cell.model_validate(record.cell).fingerprint() == record.cell_fingerprint


def test_labels_have_known_keys_and_are_not_in_the_fingerprint() -> None:
    """A misspelt label would otherwise be a cell that no table shows."""
    cell = Cell(experiment="e", name="n", model=ModelSpec(config="c"))
    labelled = Cell(**{**cell.model_dump(), "labels": {"mu": "0.5"}})
    assert labelled.fingerprint() == cell.fingerprint()
    with pytest.raises(ValidationError, match="unknown label 'budget'"):
        Cell(experiment="e", name="n", model=ModelSpec(config="c"), labels={"budget": "0.5"})
