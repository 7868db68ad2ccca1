"""What a run is, as one typed value, and how it is read from a data set's TOML file."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mpc_search.errors import SearchError

STAGES = ("teacher", "search", "retrain")
SCALES = ("paper", "reduced", "smoke")
"""The paper's own settings; hours on a small machine; minutes."""

Stage = Literal["teacher", "search", "retrain"]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Table):
    """Which images. Of the training images, `validation_images` are held out, and no more than `train_images` used.

    `name` and `folder` are as for `data.load`; both choices of images are made once, whatever the seed of the run.
    """

    name: str
    folder: Path | None = None
    train_images: int | None = Field(default=None, ge=1)
    validation_images: int = Field(default=0, ge=0)
    memory_gib: float = Field(default=4.0, ge=0.0)


class ModelConfig(_Table):
    """The architecture by its name in `vit_models`, with fields replaced; its activation."""

    config: str
    overrides: dict[str, int | float] = {}
    gelu: str = "exact"


class AugmentConfig(_Table):
    """What happens to training images; the defaults do nothing. Source of the paper's values: FACTS, section 3.

    `flip` and `erase` are probabilities; `crop_scale` and `crop_ratio` those of a random resized crop ((1, 1): none);
    `policy` rand is RandAugment at `magnitude` (of 10) with deviation `magnitude_std`, auto is AutoAugment's ImageNet
    policy; `mixup` and `cutmix` are the parameters of their beta distributions (0: off), used from epoch 0 until
    before `mix_until` (None: always) with `mix_probability`, cutmix in `mix_switch` of the cases.
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


class TrainConfig(_Table):
    """How a model is trained: AdamW with warm-up, cosine and cool-down. Rates are per step, times in epochs.

    `schedule` epoch changes the rate once an epoch, as timm does, step at every step (for runs of few epochs).
    `regularize` turns the model's attention dropout and stochastic depth on. `accumulate` splits a batch into so many
    parts whose gradients are averaged. Every `log_every` steps a line of metrics is written; after every
    `evaluate_every` epochs, and the last, the held-out images are looked at; the state is saved after every
    `checkpoint_every` epochs, and the last. `keep` is which parameters become the run's checkpoint: those of the best
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


class SearchConfig(_Table):
    """How alpha (attention) and beta (GeLU, MPCViT+) are searched. Source: FACTS, sections 2.2 and 2.5.

    `level` and `gelu_level` say what has an alpha or a beta of its own. `penalty` is l1, the sum of the absolute
    values as in the released code; cost, the paper's sum of alpha Cost(ReLU-Softmax) + (1 - alpha) Cost(Scale); or
    expected_cost, which also holds where a layer's cost is no straight line in its number of heads. `weight` and
    `gelu_weight` multiply it and beta's L1 norm. All values begin at `start`; under expected_cost with costs that are
    steps, 1 is a flat place, and 0.5 a better one. `clamp` keeps alpha and beta in [0, 1] (the released code does not);
    `decay` lets AdamW decay them like the other matrices (it does).
    """

    level: Literal["none", "layer", "head", "row"] = "head"
    gelu_level: Literal["none", "layer", "token"] = "none"
    penalty: Literal["l1", "cost", "expected_cost"] = "l1"
    weight: float = Field(default=1e-5, ge=0.0)
    gelu_weight: float = Field(default=1e-5, ge=0.0)
    start: float = 1.0
    clamp: bool = False
    decay: bool = True


class DistillConfig(_Table):
    """What a student learns from its teacher beside the labels. Source: FACTS, section 2.4.

    `kind` both is the original's `--use-token-kd`, logits its `--use-kd`. The weights multiply the soft cross-entropy
    at `temperature`, the squared error of the final LayerNorm's tokens, and the labels' own loss. `init` teacher
    starts the student from the teacher's parameters; the paper starts from scratch.
    """

    kind: Literal["none", "logits", "tokens", "both"] = "none"
    temperature: float = Field(default=1.0, gt=0.0)
    logits_weight: float = Field(default=1.0, ge=0.0)
    tokens_weight: float = Field(default=1.0, ge=0.0)
    hard_weight: float = Field(default=1.0, ge=0.0)
    init: Literal["scratch", "teacher"] = "scratch"


class Config(_Table):
    """Everything that a training run is made of, but for the plan, the teacher and the costs that it is given."""

    data: DataConfig
    model: ModelConfig
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig
    search: SearchConfig = SearchConfig()
    distill: DistillConfig = DistillConfig()

    def public(self) -> Config:
        """The config without the folder of the data: a path is of one machine, and nobody else's business."""
        return self.model_copy(update={"data": self.data.model_copy(update={"folder": None})})


def config_names() -> tuple[str, ...]:
    """Names of the configs that come with the package."""
    folder = resources.files("mpc_search") / "configs"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_config(
    name: str | Path, scale: str = "paper", stage: str = "retrain", overrides: dict[str, Any] | None = None
) -> Config:
    """The config of one stage at one scale, from a config's name or a TOML file.

    The file's tables are the paper's settings. Laid over them, in this order: its table `stage.STAGE`, its table
    SCALE, that table's `stage.STAGE`, and `overrides` (dotted names, as train.epochs). Raises SearchError naming the
    field that is wrong.
    """
    if scale not in SCALES or stage not in STAGES:
        raise SearchError(f"There is no {stage} at scale {scale}. Fix: use {', '.join(STAGES)} at {', '.join(SCALES)}.")
    text = _read(name)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SearchError(f"{name} is not TOML ({error}). Fix: mend that line.") from error
    scales = {each: table.pop(each, None) for each in SCALES}
    if scale != "paper" and scales[scale] is None:
        raise SearchError(f"{name} has no {scale} settings. Fix: use another --scale, or add a table [{scale}.train].")
    over = scales[scale] or {}
    layers = [table, table.pop("stage", {}).get(stage, {}), over, over.pop("stage", {}).get(stage, {})]
    merged: dict[str, Any] = {}
    for layer in layers:
        _lay_over(merged, layer)
    for dotted, value in (overrides or {}).items():
        nested: Any = value
        for part in reversed(dotted.split(".")):
            nested = {part: nested}
        _lay_over(merged, nested)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SearchError(f"{name} ({scale}, {stage}): {where}: {first['msg']}. Fix: see mpc_search.config.") from error


def parse_overrides(settings: list[str]) -> dict[str, Any]:
    """{dotted name: value} of "train.epochs=3" and the like, values as in TOML, or else plain words."""
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise SearchError(f"--set {setting} has no value. Fix: write it as train.epochs=3.")
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
        raise SearchError(f"There is no config {name}. Fix: name a TOML file, or one of {known}.") from error


def _lay_over(below: dict[str, Any], above: dict[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict) and key != "overrides":
            _lay_over(below[key], value)
        else:
            below[key] = dict(value) if isinstance(value, dict) else value
