"""The paper's models as cells of the paper division: SPU 0.3.1b0, tanh GeLU, heads one after another, `wan`.

Data sets are named as in the table of published numbers. The searched plans are lost; known is how many heads they
keep, so a budget's plan here has that many, spread evenly over the layers. `harness/experiments/paper_placements.py`
measures that the place does not matter while heads run one after another.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, Unpack

import numpy as np

from mpcvit_harness.cells import Cell, CellSettings, Heads, LinearGelu, ModelSpec
from vit_models import AttentionPlan, ViTConfig, get_config

RUNTIME = "0.3.1b0"
"""The paper's SPU."""

BUDGETS = (0.1, 0.3, 0.5, 0.7)
"""mu, the share of heads on ReLU-Softmax."""


class Plan(TypedDict, total=False):
    """What makes a model of the paper a mix or an MPCViT+, as in a ModelSpec."""

    heads: Heads
    linear_gelu: LinearGelu


@dataclass(frozen=True)
class DataSet:
    """A data set of the paper, and the paper's architecture for it."""

    name: str
    config: str
    classes: int
    fewer_heads: tuple[int, ...]
    """Heads a layer of the models with fewer heads, in the order of the paper's numbers: our reading."""
    overrides: dict[str, int | float] = field(default_factory=dict)
    """Fields of the architecture that are replaced."""

    @property
    def shape(self) -> ViTConfig:
        """The architecture."""
        return get_config(self.config, num_classes=self.classes, **self.overrides)

    @property
    def grid(self) -> tuple[int, int]:
        """Layers, and heads a layer."""
        return self.shape.layers, self.shape.heads

    def model(
        self,
        attention: str,
        gelu: str = "tanh",
        overrides: dict[str, int | float] | None = None,
        **plan: Unpack[Plan],
    ) -> ModelSpec:
        """The data set's model with `attention`."""
        return ModelSpec(
            config=self.config,
            num_classes=self.classes,
            overrides={**self.overrides, **(overrides or {})},
            attention=attention,
            kernels="paper",
            gelu=gelu,
            **plan,
        )

    def mpcvit(self, mu: float, linear_gelu: LinearGelu | None = None) -> ModelSpec:
        """MPCViT at budget `mu`, its ReLU-Softmax heads spread evenly."""
        model = self.model("mix", heads=spread(*self.grid, kept(*self.grid, mu)))
        return model.model_copy(update={"linear_gelu": linear_gelu})

    def mpcvit_plus(self, mu: float, level: Literal["token", "layer"], share: float, fuse: bool) -> ModelSpec:
        """MPCViT+ at budget `mu` with GeLU on `share` of all tokens of all layers, or on `share` of the layers.

        The published plans are lost; a paper that quotes them says 75 %. Which tokens keep GeLU changes no cost.
        """
        layers = self.shape.layers
        units = self.shape.tokens if level == "token" else 1
        rows = spread(layers, units, round(share * layers * units))
        keep = tuple("".join(map(str, row)) for row in rows)
        return self.mpcvit(mu, linear_gelu=LinearGelu(keep=keep, fuse=fuse))


CIFAR10 = DataSet("cifar10", "vit_7_4_32", 10, (1, 2, 3))
"""CIFAR-10 and its architecture."""

CIFAR100 = DataSet("cifar100", "vit_7_4_32", 100, (1, 2, 3))
"""CIFAR-100 and its architecture."""

TINY = DataSet("tiny_imagenet", "vit_9_12_64", 200, (1, 3, 6, 8))
"""Tiny-ImageNet and its architecture."""

TOY = DataSet("toy", "vit_7_4_32", 10, (1, 2, 3), {"layers": 1, "dim": 16, "patch": 16})
"""Not a data set: one layer and five tokens, for cells that only show that an experiment runs."""


def kept(layers: int, heads: int, mu: float) -> int:
    """Heads on at budget `mu`: the int((1 - mu) x all) lowest-ranked of all heads of all layers are off.

    Source: the original's train.py, which truncates. 3, 9, 14, 20 of 28 and 11, 33, 54, 76 of 108.
    """
    return layers * heads - int((1 - mu) * layers * heads)


