"""The commands, on files in the real formats. A wrong argument gives one line and no files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import mpc_search, write_idx
from test_data import write_cifar, write_tiny_imagenet

from mpc_search import load_checkpoint
from mpc_search.cost_table import CostTable
from vit_models import AttentionPlan


def test_retrain_and_evaluate(tmp_path: Path) -> None:
    """As the main job calls them, on files in the data set's format. A second call does not train again."""
    data = ["--data", str(write_idx(tmp_path / "data", count=128))]
    arguments = ["retrain", "--model", "vit_4_4_28", "--attention", "mix", "--out", str(tmp_path / "model")]
    done = mpc_search(*arguments, *data, "--get-data", "--set", "train.epochs=1")
    assert done.returncode == 0, done.stderr
    assert "on 128 test images" in done.stdout
    model, _, origin = load_checkpoint(tmp_path / "model")
    assert model.attention == "mix" and model.gelu == "tanh" and origin.test_images == 128
    assert model.plan == AttentionPlan.from_heads([[1, 1, 0, 0]] * 4)
    second = mpc_search(*arguments, *data, "--set", "train.epochs=1")
    assert second.returncode == 0 and second.stdout.split(",")[0] == done.stdout.split(",")[0]
    done = mpc_search("evaluate", str(tmp_path / "model"), *data)
    assert done.returncode == 0 and f"{origin.test_accuracy:.2%}" in done.stdout and "Ankle boot" in done.stdout


def test_search_and_binarize(tmp_path: Path) -> None:
    """By share, by seconds, and by the seconds of a share."""
    done = mpc_search(
        *("search", "--config", "digits", "--out", str(tmp_path / "found"), "--set", "train.epochs=1"),
        *("--set", "search.gelu_level=token"),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "found.run" / "alpha.html").stat().st_size > 10_000
    costs = str(tmp_path / "costs.json")
    steps = ((0.0, 1.0, 1.0, 1.0, 1.0),) * 2
    CostTable(protocol="semi2k", network="wan", kernels="plain", layers=steps, rest=0.5).save(costs)
    out = str(tmp_path / "plan.json")
    for budget, said in (
        (["--mu", "0.5", "--costs", costs], "predicted: 2.500 s"),
        (["--seconds", "1.5", "--costs", costs], "predicted: 1.500 s"),
        (["--seconds-of-mu", "0.25", "--costs", costs, "--gelu-share", "0.75"], "limit: "),
    ):
        done = mpc_search("binarize", str(tmp_path / "found"), "--out", out, *budget)
        assert done.returncode == 0 and said in done.stdout, done.stdout + done.stderr
    plan = AttentionPlan.from_json(Path(out).read_text())
    assert plan.gelu is not None and sum(sum(choice.on) for choice in plan.gelu) == 26
    page = mpc_search("history", str(tmp_path / "found.run"), "--out", str(tmp_path / "beta.html"), "--values", "beta")
    assert page.returncode == 0 and (tmp_path / "beta.html").exists()
    absent = mpc_search("binarize", str(tmp_path / "found"), "--out", str(tmp_path / "no.json"), "--seconds", "1")
    assert absent.returncode == 2 and "--costs" in absent.stderr and not (tmp_path / "no.json").exists()


@pytest.mark.parametrize(
    "command", ["teacher", "search", "binarize", "retrain", "evaluate", "sweep", "history", "summary"]
)
def test_help_has_an_example(command: str) -> None:
    """A full command line."""
    done = mpc_search(command, "--help")
    assert done.returncode == 0 and f"Example: mpc-search {command} " in " ".join(done.stdout.split())


def test_shared_options(tmp_path: Path) -> None:
    """Commands that train have the same options, and refuse a value that is not one of a few."""
    for command in ("teacher", "search", "retrain"):
        assert all(option in mpc_search(command, "--help").stdout for option in ("--out", "--scale", "--processes"))
        done = mpc_search(command, "--out", str(tmp_path / "model"), "--scale", "tiny")
        assert done.returncode == 2 and "'paper', 'reduced', 'smoke'" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "tiny_imagenet"])
def test_the_papers_data_sets(tmp_path: Path, name: str) -> None:
    """One command for each, with the paper's augmentation and smaller sizes, on generated files."""
    if name == "tiny_imagenet":
        ids = tuple(f"n{i:03}" for i in range(6))
        data = write_tiny_imagenet(tmp_path / "tiny-imagenet-200", ids)
        sizes = ["--set", "data.train_images=16", "--set", "data.memory_gib=0"]
    else:
        data = write_cifar(tmp_path / "data", name, name == "cifar100")
        sizes = ["--set", "data.train_images=20", "--set", "train.batch=10"]
    done = mpc_search(
        *("retrain", "--config", name, "--scale", "smoke", "--data", str(data), "--out", str(tmp_path / "model")),
        *("--attention", "scale", *sizes),
    )
    assert done.returncode == 0, done.stderr
    _, _, origin = load_checkpoint(tmp_path / "model")
    assert origin.config is not None
    augment = origin.config.augment
    assert origin.data == name and augment.mixup == 0.8
    assert augment.policy == ("auto" if name == "tiny_imagenet" else "rand")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--model", "vit_1_1_1"], "vit_1_1_1"),
        (["--heads", "9"], "vit_4_4_28 has 4 heads"),
        (["--plan", "absent.json"], "absent.json"),
        (["--data", "absent"], "apt-get install"),
        (["--config", "absent"], "There is no config absent"),
        (["--teacher", "absent"], "absent is not a checkpoint"),
        (["--processes", "here"], "HOST:PORT/I/N"),
        (["--set", "train.nonsense=1"], "train.nonsense"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    """One line, a non-zero status, and nothing is written."""
    data = str(write_idx(tmp_path / "data", count=128))
    done = mpc_search("retrain", "--out", str(tmp_path / "model"), "--data", data, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and len(done.stderr.strip().splitlines()) == 1
    assert complaint in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_other_folders_are_not_replaced(tmp_path: Path) -> None:
    """A folder that is not a checkpoint is refused before training."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("keep me")
    done = mpc_search("teacher", "--config", "digits", "--out", str(tmp_path / "precious"))
    assert done.returncode == 2 and "is not a checkpoint" in done.stderr
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '["precious"]'
