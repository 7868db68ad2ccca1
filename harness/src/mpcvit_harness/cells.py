"""A cell is one thing to measure, as a value. The flat list of cells is what runs, resumes, shards and reports."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Self, TypedDict, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from spu_bench import Network, Options
from spu_bench.record import DealerName

Size = Literal["smoke", "reduced", "paper"]
"""How large an experiment is: minutes, hours, the paper's own size."""

SCALES: tuple[Size, ...] = get_args(Size)
"""How long an experiment takes: minutes, an hour, the paper's own sizes."""

Heads = tuple[tuple[Literal[0, 1], ...], ...]
"""A head-level plan: 1 for ReLU-Softmax, 0 for Scale, a row a layer."""

LABELS = {
    "attention": "the model's attention; mix: ReLU-Softmax and Scale heads",
    "system": "what runs the model, among the peers",
    "kernels": "the kernel set",
    "options": "the name of the preset of options",
    "mu": "the budget: the share of heads on ReLU-Softmax; of Linformer the share of tokens",
    "part": "what is left out in an ablation, or nothing",
    "images": "how images go through: batch_1, batch_16, stream",
    "held": "who holds the weights and the image: shared, private, public, public-private",
    "dataset": "the data set, named as in the table of published numbers",
    "row": "the row of the table of published numbers",
    "run": "the training run whose weights these are",
    "form": "a variant of the model beside its attention",
    "placement": "where a plan has its ReLU-Softmax heads",
    "assumption": "the one assumption about the paper's setting that is changed, or as_found",
}
"""The keys of a cell's labels, and what each says. Values are plain text."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LinearGelu(_Value):
    """MPCViT+'s part of a plan: where GeLU stays, one string of 0 and 1 a layer.

    One character stands for the whole layer, otherwise there is one a token. `fuse` is as for `vit_models.fuse_params`.
    """

    keep: tuple[str, ...]
    fuse: bool | Literal["all", "layers"] = False


class ModelSpec(_Value):
    """The model of a cell, in the terms of `vit_models`.

    `overrides` replaces fields of the named configuration. `weights` is "random:SEED", or "checkpoint:NAME" or
    "sweep:SWEEP/RUN" (folders that `mpc-search` wrote, which also fix config, attention, plan and gelu). `heads` is the
    head-level plan of a mix: 1 for ReLU-Softmax, 0 for Scale, a row a layer. `linear_gelu` makes it an MPCViT+.
    `weights_held` and `without` are as for `vit_models.export_program`.

    Defaults are left out of a cell's identity. A new field with a default changes no identity; another default for a
    field would change what old identities mean, so that a default never changes.
    """

    config: str
    weights: str = "random:0"
    num_classes: int = 10
    overrides: dict[str, int | float] = {}
    attention: str = "softmax"
    heads: Heads | None = None
    kernels: str = "plain"
    gelu: str | None = None
    batch: int = 1
    linear_gelu: LinearGelu | None = None
    weights_held: Literal["server", "public"] = "server"
    without: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_removed_fields(cls, value: object) -> object:
        # Cells of older records name the field where it was off. With it on, a record is of what no longer exists.
        if isinstance(value, dict) and value.get("open_weights_once") is False:
            return {name: each for name, each in value.items() if name != "open_weights_once"}
        return value

    @property
    def kind(self) -> str:
        """What models of one size have in common."""
        return " ".join([self.config, *(f"{name}={value}" for name, value in self.overrides.items())])


class ProgramSpec(_Value):
    """A model that `vit_models` does not have: your own function that makes its Program.

    `function` is "module:name", importable where the cell runs; called with `arguments` it returns a
    `vit_models.program.Program`. The input is the Program's own sample.
    """

    function: str = Field(pattern=r"^[\w.]+:\w+$")
    arguments: dict[str, int | float | str] = {}

    @property
    def kind(self) -> str:
        """What models of one size have in common."""
        return self.function


class CellSettings(TypedDict, total=False):
    """Settings of a Cell beside its experiment, name and model."""

    protocol: str
    network: str | Network
    runtime: str
    options: Options
    images: int
    warmup: int
    timeout_s: float
    scale: Size
    may_be_wrong: bool
    dealer: DealerName


class Cell(_Value):
    """One measurement: its identity, and how it is run and shown.

    The identity is what is measured: `model`, `protocol`, the values of `network` (a preset's name or a network of the
    cell's own), `options`, `runtime`, `executor`, `images` (how many real test images go through; 0: the Program's own
    sample, the only input of a ProgramSpec), `repeats`, `warmup` and `dealer` (None: as the options say).
    A stored record of the same identity is reused.

    Not identity: `experiment` and `name`; `timeout_s`, the limit of the whole cell; `scale`, the smallest at which it
    is run; `labels`, which say what it stands for in tables and figures (LABELS: nothing reads that from its name);
    `may_be_wrong`, for an experiment that studies wrong logits: such a record is a result, though still no latency.
    """

    experiment: str
    name: str
    model: ModelSpec | ProgramSpec
    protocol: str = "semi2k"
    network: str | Network = "loopback"
    executor: str = "auto"
    runtime: str = "0.9.5"
    options: Options = Options()
    images: int = 0
    repeats: int = 1
    warmup: int = 1
    timeout_s: float = 3600.0
    scale: Size = "smoke"
    labels: dict[str, str] = {}
    may_be_wrong: bool = False
    dealer: DealerName | None = None

    @field_validator("labels")
    @classmethod
    def _known_labels(cls, labels: dict[str, str]) -> dict[str, str]:
        if unknown := sorted(set(labels) - set(LABELS)):
            raise ValueError(f"unknown label {unknown[0]!r}: use one of {', '.join(LABELS)}")
        return labels

    @model_validator(mode="after")
    def _images_are_for_vits(self) -> Self:
        if self.images and isinstance(self.model, ProgramSpec):
            raise ValueError(f"{self.name}: images go through a ModelSpec; a ProgramSpec brings its own sample")
        return self

    @property
    def batches(self) -> int:
        """How many batches of inputs go through, each `repeats` times."""
        return max(1, self.images // self.model.batch) if isinstance(self.model, ModelSpec) else 1

    @property
    def id(self) -> str:
        """The name under which pytest and the report show the cell, unique in its experiment."""
        kind, _, file = self.executor.partition(":")
        return f"{self.name}-{self.protocol}-{self.network_name}-{kind}{f'-{Path(file).stem}' if file else ''}"

    @property
    def key(self) -> str:
        """The cell's name among all experiments: experiment/id."""
        return f"{self.experiment}/{self.id}"

    @property
    def network_name(self) -> str:
        """The name of the network."""
        return self.network if isinstance(self.network, str) else self.network.name

    @property
    def network_value(self) -> Network:
        """The network itself."""
        return self.network if isinstance(self.network, Network) else Network.load(self.network)

    def on(self, executor: str) -> Cell:
        """The cell as `executor` runs it."""
        return self.model_copy(update={"executor": executor})

    def identity(self) -> dict[str, JsonValue]:
        """What is measured, as a JSON value; defaults are left out, so that a new field changes no old identity."""
        kept: dict[str, JsonValue] = self.model_dump(mode="json", include=_IDENTITY, exclude_defaults=True)
        network = self.network_value.model_dump(mode="json", exclude={"name", "source"}, exclude_defaults=True)
        return kept if not network else {**kept, "network": network}

    def fingerprint(self) -> str:
        """SHA-256 of the identity, the same in every process."""
        return canonical_sha256(self.identity())


