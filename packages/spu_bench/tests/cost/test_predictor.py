"""A prediction's counts are those of a real run; what it cannot know it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from spu_bench import Network, Prediction, RunRecord, SpuBenchError, load_program, predict, run
from spu_bench.cli import main
from spu_bench.cost import predictor, table
from spu_bench.cost.calibrate import calibrate, waking
from spu_bench.record import Request
from spu_bench.samples import summarize

LINK = Network(name="link", rate_mbit=80.0, rtt_ms=20.0)


@pytest.fixture(scope="module")
def calibration(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calibration of the small Program under SEMI2K, with a time for waking up as given."""
    path = tmp_path_factory.mktemp("calibration") / "calibration.json"
    calibrate(load_program(small), "semi2k", path, wake_s=0.001)
    return path


def test_counts_are_those_of_a_run(small: Path, calibration: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the calibration alone: every operation's calls, rounds and bytes, exactly."""
    monkeypatch.setattr(predictor, "measure", lambda *arguments: pytest.fail("it was measured again"))
    program = load_program(small)
    predicted = predict(program, "semi2k", LINK, calibration=calibration)
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
    calibration = tmp_path / "calibration.json"
    predicted = predict(program, "cheetah", calibration=calibration)
    record = run(program, protocol="cheetah", executor="loopback", warmup=1)
    link = record.parties[0].inferences[-1].link
    assert predicted.sent_messages == (link.sent_messages, link.received_messages)
    assert predicted.sent_bytes == pytest.approx((link.sent_bytes, link.received_bytes), rel=0.02)
    assert 1 <= predicted.turns <= sum(predicted.sent_messages)
    assert predicted.seconds == predicted.compute_s > 0
    # another Program of which only some steps are known
    known = table.load(calibration)
    (of_cheetah,) = known.tables.values()
    of_cheetah.steps = dict(list(of_cheetah.steps.items())[::2])
    known.save(calibration)
    again = predict(program, "cheetah", calibration=calibration)
    assert again.sent_messages == predicted.sent_messages
    assert table.load(calibration).tables.popitem()[1].top_up == of_cheetah.top_up


def test_a_kind_that_is_new(calibration: Path, tmp_path: Path, small: Path) -> None:
    """Without measuring it is an error that names the operation; nothing is written."""
    with pytest.raises(SpuBenchError, match=r"no cost of pphlo\.\w+"):
        predict(load_program(small), calibration=tmp_path / "none.json", measure_new=False)
    assert not (tmp_path / "none.json").exists()


def test_waking_up_has_to_be_known(small: Path, tmp_path: Path) -> None:
    """A network with a delay needs a calibrated machine: the error is the command."""
    with pytest.raises(SpuBenchError, match="spu-bench calibrate"):
        predict(load_program(small), network="wan", calibration=tmp_path / "none.json")


def test_three_parties_are_refused(small: Path, tmp_path: Path) -> None:
    """The cost model is of two."""
    with pytest.raises(SpuBenchError, match="two parties"):
        predict(load_program(small), "aby3", calibration=tmp_path / "none.json")


def test_what_waking_up_costs(small: Path) -> None:
    """It is what a run took beyond its prediction, by turns, and never less than nothing."""
    asked = {"protocol": "semi2k", "network": LINK, "executor": "netns", "runtime": "0.9.5", "options": {}}
    request = Request.model_validate({**asked, "repeats": 3, "warmup": 1, "timeout_s": 1.0})
    record = RunRecord(status="ok", request=request, statistics=summarize([5.0, 5.2, 9.0]), started_at="", duration_s=0)
    assert waking(record, predicted_s=5.0, turns=100) == pytest.approx(0.002)
    assert waking(record, predicted_s=6.0, turns=100) == 0.0


def test_the_command(
    small: Path, calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It writes what `predict` returns; a network that is refused leaves no file and a status of its own."""
    out, network = tmp_path / "prediction.json", tmp_path / "mine.toml"
    network.write_text("rate_mbit = 80\nrtt_ms = 20\n")
    words = ["spu-bench", "predict", str(small), "--network", str(network), "--calibration", str(calibration)]
    monkeypatch.setattr("sys.argv", [*words, "--json", str(out)])
    with pytest.raises(SystemExit, match="0"):
        main()
    written = Prediction.model_validate_json(out.read_text())
    asked = Network(name="mine", rate_mbit=80.0, rtt_ms=20.0)
    assert written == predict(load_program(small), network=asked, calibration=calibration)
    assert f"{written.turns:.0f} turns" in " ".join(capsys.readouterr().out.split())
    network.write_text("rtt_ms = 20\nloss_percent = 1\n")
    monkeypatch.setattr("sys.argv", [*words, "--json", str(tmp_path / "none.json")])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "no jitter and no loss" in capsys.readouterr().err and not (tmp_path / "none.json").exists()


def test_a_calibration_is_kept_where_asked(calibration: Path) -> None:
    """Only the file that was named is written, and it says where its numbers come from."""
    found = table.load(calibration)
    assert found.wake_s == 0.001 and found.wake_from == "as given"
    assert [each.protocol for each in found.tables.values()] == ["semi2k"]
