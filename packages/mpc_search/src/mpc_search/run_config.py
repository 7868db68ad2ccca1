"""The settings of a run as one typed value, and how they are read from a TOML file."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, JsonValue, ValidationError

from mpc_search.errors import SearchError
from mpc_search.strict import Settings, StrictModel, first_problem

Stage = Literal["teacher", "search", "retrain"]
"""A training: of the teacher, of the search form, of the searched plan."""

STAGES: tuple[Stage, ...] = get_args(Stage)
"""Every stage, in the order of a whole search."""

Scale = Literal["paper", "reduced", "smoke"]
"""The paper's own settings; hours on a small machine; minutes."""

SCALES: tuple[Scale, ...] = get_args(Scale)
"""Every scale, the largest first."""


class DataConfig(StrictModel):
    """The images of a run.

    `name` and `folder` are those of `data.load`. Of the training images, `validation_images` are held out, and at most
    `train_images` of the rest are used. Which ones does not depend on the seed of the run. Image files that decode to
    more than `memory_gib` are decoded when they are needed.
    """

    name: str
    folder: Path | None = None
    train_images: int | None = Field(default=None, ge=1)
    validation_images: int = Field(default=0, ge=0)
    memory_gib: float = Field(default=4.0, ge=0.0)


class ModelConfig(StrictModel):
    """The architecture by its name in `vit_models`, with `overrides` of its fields, and its activation `gelu`."""

    config: str
    overrides: dict[str, int | float] = Field(default_factory=dict)
    gelu: str = "exact"


class AugmentConfig(StrictModel):
    """The augmentation of training images; the defaults change nothing.

    `flip` and `erase` are probabilities. `crop_scale` and `crop_ratio` are the ranges of a random resized crop; a
    `crop_scale` of (1, 1) means no crop. `policy` "rand" is RandAugment at `magnitude` (of 10) with standard deviation
    `magnitude_std`; "auto" is AutoAugment's ImageNet policy. `mixup` and `cutmix` are the parameters of their beta
    distributions (0: off). A batch is mixed with probability `mix_probability`, by cutmix in `mix_switch` of the cases,
    in the epochs before `mix_until` (None: in all). Source of the paper's values: docs/paper-facts.md, section 3.
    """

    flip: float = Field(default=0.0, ge=0.0, le=1.0)
    crop_scale: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    policy: Literal["none", "rand", "auto"] = "none"
    magnitude: float = Field(default=9.0, ge=0.0, le=10.0)
    magnitude_std: float = Field(default=0.5, ge=0.0)
    erase: float = Field(default=0.0, ge=0.0, le=1.0)
    erase_with: Literal["noise", "zero"] = "noise"
    mixup: float = Field(default=0.0, ge=0.0)
    cutmix: float = Field(default=0.0, ge=0.0)
    mix_probability: float = Field(default=1.0, ge=0.0, le=1.0)
    mix_switch: float = Field(default=0.5, ge=0.0, le=1.0)
    mix_until: int | None = None
    smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)


class TrainConfig(StrictModel):
    """The training of a model: AdamW with warm-up, cosine and cool-down. Times are in epochs.

    `schedule` "epoch" changes the learning rate once an epoch, as timm does; "step" changes it at every step, for runs
    of few epochs. `regularize` turns on the model's attention dropout and stochastic depth. `accumulate` splits a batch
    into that many parts and averages their gradients. A line of metrics is written every `log_every` steps. The
    held-out images are evaluated every `evaluate_every` epochs and after the last; the state is saved every
    `checkpoint_every` epochs and after the last. `keep` says which parameters become the checkpoint: those of the best
    evaluation, or the last.
    """

    epochs: int = Field(ge=1)
    batch: int = Field(default=128, ge=1)
    accumulate: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=5e-4, ge=0.0)
    min_rate: float = Field(default=1e-5, ge=0.0)
    warmup_rate: float = Field(default=1e-6, ge=0.0)
    warmup: float = Field(default=0.0, ge=0.0)
    cooldown: int = Field(default=0, ge=0)
    schedule: Literal["epoch", "step"] = "epoch"
    weight_decay: float = Field(default=0.05, ge=0.0)
    precision: Literal["float32", "bfloat16"] = "float32"
    regularize: bool = True
    seed: int = 0
    log_every: int = Field(default=50, ge=1)
    evaluate_every: int = Field(default=1, ge=1)
    checkpoint_every: int = Field(default=1, ge=1)
    keep: Literal["best", "last"] = "last"


