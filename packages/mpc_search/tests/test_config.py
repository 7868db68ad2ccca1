"""Configs: the paper's settings are the original's, other scales are smaller, and errors name the field."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpc_search import SearchError
from mpc_search.run_config import SCALES, STAGES, config_names, load_config, parse_overrides
from mpc_search.stages import make_model


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", config_names())
def test_every_config_is_valid(name: str, stage: str, scale: str) -> None:
    """At every scale and stage, with a valid model; no scale is larger than the paper's."""
    config, paper = (load_config(name, s, stage) for s in (scale, "paper"))
    make_model(config, 10, "softmax", None)
    assert config.train.epochs <= paper.train.epochs
    assert config.data.name == paper.data.name


@pytest.mark.parametrize(
    ("name", "epochs", "rate", "decay", "warm", "until"),
    [
        ("cifar10", (600, 300, 600), 5.5e-4, 0.06, 1e-5, 175),
        ("cifar100", (600, 300, 600), 6e-4, 0.06, 1e-6, None),
        ("tiny_imagenet", (300, 300, 300), 5e-4, 0.05, 1e-6, None),
    ],
)
def test_the_papers_settings(
    name: str, epochs: tuple[int, ...], rate: float, decay: float, warm: float, until: int | None
) -> None:
    """They are those of the original's config files."""
    assert tuple(load_config(name, "paper", stage).train.epochs for stage in STAGES) == epochs
    config = load_config(name)
    train, augment = config.train, config.augment
    assert (train.batch, train.learning_rate, train.weight_decay, train.warmup_rate) == (128, rate, decay, warm)
    assert (train.min_rate, train.warmup, train.cooldown, train.seed, train.schedule) == (1e-5, 10, 10, 42, "epoch")
    assert (augment.mixup, augment.cutmix, augment.mix_until, augment.smoothing) == (0.8, 1.0, until, 0.1)
    assert (augment.flip, augment.erase) == (0.5, 0.25)
    assert (config.search.weight, config.search.penalty, config.search.clamp) == (1e-5, "l1", False)
    rand = name.startswith("cifar")
    assert augment.policy == ("rand" if rand else "auto")
    assert augment.crop_scale == ((0.8, 1.0) if rand else (1.0, 1.0))


def test_overrides() -> None:
    """Dotted names; values are TOML or else words."""
    given = parse_overrides(["train.epochs=7", "distill.kind=both", "augment.crop_scale=[0.5, 1.0]"])
    config = load_config("digits", "smoke", "teacher", given)
    assert (config.train.epochs, config.distill.kind, config.augment.crop_scale) == (7, "both", (0.5, 1.0))


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("train.epoch=3", "train.epoch: Extra inputs"),
        ("train.epochs=0", "train.epochs: Input should be greater"),
        ("distill.kind=all", "distill.kind"),
    ],
)
def test_wrong_settings(setting: str, complaint: str) -> None:
    """The error names the field."""
    with pytest.raises(SearchError, match=complaint):
        load_config("digits", "smoke", "teacher", parse_overrides([setting]))


def test_wrong_files(tmp_path: Path) -> None:
    """A file that is missing, is not TOML, or does not have the scale."""
    with pytest.raises(SearchError, match="cifar10, cifar100, digits"):
        load_config("cifar11")
    path = tmp_path / "mine.toml"
    path.write_text("[data\n")
    with pytest.raises(SearchError, match="is not valid TOML"):
        load_config(path)
    path.write_text('data.name = "digits"\nmodel.config = "vit_4_4_28"\ntrain.epochs = 1\n')
    assert load_config(path).train.epochs == 1
    with pytest.raises(SearchError, match="no settings for retrain at scale smoke"):
        load_config(path, "smoke")
    with pytest.raises(SearchError, match="has no value"):
        parse_overrides(["train.epochs"])
    with pytest.raises(SearchError, match="not divisible by 5 heads"):
        make_model(load_config(path, overrides={"model.overrides": {"heads": 5}}), 10, "softmax", None)
