"""A calibration is this machine's, of this SPU and whole, or it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from spu_bench import Options, SpuBenchError
from spu_bench.cost.table import StepCost, default_path, load, sizes


def test_kept_and_found_again(tmp_path: Path) -> None:
    """What was saved is read; protocols and options that change a step's cost have tables of their own."""
    path = tmp_path / "deep" / "calibration.json"
    calibration = load(path)
    assert calibration.wake_s is None and not path.exists()
    table = calibration.table("semi2k", Options())
    table.steps["key"] = StepCost(operation="pphlo.less", seconds=0.5, message_bytes=sizes([3, 7, 3]), storage=("a",))
    calibration.save(path)
    again = load(path)
    assert again == calibration
    assert again.table("semi2k", Options()).steps["key"].message_bytes == ((7, 1), (3, 2))
    assert again.table("semi2k", Options(compiler={"disable_div_sqrt_rewrite": True})).steps
    assert not again.table("cheetah", Options()).steps
    assert not again.table("semi2k", Options(runtime={"trunc_allow_msb_error": True})).steps


def test_a_truncated_file(tmp_path: Path) -> None:
    """Half a file is an error that says what to do; it is neither used nor written over."""
    path = tmp_path / "calibration.json"
    load(path).save(path)
    half = path.read_text()[:40]
    path.write_text(half)
    with pytest.raises(SpuBenchError, match=r"is no calibration.*spu-bench calibrate"):
        load(path)
    assert path.read_text() == half


@pytest.mark.parametrize(("change", "named"), [({"spu": "0.9.4"}, "SPU: 0.9.4"), ({"machine": {"cpu": "Z80"}}, "Z80")])
def test_of_another_spu_or_machine(tmp_path: Path, change: dict[str, object], named: str) -> None:
    """Costs of another version or machine say nothing here."""
    path = tmp_path / "calibration.json"
    load(path).model_copy(update=change).save(path)
    with pytest.raises(SpuBenchError, match=named):
        load(path)


def test_the_users_own_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It lies where the XDG base directories say."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "spu-bench" / "calibration.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_path() == Path.home() / ".cache" / "spu-bench" / "calibration.json"
