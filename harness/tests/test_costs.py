"""The cost table for the search gives a plan the predicted seconds of its Program."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpcvit_harness import cli
from mpcvit_harness.cells import Cell, ModelSpec
from mpcvit_harness.plan_costs import cost_table
from mpcvit_harness.prepare import prepare
from spu_bench import predict
from spu_bench.cost import MachineCosts

TINY = ModelSpec(
    config="vit_4_4_28",
    overrides={"layers": 2, "heads": 2, "dim": 8, "patch": 14},
    attention="mix",
    gelu="tanh",
    heads=((0, 0), (0, 0)),
)


def test_a_plan_costs_the_sum_of_its_layers(tmp_path: Path) -> None:
    """Also a plan that is not in the table: the rest and its layers; no step is timed again."""
    machine_costs = tmp_path / "machine-costs.json"
    cost_table(TINY, network="loopback", machine_costs=machine_costs)
    _price_by_turns(machine_costs)
    table = cost_table(TINY, network="loopback", machine_costs=machine_costs)
    assert [len(layer) for layer in table["layers"]] == [3, 3] and min(min(table["layers"])) >= 0
    model = TINY.model_copy(update={"heads": ((1, 0), (0, 0))})
    program = prepare(Cell(experiment="costs", name="mixed", model=model), tmp_path, tmp_path).program
    found = predict(program, machine_costs=machine_costs, measure_new=False)
    first, second = table["layers"]
    assert second[0] < first[1] and found.seconds > table["rest"]
    assert found.seconds == pytest.approx(table["rest"] + first[1] + second[0])


def test_the_architecture_can_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the reduced model of the search is: numbers by the names of fields, and nothing else."""
    asked: list[ModelSpec] = []
    monkeypatch.setattr(cli.costs, "cost_table", lambda model, *rest, **more: asked.append(model) or {})
    command = ["costs", "--config", "vit_4_4_28", "--out", str(tmp_path / "costs.json")]
    cli.app([*command, "--override", "patch=7", "--override", "mlp_ratio=1.5"], standalone_mode=False)
    assert asked[0].overrides == {"patch": 7, "mlp_ratio": 1.5} and (tmp_path / "costs.json").exists()
    monkeypatch.undo()
    for wrong, complaint in (
        ("patch=small", "not NAME=NUMBER"),
        ("depth=5", "Unknown config field 'depth'. Fix: use one of"),
    ):
        monkeypatch.setattr("sys.argv", ["mpcvit-report", *command, "--override", wrong])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        error = capsys.readouterr().err
        assert caught.value.code == 2 and complaint in error and error.count("Fix:") == 1


def _price_by_turns(path: Path) -> None:
    """Replace measured seconds by a millisecond a turn, so that no clock decides."""
    machine_costs = MachineCosts.load(path)
    for costs in machine_costs.tables.values():
        for cost in costs.steps.values():
            cost.seconds = 0.001 * cost.turns
    machine_costs.save(path)