_IDENTITY = {"model", "protocol", "options", "runtime", "executor", "images", "repeats", "warmup", "dealer"}
"""The fields of a cell's identity, beside the network's values."""


class TrainingCell(_Value):
    """One training: the run of that name, with its seed, of a sweep of `mpc_search`.

    Its record is the sweep's own, whether pytest or `mpc-search sweep` started it: each continues the other's work.
    """

    experiment: str
    sweep: str
    run: str
    scale: Size = "smoke"

    @property
    def id(self) -> str:
        """The name under which pytest and the report show the cell, unique in its experiment."""
        return f"{self.run}-{self.sweep}"

    @property
    def key(self) -> str:
        """The cell's name among all experiments: experiment/id."""
        return f"{self.experiment}/{self.id}"

    def on(self, executor: str) -> TrainingCell:
        """The cell itself: an executor has no part in a training."""
        return self

    def fingerprint(self) -> str:
        """SHA-256 of sweep and run; what the run is made of is in the key that its record keeps."""
        return canonical_sha256({"sweep": self.sweep, "run": self.run})


AnyCell = Cell | TrainingCell
"""What an experiment can list."""


def canonical_sha256(value: JsonValue) -> str:
    """SHA-256 of a JSON value in canonical form; raises ValueError for what JSON does not have (NaN, objects)."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except TypeError as error:
        raise ValueError(f"no stable fingerprint: {error}") from error
    return hashlib.sha256(text.encode()).hexdigest()


def select(cells: Iterable[AnyCell], *, scale: Size, executor: str) -> list[AnyCell]:
    """The cells of one experiment to run at `scale` on `executor`, in the order of their ids.

    Raises ValueError where two have the same id.
    """
    wanted = [cell for cell in cells if SCALES.index(cell.scale) <= SCALES.index(scale)]
    placed = sorted((cell.on(executor) for cell in wanted), key=lambda cell: cell.id)
    check_unique(placed)
    return placed


def check_unique(cells: Sequence[AnyCell]) -> None:
    """Raise ValueError where two cells have the same key."""
    seen: set[str] = set()
    for cell in cells:
        if cell.key in seen:
            raise ValueError(f"two cells of {cell.experiment} have the id {cell.id}: give them different names")
        seen.add(cell.key)
