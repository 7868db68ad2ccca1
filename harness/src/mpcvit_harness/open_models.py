"""The open division's models as cells: tuned kernels on SPU 0.9.5, exact GeLU; and small ones for smoke cells."""

from __future__ import annotations

from typing import Any

from mpcvit_harness.cells import Cell, ModelSpec

HALF = ((1, 1, 0, 0),) * 7
"""mu = 0.5 on CIFAR's ViT: two heads of every layer on ReLU-Softmax, the others on Scale."""

TRAINED = ModelSpec(config="vit_4_4_28", weights="checkpoint:vit_4_4_28", gelu="tanh", kernels="tuned")
"""The small ViT that the main job trains on Fashion-MNIST."""

SMALLEST: dict[str, int | float] = {"layers": 1, "heads": 2, "dim": 16}


def cifar(attention: str, **more: Any) -> ModelSpec:
    """CIFAR's ViT with `attention`, random weights, tuned unless `more` says otherwise."""
    heads = HALF if attention == "mix" else None
    return ModelSpec(
        **{"config": "vit_7_4_32", "attention": attention, "heads": heads, "gelu": "exact", "kernels": "tuned", **more}
    )


def session(attention: str, **more: Any) -> ModelSpec:
    """`cifar` for a session of many inferences: what stays the same in all of them is opened once."""
    return cifar(attention, open_weights_once=True, **more)


def smallest(spec: ModelSpec) -> ModelSpec:
    """`spec` on a model of one layer, whose inference takes a second on loopback."""
    heads = None if spec.heads is None else (spec.heads[0][:2],)
    return spec.model_copy(update={"config": "vit_4_4_28", "overrides": SMALLEST, "heads": heads})


def smoke(experiment: str, name: str, model: ModelSpec, labels: dict[str, str] | None = None, **more: Any) -> Cell:
    """A cell of seconds on loopback, in no table: it only shows that this way to run works."""
    settings: dict[str, Any] = {"repeats": 2, "warmup": 0, "timeout_s": 600, **more}
    shown = {"attention": model.attention, "kernels": model.kernels, **(labels or {})}
    small = smallest(model)
    return Cell(experiment=experiment, name=f"smoke-{name}", model=small, scale="smoke", labels=shown, **settings)