class SearchConfig(StrictModel):
    """The search for alpha (attention) and beta (GeLU, MPCViT+). Source: docs/paper-facts.md, sections 2.2 and 2.5.

    `level` and `gelu_level` say which unit has its own alpha or beta. `penalty` "l1" is the sum of the absolute alphas,
    as in the released code; "cost" is the paper's sum of alpha Cost(ReLU-Softmax) + (1 - alpha) Cost(Scale);
    "expected_cost" is also right when a layer's cost is not a line in its number of heads. `weight` multiplies the
    penalty, `gelu_weight` the L1 norm of beta. Alpha and beta begin at `start`. Where costs are steps, the gradient of
    expected_cost is zero at 1; start at 0.5 there. `clamp` keeps alpha and beta in [0, 1] (the released code does not);
    `decay` lets AdamW decay them like other matrices (as the released code does).
    """

    level: Literal["none", "layer", "head", "row"] = "head"
    gelu_level: Literal["none", "layer", "token"] = "none"
    penalty: Literal["l1", "cost", "expected_cost"] = "l1"
    weight: float = Field(default=1e-5, ge=0.0)
    gelu_weight: float = Field(default=1e-5, ge=0.0)
    start: float = 1.0
    clamp: bool = False
    decay: bool = True


class DistillConfig(StrictModel):
    """Distillation: what a student learns from its teacher besides the labels.

    `kind` "both" is the original's `--use-token-kd`, "logits" its `--use-kd`. `logits_weight` multiplies the soft
    cross-entropy at `temperature`, `tokens_weight` the squared error of the tokens after the final LayerNorm, and
    `hard_weight` the loss on the labels. `init` "teacher" starts the student from the teacher's parameters; the paper
    starts from scratch. Source: docs/paper-facts.md, section 2.4.
    """

    kind: Literal["none", "logits", "tokens", "both"] = "none"
    temperature: float = Field(default=1.0, gt=0.0)
    logits_weight: float = Field(default=1.0, ge=0.0)
    tokens_weight: float = Field(default=1.0, ge=0.0)
    hard_weight: float = Field(default=1.0, ge=0.0)
    init: Literal["scratch", "teacher"] = "scratch"


class RunConfig(StrictModel):
    """All settings of a training run. The plan, the teacher and the cost table are separate."""

    data: DataConfig
    model: ModelConfig
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig
    search: SearchConfig = SearchConfig()
    distill: DistillConfig = DistillConfig()

    def public(self) -> RunConfig:
        """The settings without the data's folder, which is private to one machine."""
        return self.model_copy(update={"data": self.data.model_copy(update={"folder": None})})


def config_names() -> tuple[str, ...]:
    """Names of the configs in this package."""
    folder = resources.files("mpc_search") / "configs"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_config(
    name: str | Path, scale: Scale = "paper", stage: Stage = "retrain", overrides: Settings | None = None
) -> RunConfig:
    """The settings of one stage at one scale, from a config's name or a TOML file.

    The tables of the file are the paper's settings. These replace values in them, in this order: its table
    `stage.STAGE`, its table SCALE, that table's `stage.STAGE`, and `overrides` (by dotted names, as train.epochs).
    Raises SearchError with the name of the field that is wrong.
    """
    try:
        table: Settings = tomllib.loads(_read(name))
    except tomllib.TOMLDecodeError as error:
        raise SearchError(f"{name} is not valid TOML: {error}.", "correct that line.") from error
    scales = {each: table.pop(each, None) for each in SCALES}
    if scale not in SCALES or stage not in STAGES or (scale != "paper" and scales[scale] is None):
        raise SearchError(
            f"{name} has no settings for {stage} at scale {scale}.",
            f"use one of {', '.join(SCALES)} as --scale, or add a table [{scale}.train] to the file.",
        )
    scaled = _table(scales[scale])
    layers = [table, _stage(table, stage), scaled, _stage(scaled, stage)]
    for dotted, value in (overrides or {}).items():
        for part in reversed(dotted.split(".")):
            value = {part: value}
        layers.append(_table(value))
    merged: Settings = {}
    for layer in layers:
        _merge(merged, layer)
    try:
        return RunConfig.model_validate(merged)
    except ValidationError as error:
        raise SearchError(
            f"{name} ({scale}, {stage}): {first_problem(error)}.", "see the fields of mpc_search.run_config."
        ) from error


def parse_overrides(settings: list[str]) -> Settings:
    """{dotted name: value} of settings like "train.epochs=3". Values are read as TOML, or else taken as words."""
    found: Settings = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise SearchError(f"--set {setting} has no value.", "write it like train.epochs=3.")
        try:
            found[name] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[name] = value
    return found


def _read(name: str | Path) -> str:
    if str(name) in config_names():
        return (resources.files("mpc_search") / "configs" / f"{name}.toml").read_text()
    try:
        return Path(name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(config_names())
        raise SearchError(f"There is no config {name}.", f"give a TOML file, or one of {known}.") from error


def _table(value: JsonValue) -> Settings:
    return value if isinstance(value, dict) else {}


def _stage(table: Settings, stage: Stage) -> Settings:
    """Take the table `stage` out of `table`, and return what it has for this stage."""
    return _table(_table(table.pop("stage", None)).get(stage))


def _merge(below: Settings, above: Settings) -> None:
    """Put the values of `above` over those of `below`; tables are merged, except `overrides`."""
    for key, value in above.items():
        known = below.get(key)
        if isinstance(value, dict) and isinstance(known, dict) and key != "overrides":
            _merge(known, value)
        else:
            below[key] = dict(value) if isinstance(value, dict) else value
