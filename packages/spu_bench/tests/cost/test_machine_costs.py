"""A file of machine costs is read if it is valid and of this machine and SPU, else it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from spu_bench import Options, SpuBenchError
from spu_bench.cost.machine_costs import MachineCosts, StepCost, default_path, sizes


def test_save_and_load(tmp_path: Path) -> None:
    """What was saved is read. Each protocol, and options that change a step's cost, have their own table."""
    path = tmp_path / "deep" / "machine-costs.json"
    costs = MachineCosts.load(path)
    assert costs.wake_s is None and not path.exists()
    table = costs.table("semi2k", Options())
    table.steps["key"] = StepCost(operation="pphlo.less", seconds=0.5, message_bytes=sizes([3, 7, 3]), storage=("a",))
    costs.save(path)
    again = MachineCosts.load(path)
    assert again == costs
    assert again.table("semi2k", Options()).steps["key"].message_bytes == ((7, 1), (3, 2))
    assert again.table("semi2k", Options(compiler={"disable_div_sqrt_rewrite": True})).steps
    assert not again.table("cheetah", Options()).steps
    assert not again.table("semi2k", Options(runtime={"trunc_allow_msb_error": True})).steps


def test_a_truncated_file(tmp_path: Path) -> None:
    """Half a file is an error with the command that fixes it; the file is neither used nor changed."""
    path = tmp_path / "machine-costs.json"
    MachineCosts.load(path).save(path)
    half = path.read_text()[:40]
    path.write_text(half)
    with pytest.raises(SpuBenchError, match=r"does not hold machine costs.*spu-bench profile-machine"):
        MachineCosts.load(path)
    assert path.read_text() == half


@pytest.mark.parametrize(("change", "named"), [({"spu": "0.9.4"}, "SPU: 0.9.4"), ({"machine": {"cpu": "Z80"}}, "Z80")])
def test_of_another_spu_or_machine(tmp_path: Path, change: dict[str, object], named: str) -> None:
    """Costs of another version or machine are refused."""
    path = tmp_path / "machine-costs.json"
    MachineCosts.load(path).model_copy(update=change).save(path)
    with pytest.raises(SpuBenchError, match=named):
        MachineCosts.load(path)


def test_the_users_own_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is where the XDG base directories say."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_path() == tmp_path / "spu-bench" / "machine-costs.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_path() == Path.home() / ".cache" / "spu-bench" / "machine-costs.json"


def test_the_earlier_file_name(tmp_path: Path) -> None:
    """A calibration.json beside a missing machine-costs.json is read, and saved under the new name."""
    path = tmp_path / "machine-costs.json"
    costs = MachineCosts.load(path)
    costs.wake_s = 0.25
    costs.save(tmp_path / "calibration.json")
    assert MachineCosts.load(path).wake_s == 0.25
    assert MachineCosts.load(tmp_path / "mine.json").wake_s is None
    costs.wake_s = 0.5
    costs.save(path)
    assert MachineCosts.load(path).wake_s == 0.5


def test_an_earlier_schema(tmp_path: Path) -> None:
    """A file with other fields is refused with one line and a command."""
    (tmp_path / "calibration.json").write_text('{"schema_version": 1, "wake": 1}')
    with pytest.raises(SpuBenchError, match=r"calibration\.json does not hold machine costs") as caught:
        MachineCosts.load(tmp_path / "machine-costs.json")
    assert "\n" not in str(caught.value) and "spu-bench profile-machine" in caught.value.fix


def test_the_files_in_results_are_read() -> None:
    """The committed files are valid."""
    files = list((Path(__file__).parents[4] / "results").glob("*/machine-costs.json"))
    assert files
    for path in files:
        assert MachineCosts.model_validate_json(path.read_text()).wake_s
