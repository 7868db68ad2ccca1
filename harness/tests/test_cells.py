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

from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import LABELS, Cell, LinearGelu, ModelSpec, canonical_sha256, select
from mpcvit_harness.store import Store, all_records
from spu_bench import Network, Options

RESULTS = Path(__file__).parents[2] / "results"

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
    without=st.none() | words,
)
cells = st.builds(
    Cell,
    experiment=words,
    name=words,
    model=models,
    protocol=words,
    network=st.sampled_from(["loopback", "lan", "wan"]),
    executor=words,
    runtime=words,
    options=st.builds(Options, runtime=st.dictionaries(words, st.integers(0, 3) | st.booleans(), max_size=2)),
    images=st.integers(0, 64),
    repeats=st.integers(1, 9),
    warmup=st.integers(0, 3),
    timeout_s=st.floats(1, 1e4),
    scale=st.sampled_from(["smoke", "reduced", "paper"]),
    labels=st.dictionaries(st.sampled_from(sorted(LABELS)), words, max_size=2),
    may_be_wrong=st.booleans(),
    dealer=st.sampled_from([None, "server", "third-party"]),
)


IDENTITY = ("model", "protocol", "network", "executor", "runtime", "options", "images", "repeats", "warmup", "dealer")


@given(cells, cells)
def test_equal_fingerprints_mean_that_the_same_is_measured(first: Cell, second: Cell) -> None:
    """Two cells share a fingerprint if and only if every field of the identity is the same."""
    same = all(getattr(first, field) == getattr(second, field) for field in IDENTITY)
    assert (first.fingerprint() == second.fingerprint()) is same


@given(cells, cells, st.sampled_from(sorted(Cell.model_fields)))
def test_a_field_counts_if_it_says_what_is_measured(cell: Cell, other: Cell, field: str) -> None:
    """Name, experiment, time limit, scale, labels and the like change no fingerprint; each other field does."""
    changed = cell.model_copy(update={field: getattr(other, field)})
    same = field not in IDENTITY or getattr(cell, field) == getattr(other, field)
    assert (changed.fingerprint() == cell.fingerprint()) is same


@given(models, models, st.sampled_from(sorted(ModelSpec.model_fields)))
def test_every_field_of_the_model_counts(model: ModelSpec, other: ModelSpec, field: str) -> None:
    """Each field of a model says what is measured."""
    cell = Cell(experiment="e", name="n", model=model)
    changed = Cell(experiment="e", name="n", model=model.model_copy(update={field: getattr(other, field)}))
    assert (changed.fingerprint() == cell.fingerprint()) == (getattr(model, field) == getattr(other, field))


def test_a_network_counts_by_its_values() -> None:
    """A preset by its name is the network with its values; a name or a source is not measured."""
    cell = Cell(experiment="e", name="n", model=ModelSpec(config="c"), network="wan")
    wan = Network.load("wan")
    for value, same in (
        (wan, True),
        (wan.model_copy(update={"name": "mine", "source": "mine"}), True),
        (wan.model_copy(update={"rtt_ms": 41.0}), False),
    ):
        assert (cell.model_copy(update={"network": value}).fingerprint() == cell.fingerprint()) is same


def test_an_identity_holds_what_is_no_default() -> None:
    """A new field with a default is in no old identity."""
    cell = Cell(experiment="e", name="n", model=ModelSpec(config="c"))
    assert cell.identity() == {"model": {"config": "c"}}
    spec = ModelSpec(config="c", linear_gelu=LinearGelu(keep=("1",)), heads=((0, 1),))
    cell = Cell(
        experiment="e", name="n", model=spec, network="lan", options=Options(link={"a": 1}), repeats=3, timeout_s=7.0
    )
    lan = {"rate_mbit": 3000.0, "rate_back_mbit": 3000.0, "rtt_ms": 0.3, "burst_bytes": 100_000}
    assert cell.identity() == {
        "model": {"config": "c", "heads": [[0, 1]], "linear_gelu": {"keep": ["1"]}},
        "network": lan,
        "options": {"link": {"a": 1}},
        "repeats": 3,
    }


