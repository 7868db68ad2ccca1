"""What cannot be written is found before anything runs; what fails at the end loses nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from parties import cli, free_port, one_line, start_party, write_link

from spu_bench import RunRecord, SpuBenchError
from spu_bench.destinations import check_directory, check_file, write_result
from spu_bench.party import session_loop
from spu_bench.program import read_npz


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", tmp_path / "file" / "below", Path("/proc/self/x"), Path("/dev/null")):
        with pytest.raises(SpuBenchError) as caught:
            check_file(path)
        assert caught.value.reason == "bad_input"
    with pytest.raises(SpuBenchError, match="Nothing can be written"):
        check_directory(tmp_path / "file")
    check_file(tmp_path / "new" / "file.json")
    assert sorted(os.listdir(tmp_path / "new")) == [], "the trial leaves nothing"


def test_a_result_that_cannot_be_written_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It goes to a temporary file that the error names."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "target").mkdir()
    with pytest.raises(SpuBenchError, match=r"cannot be written.*What should be in it is in") as caught:
        write_result(tmp_path / "target", "the logits")
    kept = Path(caught.value.problem.split(" is in ")[1].rstrip("."))
    assert kept.read_text() == "the logits" and kept.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "target") == [] and len(os.listdir(tmp_path)) == 2


def test_outputs_that_cannot_be_written_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So do the client's outputs."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "out.npz").mkdir()
    logits = np.arange(4.0)
    with pytest.raises(SpuBenchError, match="The outputs are in") as caught:
        session_loop._save_outputs(str(tmp_path / "out.npz"), {"logits": logits})
    kept = Path(caught.value.problem.split(" are in ")[1].rstrip("."))
    np.testing.assert_array_equal(read_npz(kept)["logits"], logits)
    assert kept.stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(tmp_path)) == sorted([kept.name, "out.npz"])


@pytest.mark.parametrize("option", ["--json", "--keep-logs"])
def test_a_run_refuses_its_destination_first(small: Path, tmp_path: Path, option: str) -> None:
    (tmp_path / "file").write_text("")
    done = cli("run", str(small), "--executor", "nowhere", option, str(tmp_path / "file" / "x"))
    assert done.returncode == 2 and "Nothing can be written" in one_line(done.stderr)


@pytest.mark.parametrize("option", ["--output", "--outcome"])
def test_a_party_refuses_its_destination_first(small: Path, tmp_path: Path, option: str) -> None:
    link = write_link(tmp_path / "link.toml", [free_port(), free_port()])
    party = start_party(1, small, link, tmp_path / "home", option, "/proc/x/y")
    _, errors = party.communicate(timeout=60)
    assert party.returncode == 2 and "Nothing can be written" in one_line(errors)


def test_results_are_for_their_owner_alone(small: Path, tmp_path: Path) -> None:
    """A run's record holds the client's logits."""
    done = cli("run", str(small), "--executor", "loopback", "--warmup", "0", "--json", str(tmp_path / "record.json"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "record.json").stat().st_mode & 0o777 == 0o600
    RunRecord.load(tmp_path / "record.json").save(tmp_path / "stored.json")
    assert (tmp_path / "stored.json").stat().st_mode & 0o777 == 0o644, "a store is shared"
