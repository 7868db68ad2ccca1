"""A prediction has the counts of a real run; what the model does not support is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from spu_bench import Network, Prediction, RunRecord, SpuBenchError, load_program, predict, provenance, run
from spu_bench.cli import main
from spu_bench.cost import MachineCosts, profile_machine
from spu_bench.cost.profile_machine import wake_time
from spu_bench.record import Request
from spu_bench.samples import summarize

LINK = Network(name="link", rate_mbit=80.0, rtt_ms=20.0)


@pytest.fixture(scope="module")
def machine_costs(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the costs of the small Program under SEMI2K, and a given wake-up time."""
    path = tmp_path_factory.mktemp("costs") / "machine-costs.json"
    profile_machine(load_program(small), "semi2k", path, wake_s=0.001)
    return path


def test_counts_are_those_of_a_run(small: Path, machine_costs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the machine costs alone: every operation's calls, rounds and bytes, exactly."""
    monkeypatch.setattr(
        sys.modules["spu_bench.cost.predict"], "time_steps", lambda *arguments: pytest.fail("it was measured again")
    )
    program = load_program(small)
    predicted = predict(program, "semi2k", LINK, machine_costs=machine_costs)
    record = run(program, executor="loopback")
    link = record.parties[0].inferences[-1].link
    assert predicted.turns == link.sent_messages
    assert predicted.sent_bytes == tuple(map(float, record.sent_bytes))
    seen = {o.name: (o.calls, o.sent_messages, o.sent_bytes) for o in record.parties[0].operations}
    for part in predicted.operations:
        assert seen[part.name] == (part.calls, part.turns, part.sent_bytes[0])
    assert predicted.wake_s == pytest.approx(0.001 * link.sent_messages)
    assert predicted.floor_s > link.sent_messages * 0.010
    assert predicted.seconds == pytest.approx(predicted.compute_s + predicted.floor_s + predicted.wake_s)


def test_cheetah(small: Path, tmp_path: Path) -> None:
    """Bytes and messages are those of a run; turns are no more than messages, the critical path no more than all."""
    program = load_program(small)
    machine_costs = tmp_path / "machine-costs.json"
    predicted = predict(program, "cheetah", machine_costs=machine_costs)
    record = run(program, protocol="cheetah", executor="loopback", warmup=1)
    link = record.parties[0].inferences[-1].link
    assert predicted.sent_messages == (link.sent_messages, link.received_messages)
    assert predicted.sent_bytes == pytest.approx((link.sent_bytes, link.received_bytes), rel=0.02)
    assert 1 <= predicted.turns <= sum(predicted.sent_messages)
    assert predicted.seconds == predicted.compute_s > 0
    # another Program, of which the file has only some steps
    known = MachineCosts.load(machine_costs)
    (of_cheetah,) = known.tables.values()
    of_cheetah.steps = dict(list(of_cheetah.steps.items())[::2])
    known.save(machine_costs)
    again = predict(program, "cheetah", machine_costs=machine_costs)
    assert again.sent_messages == predicted.sent_messages
    assert MachineCosts.load(machine_costs).tables.popitem()[1].top_up == of_cheetah.top_up


def test_a_kind_that_is_new(machine_costs: Path, tmp_path: Path, small: Path) -> None:
    """Without measuring it is an error that names the operation; no file is written."""
    with pytest.raises(SpuBenchError, match=r"no cost of pphlo\.\w+"):
        predict(load_program(small), machine_costs=tmp_path / "none.json", measure_new=False)
    assert not (tmp_path / "none.json").exists()


def test_a_shaped_network_requires_a_wake_up_time(small: Path, tmp_path: Path) -> None:
    """The error gives the command that measures it."""
    with pytest.raises(SpuBenchError, match="spu-bench profile-machine"):
        predict(load_program(small), network="wan", machine_costs=tmp_path / "none.json")


def test_three_parties_are_refused(small: Path, tmp_path: Path) -> None:
    """The cost model is for two parties."""
    with pytest.raises(SpuBenchError, match="two parties"):
        predict(load_program(small), "aby3", machine_costs=tmp_path / "none.json")


def test_wake_time(small: Path) -> None:
    """The time of a run beyond its prediction, divided by its turns, and never negative."""
    asked = {"protocol": "semi2k", "network": LINK, "executor": "netns", "runtime": "0.9.5", "options": {}}
    request = Request.model_validate({**asked, "repeats": 3, "warmup": 1, "timeout_s": 1.0})
    record = RunRecord(
        status="ok",
        request=request,
        statistics=summarize([5.0, 5.2, 9.0]),
        machine=provenance.machine(),
        code=provenance.code(),
        started_at="",
        duration_s=0,
    )
    assert wake_time(record, predicted_s=5.0, turns=100) == pytest.approx(0.002)
    assert wake_time(record, predicted_s=6.0, turns=100) == 0.0


def test_the_command(
    small: Path,
    machine_costs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It writes what `predict` returns; for a refused network it writes no file and exits with status 2."""
    out, network = tmp_path / "prediction.json", tmp_path / "mine.toml"
    network.write_text("rate_mbit = 80\nrtt_ms = 20\n")
    words = ["spu-bench", "predict", str(small), "--network", str(network), "--machine-costs", str(machine_costs)]
    monkeypatch.setattr("sys.argv", [*words, "--json", str(out)])
    with pytest.raises(SystemExit, match="0"):
        main()
    written = Prediction.model_validate_json(out.read_text())
    asked = Network(name="mine", rate_mbit=80.0, rtt_ms=20.0)
    assert written == predict(load_program(small), network=asked, machine_costs=machine_costs)
    assert f"{written.turns:.0f} turns" in " ".join(capsys.readouterr().out.split())
    network.write_text("rtt_ms = 20\nloss_percent = 1\n")
    monkeypatch.setattr("sys.argv", [*words, "--json", str(tmp_path / "none.json")])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "does not support jitter and loss" in capsys.readouterr().err and not (tmp_path / "none.json").exists()


def test_machine_costs_are_saved_in_the_named_file(machine_costs: Path) -> None:
    """The file says where its numbers come from."""
    found = MachineCosts.load(machine_costs)
    assert found.wake_s == 0.001 and found.wake_from == "as given"
    assert [each.protocol for each in found.tables.values()] == ["semi2k"]