def spread(layers: int, heads: int, on: int) -> Heads:
    """`on` heads over `layers` as evenly as possible, the first ones of each layer."""
    counts = [on * (i + 1) // layers - on * i // layers for i in range(layers)]
    return tuple(tuple(1 if head < count else 0 for head in range(heads)) for count in counts)


def packed(layers: int, heads: int, on: int) -> Heads:
    """`on` heads in as few layers as hold them, from the first layer on."""
    flat = spread(1, layers * heads, on)[0]
    return tuple(flat[i : i + heads] for i in range(0, layers * heads, heads))


def placed_at_random(layers: int, heads: int, mu: float, seed: int) -> Heads:
    """The plan of a search that ranked the heads at random."""
    plan = AttentionPlan.from_alpha(np.random.default_rng(seed).random((layers, heads)), mu)
    assert plan.attention is not None
    return tuple(tuple(1 if bit else 0 for bit in layer.on) for layer in plan.attention)


@dataclass(frozen=True)
class Labelled:
    """A model and the labels of its cell; the label `attention` is always the model's."""

    model: ModelSpec
    labels: dict[str, str]

    def changed(self, **fields: Any) -> Labelled:
        """The same with other fields of the model."""
        return Labelled(self.model.model_copy(update=fields), self.labels)


Models = dict[str, Labelled]
"""Models by the names of their cells."""


def labelled(model: ModelSpec, **labels: str) -> Labelled:
    """`model` with `labels`."""
    return Labelled(model, labels)


def main_rows(data: DataSet) -> Models:
    """The seven rows of a data set's main latency table, by cell name."""
    return {
        "main-softmax": labelled(data.model("softmax"), dataset=data.name, row="softmax_vit"),
        "main-relu_softmax": labelled(data.model("relu_softmax"), dataset=data.name, row="relu_softmax_vit"),
        "main-scale": labelled(data.model("scale"), dataset=data.name, row="scale_vit"),
        **{
            f"main-mpcvit_{mu}": labelled(data.mpcvit(mu), dataset=data.name, row="mpcvit", mu=str(mu))
            for mu in BUDGETS
        },
    }


def baselines(data: DataSet) -> Models:
    """The other models of the table, each as its own paper or the MPCViT code suggests.

    - MPCFormer: 2Quad attention, and Quad in place of GeLU, as in MPCFormer.
    - THE-X: its estimated reciprocal, and ReLU in place of GeLU; LayerNorm stays.
    - Linformer: keys and values projected to .3, .5, .7 of the tokens.
    - Softmax-Scale: the paper names no share. On each data set its seconds are at .69 to .70 between ScaleAttn and
      Softmax, and 20 of 28 (76 of 108) heads are what a budget of .7 keeps.
    - Fewer heads: `DataSet.fewer_heads` a layer; the slices of qkv and proj of the removed heads do not exist.
    """
    mixed = spread(*data.grid, kept(*data.grid, 0.7))

    def row(name: str, model: ModelSpec, **labels: str) -> Labelled:
        return labelled(model, dataset=data.name, row=name, **labels)

    return {
        "baseline-mpcformer": row("mpcformer", data.model("two_quad", gelu="quad")),
        "baseline-thex": row("thex", data.model("the_x", gelu="relu")),
        **{
            f"baseline-linformer_{ratio}": row("linformer", data.model(f"linformer_{ratio * 100:.0f}"), mu=str(ratio))
            for ratio in BUDGETS[1:]
        },
        "baseline-softmax_scale": row(
            "softmax_scale_heterogeneous_vit", data.model("softmax_scale", heads=mixed), mu="0.7"
        ),
        **{
            f"baseline-fewer_heads_{i}": row(
                f"relu_softmax_vit_fewer_heads_{i}",
                data.model("relu_softmax", overrides={"heads": heads, "head_dim": data.shape.width}),
            )
            for i, heads in enumerate(data.fewer_heads, 1)
        },
    }


def readings(data: DataSet) -> Models:
    """Other readings of rows, where the first one may not be the paper's.

    A model of ScaleAttn alone requires no loop over heads, which selects between two kinds: `batched` has none.
    """
    half = spread(*data.grid, kept(*data.grid, 0.5))
    batched = {"kernels": "plain"}
    read = {
        "mpcformer-c0": ("mpcformer", data.model("two_quad_c0", gelu="quad")),
        "mpcformer-gelu": ("mpcformer", data.model("two_quad")),
        "mpcformer-c0-gelu": ("mpcformer", data.model("two_quad_c0")),
        "thex-gelu": ("thex", data.model("the_x")),
        "softmax_scale-half": ("softmax_scale_heterogeneous_vit", data.model("softmax_scale", heads=half)),
        "scale-linear": ("scale_vit", data.model("scale_linear")),
        "scale-batched": ("scale_vit", data.model("scale").model_copy(update=batched)),
        "scale-linear-batched": ("scale_vit", data.model("scale_linear").model_copy(update=batched)),
    }
    return {
        f"reading-{form}": labelled(model, dataset=data.name, row=row, form=form) for form, (row, model) in read.items()
    }


def cells(experiment: str, models: Models, repeats: int = 3, **more: Unpack[CellSettings]) -> list[Cell]:
    """One cell a model, as the paper measured: on its SPU, over `wan`, without a warm-up.

    The paper timed one inference. Here too nothing is compiled in it: the parties compile before the clock starts.
    """
    settings: CellSettings = {"runtime": RUNTIME, "network": "wan", "warmup": 0, "scale": "paper", **more}
    return [
        Cell(
            experiment=experiment,
            name=name,
            model=each.model,
            repeats=repeats,
            labels={"attention": each.model.attention, **each.labels},
            **settings,
        )
        for name, each in models.items()
    ]


def smoke(experiment: str, models: Models, **more: Unpack[CellSettings]) -> list[Cell]:
    """One cell a model that runs in seconds on one host: one inference of a toy over the loopback device."""
    settings: CellSettings = {"network": "loopback", "scale": "smoke", "timeout_s": 300, **more}
    return cells(experiment, {f"toy-{name}": model for name, model in models.items()}, repeats=1, **settings)