def test_defaults_never_change() -> None:
    """Another default would change what the identities of stored records mean: add a field instead."""
    defaults = {
        "protocol": "semi2k",
        "network": "loopback",
        "executor": "auto",
        "runtime": "0.9.5",
        "options": {"runtime": {}, "compiler": {}, "link": {}},
        "images": 0,
        "repeats": 1,
        "warmup": 1,
        "dealer": None,
    }
    cell = Cell(experiment="e", name="n", model=ModelSpec(config="c")).model_dump()
    assert {key: cell[key] for key in defaults} == defaults
    assert cell["model"] == {
        "config": "c",
        "weights": "random:0",
        "num_classes": 10,
        "overrides": {},
        "attention": "softmax",
        "heads": None,
        "kernels": "plain",
        "gelu": None,
        "batch": 1,
        "linear_gelu": None,
        "weights_held": "server",
        "without": None,
    }
    unshaped = {"rate_mbit": None, "rate_back_mbit": None, "rtt_ms": 0.0, "jitter_ms": 0.0, "loss_percent": 0.0}
    values = Network(name="n").model_dump(exclude={"name", "source"})
    assert values == {**unshaped, "mtu": 65535, "burst_bytes": None}


@given(cells)
def test_a_cell_round_trips(cell: Cell) -> None:
    """A cell that was written and read is the same cell, fingerprint included."""
    again = Cell.model_validate_json(cell.model_dump_json())
    assert again == cell and again.fingerprint() == cell.fingerprint()


def test_fingerprints_are_the_same_in_every_process() -> None:
    """They contain no salted hash."""
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
    assert len({salted for _, salted in seen}) == 2, "the processes must differ in salted hashes"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {"a": {1, 2}}])
def test_a_value_without_a_stable_form_is_refused(value: Any) -> None:
    """A fingerprint of such a value would have no meaning."""
    with pytest.raises(ValueError, match=r"JSON|stable"):
        canonical_sha256(value)


def test_an_unknown_field_is_refused() -> None:
    """A misspelt field would otherwise be a cell with a default."""
    with pytest.raises(ValidationError, match="protocl"):
        Cell(experiment="e", name="n", model=ModelSpec(config="c"), protocl="cheetah")


def some(count: int, scale: str = "smoke") -> list[Cell]:
    return [Cell(experiment="e", name=f"n{i}", model=ModelSpec(config="c"), scale=scale) for i in range(count)]


def test_selection() -> None:
    """Scales nest, the executor is set, and the order is that of the ids."""
    cells = [*some(5), Cell(experiment="e", name="big", model=ModelSpec(config="c"), scale="paper")]
    assert len(select(cells, scale="reduced", executor="netns")) == 5
    whole = select(cells, scale="paper", executor="netns")
    assert len(whole) == 6 and {cell.executor for cell in whole} == {"netns"}
    assert json.dumps([cell.id for cell in whole]) == json.dumps(sorted(cell.id for cell in whole))


def test_two_cells_of_one_name_are_refused() -> None:
    """A reader of the report could not tell them apart."""
    same = [*some(1), Cell(experiment="e", name="n0", model=ModelSpec(config="d"))]
    with pytest.raises(ValueError, match="n0-semi2k-loopback"):
        select(same, scale="smoke", executor="auto")


def test_committed_records_are_up_to_date() -> None:
    """Every committed record loads, under the fingerprint of its cell and the name of its file."""
    records = list(all_records(RESULTS))
    assert records
    for path, record in records:
        assert isinstance(record, CellRecord), record
        assert record.cell.fingerprint() == record.cell_fingerprint
        assert Store(RESULTS, path.relative_to(RESULTS).parts[0]).path(record.cell) == path


def test_a_misspelt_label_is_refused() -> None:
    """It would otherwise be a cell that no table shows."""
    with pytest.raises(ValidationError, match="unknown label 'budget'"):
        Cell(experiment="e", name="n", model=ModelSpec(config="c"), labels={"budget": "0.5"})
