"""Two machines or commits compared: difference, interval, test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Literal

import pytest

from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cli import app, main
from mpcvit_harness.compare import compare
from spu_bench.samples import summarize

LINKS = Path(__file__).parents[2] / "results" / "amd-epyc-2c-24g" / "links"


def put(path: Path, samples_s: list[float], status: Literal["ok", "failed"] = "ok") -> None:
    """A committed record with other samples."""
    (source,) = LINKS.glob("cifar-softmax-semi2k-wan-netns.*.json")
    record = CellRecord.load(source)
    record.samples_s, record.statistics, record.status = samples_s, summarize(samples_s), status
    cell = record.cell.model_copy(update={"experiment": path.parent.name, "name": path.name.split(".")[0]})
    cell = cell.model_copy(update={"model": cell.model.model_copy(update={"config": cell.name})})
    CellRecord.of(cell, record).save(path)


def test_differences_are_tested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Different, alike, too few samples; a cell of one side only, or without a valid record, is left out."""
    apart, alike = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], [1.05, 1.15, 1.25, 1.35, 1.45, 1.55]
    later = [sample + 2 for sample in apart]
    for name, a, b in (("apart", apart, later), ("alike", apart, alike), ("few", apart[:3], later[:3])):
        put(tmp_path / "a" / "e" / f"{name}.0.json", a)
        put(tmp_path / "b" / "e" / f"{name}.0.json", b)
    put(tmp_path / "a" / "e" / "alone.0.json", apart)
    put(tmp_path / "a" / "e" / "failed.0.json", apart)
    put(tmp_path / "b" / "e" / "failed.0.json", apart, status="failed")
    found = {each.cell: each for each in compare(str(tmp_path / "a"), str(tmp_path / "b"))}
    assert {cell: each.verdict for cell, each in found.items()} == {
        "e/alike-semi2k-wan-netns": "no difference seen",
        "e/apart-semi2k-wan-netns": "different",
        "e/few-semi2k-wan-netns": "too few samples",
    }
    assert found["e/apart-semi2k-wan-netns"].p == pytest.approx(2 / 924), "2 of the ways to divide 12 samples"
    low, high = found["e/apart-semi2k-wan-netns"].interval_95 or (0, 0)
    assert 1.5 < low < 2 < high < 2.5
    assert found["e/few-semi2k-wan-netns"].interval_95 is None
    with pytest.raises(SystemExit) as ended:
        app(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--format", "markdown"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert (
        "| e/apart-semi2k-wan-netns | 1.250 (n = 6) | 3.250 (n = 6) | +2.000 (+160.0%) |" in out
        and "| different | 1,987 |" in out
    )


def test_two_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each side has the records of its commit."""

    def git(*arguments: str) -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    record = tmp_path / "results" / "here" / "e" / "cell.0.json"
    git("init", "-q")
    for seconds in (1.0, 2.0):
        put(record, [seconds] * 3)
        git("add", ".")
        git("commit", "-q", "-m", "records")
    shutil.rmtree(tmp_path / "results")
    monkeypatch.chdir(tmp_path)
    (one,) = compare("HEAD~1", "HEAD")
    assert one.cell == "here/e/cell-semi2k-wan-netns" and one.medians == (1.0, 2.0)


def test_nothing_to_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is one line with the fix."""
    for sides, status in (((str(tmp_path), str(tmp_path)), 1), ((str(tmp_path), "no-such-revision"), 2)):
        monkeypatch.setattr("sys.argv", ["mpcvit-report", "compare", *sides])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == status and "Fix: give" in capsys.readouterr().err
