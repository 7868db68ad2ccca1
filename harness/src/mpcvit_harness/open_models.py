"""The open division's models as cells: kernels `tuned_fxp` on SPU 0.9.5, exact GeLU; and small ones for smoke cells."""

from __future__ import annotations

from typing import Literal, TypedDict, Unpack

from mpcvit_harness.cells import Cell, CellSettings, Heads, ModelSpec

HALF: Heads = ((1, 1, 0, 0),) * 7
"""mu = 0.5 on CIFAR's ViT: two heads of every layer on ReLU-Softmax, the others on Scale."""

TRAINED = ModelSpec(config="vit_4_4_28", weights="checkpoint:vit_4_4_28", gelu="tanh", kernels="tuned_fxp")
"""The small ViT that the main job trains on Fashion-MNIST."""

SMALLEST: dict[str, int | float] = {"layers": 1, "heads": 2, "dim": 16}
"""Overrides that make a model of one layer, for smoke cells."""


class Export(TypedDict, total=False):
    """Fields of a ModelSpec in which cells of the open division differ."""

    config: str
    num_classes: int
    kernels: str
    gelu: str
    batch: int
    weights_held: Literal["server", "public"]
    without: str


def cifar(attention: str, **export: Unpack[Export]) -> ModelSpec:
    """CIFAR's ViT with `attention`, random weights, exact GeLU, kernels `tuned_fxp` unless `export` says otherwise."""
    heads = HALF if attention == "mix" else None
    chosen: Export = {"config": "vit_7_4_32", "gelu": "exact", "kernels": "tuned_fxp", **export}
    return ModelSpec(attention=attention, heads=heads, **chosen)


def smallest(spec: ModelSpec) -> ModelSpec:
    """`spec` on a model of one layer, whose inference takes a second on loopback."""
    heads = None if spec.heads is None else (spec.heads[0][:2],)
    return spec.model_copy(update={"config": "vit_4_4_28", "overrides": SMALLEST, "heads": heads})


def smoke(
    experiment: str,
    name: str,
    model: ModelSpec,
    labels: dict[str, str] | None = None,
    repeats: int = 2,
    **more: Unpack[CellSettings],
) -> Cell:
    """A cell of seconds on loopback, in no table: it only shows that this way to run works."""
    settings: CellSettings = {"warmup": 0, "timeout_s": 600, "scale": "smoke", **more}
    shown = {"attention": model.attention, "kernels": model.kernels, **(labels or {})}
    return Cell(
        experiment=experiment,
        name=f"smoke-{name}",
        model=smallest(model),
        repeats=repeats,
        labels=shown,
        **settings,
    )
