"""The trainer learns, repeats itself, and its checkpoints come back whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from test_data import write

from mpc_search import (
    ImageSet,
    Model,
    SearchError,
    TrainSettings,
    accuracy,
    load_checkpoint,
    predict,
    save_checkpoint,
    train,
)
from vit_models import AttentionPlan, ViTConfig

TINY = ViTConfig(name="tiny", image_size=8, channels=1, patch=4, layers=1, heads=2, dim=16, num_classes=2)
MIX = Model(TINY, "mix", AttentionPlan.from_heads([[1, 0]]), "tanh")


def stripes(count: int, seed: int) -> ImageSet:
    """Images whose class is the direction of their stripes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count).astype(np.int32)
    wave = np.sin(np.arange(8) * 1.6)
    images = np.where(labels[:, None, None] == 0, wave[None, :, None], wave[None, None, :])
    noisy = images + rng.normal(scale=0.3, size=(count, 8, 8))
    return ImageSet(noisy[..., None].astype(np.float32), labels, ("down", "across"))


def test_it_learns() -> None:
    """From chance to nearly all, on images that it has not seen."""
    settings = TrainSettings(epochs=8, batch=32, learning_rate=5e-3, regularize=True, flip=True)
    steps: list[tuple[int, int]] = []
    params = train(MIX, stripes(512, 0), settings, lambda step, of, loss: steps.append((step, of)))
    unseen = stripes(256, 1)
    assert accuracy(predict(MIX, params, unseen.images, batch=100), unseen.labels) > 0.9
    assert steps[0] == (1, 128) and steps[-1] == (128, 128)


def test_the_same_seed_gives_the_same_model() -> None:
    """And another seed another."""
    runs = [train(MIX, stripes(64, 0), TrainSettings(epochs=1, batch=32, seed=seed)) for seed in (0, 0, 1)]
    first, same, other = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)]) for params in runs)
    np.testing.assert_array_equal(first, same)
    assert not np.allclose(first, other)


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    """Model, plan and parameters; a second one replaces the first."""
    params = train(MIX, stripes(64, 0), TrainSettings(epochs=1, batch=32))
    images = stripes(8, 2).images
    for about in ({"run": 1}, {"run": 2}):
        save_checkpoint(tmp_path / "model", MIX, params, about)
    model, loaded, about = load_checkpoint(tmp_path / "model")
    assert model == MIX and about == {"run": 2}
    np.testing.assert_array_equal(predict(model, loaded, images), predict(MIX, params, images))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_is_no_checkpoint_is_left_alone(tmp_path: Path) -> None:
    """A directory of something else is neither read nor written over."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("keep me")
    with pytest.raises(SearchError, match="is no checkpoint"):
        save_checkpoint(tmp_path / "precious", MIX, {"a": np.zeros(1)}, {})
    with pytest.raises(SearchError, match="is not a checkpoint"):
        load_checkpoint(tmp_path / "precious")
    assert (tmp_path / "precious" / "file").read_text() == "keep me"


def test_a_spoiled_checkpoint_is_refused(tmp_path: Path) -> None:
    """A model.json without its plan, and parameters cut in half."""
    params = train(MIX, stripes(64, 0), TrainSettings(epochs=1, batch=32))
    save_checkpoint(tmp_path / "model", MIX, params, {})
    content = json.loads((tmp_path / "model" / "model.json").read_text())
    archive = (tmp_path / "model" / "params.npz").read_bytes()
    (tmp_path / "model" / "params.npz").write_bytes(archive[: len(archive) // 2])
    with pytest.raises(SearchError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "model")
    del content["plan"]
    (tmp_path / "model" / "model.json").write_text(json.dumps(content))
    with pytest.raises(SearchError, match="plan"):
        load_checkpoint(tmp_path / "model")


def mpc_search(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from mpc_search.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)


def test_command_line(tmp_path: Path) -> None:
    """`retrain` then `evaluate`, on files in the data set's format."""
    (tmp_path / "data").mkdir()
    data = str(write(tmp_path / "data", count=128))
    done = mpc_search("retrain", "--out", str(tmp_path / "model"), "--data", data, "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert "on 128 test images" in done.stdout
    model, _, about = load_checkpoint(tmp_path / "model")
    assert model.attention == "mix" and about["settings"]["epochs"] == 1 and about["test_images"] == 128
    done = mpc_search("evaluate", str(tmp_path / "model"), "--data", data)
    assert done.returncode == 0 and f"{about['test_accuracy']:.2%}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--model", "vit_1_1_1"], "vit_1_1_1"),
        (["--heads", "9"], "vit_4_4_28 has 4 heads"),
        (["--plan", "absent.json"], "absent.json"),
        (["--data", "absent"], "apt-get install"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    """One line, a non-zero status, nothing written."""
    (tmp_path / "data").mkdir()
    data = str(write(tmp_path / "data", count=128))
    done = mpc_search("retrain", "--out", str(tmp_path / "model"), "--data", data, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and len(done.stderr.strip().splitlines()) == 1
    assert complaint in done.stderr
    assert not (tmp_path / "model").exists()
