"""From a cell's model to its Program, its inputs and the expected logits in plaintext."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mpc_search import fashion_mnist, load_checkpoint, plaintext_logits
from mpcvit_harness.cells import Cell, ModelSpec, ProgramSpec
from mpcvit_harness.errors import HarnessError
from spu_bench import NewProgram, Program, load_program
from spu_bench.record import TrainingOrigin
from vit_models import AttentionPlan, Calibration, Model, export_program, get_config, get_kernels, init
from vit_models import Program as MadeProgram
from vit_models.types import Params

CALIBRATION_IMAGES = 128


@dataclass(frozen=True)
class Prepared:
    """What a run requires: the Program, the training of its weights; the file of images and their plaintext logits."""

    program: Program
    training: TrainingOrigin | None = None
    inputs: Path | None = None
    expected: npt.NDArray[np.float32] | None = None


def prepare(cell: Cell, directory: Path, checkpoints: Path, sweeps: Path | None = None) -> Prepared:
    """Export the cell's model into `directory`, with its images (the first of Fashion-MNIST's test images).

    Raises HarnessError, SearchError, SpuBenchError or ValueError where there is no such model, or it has no Program.
    """
    spec = cell.model
    if isinstance(spec, ProgramSpec):
        return Prepared(load_program(_made(spec).save(directory / "program")))
    model, params, training = _model(spec, {"checkpoint": checkpoints, "sweep": sweeps})
    exported = export_program(
        model.config,
        params,
        plan=model.plan,
        attention=model.attention,
        kernels=spec.kernels,
        gelu=model.gelu,
        batch=spec.batch,
        fuse=spec.linear_gelu.fuse if spec.linear_gelu else False,
        calibration=_calibration(model, params, spec),
        weights=spec.weights_held,
        without=spec.without,
    )
    program = load_program(exported.save(directory / "program"))
    if not cell.images:
        return Prepared(program, training)
    images = fashion_mnist("test").images[: cell.images]
    inputs = directory / "images.npz"
    np.savez(inputs, images=images)
    return Prepared(program, training, inputs, plaintext_logits(model, params, images))


def _made(spec: ProgramSpec) -> MadeProgram | NewProgram:
    """Call the function that `spec` names; HarnessError where there is none, or where it returns something else."""
    module, _, name = spec.function.partition(":")
    try:
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise HarnessError(
            f"There is no {spec.function} here: {error}", "name a module that can be imported, and its function."
        ) from error
    made = function(**spec.arguments) if callable(function) else function
    if not isinstance(made, (MadeProgram, NewProgram)):
        raise HarnessError(
            f"{spec.function} returned a {type(made).__name__}",
            "return what spu_bench.program_from_function or Model.export makes.",
        )
    return made


def _model(spec: ModelSpec, trained: dict[str, Path | None]) -> tuple[Model, Params, TrainingOrigin | None]:
    kind, _, which = spec.weights.partition(":")
    if (folder := trained.get(kind)) is not None:
        model, params, about = load_checkpoint(folder / which)
        known = about.model_dump(mode="json", include=set(TrainingOrigin.model_fields), exclude_none=True)
        return model, params, TrainingOrigin.model_validate(known)
    if kind != "random":
        raise HarnessError(
            f"There are no weights {spec.weights!r}", "use random:SEED, checkpoint:NAME or sweep:SWEEP/RUN."
        )
    config = get_config(spec.config, num_classes=spec.num_classes, **spec.overrides)
    gelu = spec.gelu or "exact"
    return Model(config, spec.attention, _plan(spec), gelu), init(config, int(which), attention=spec.attention), None


def _calibration(model: Model, params: Params, spec: ModelSpec) -> Calibration | None:
    """The calibration that tuned kernels require: from training images, or from noise where weights are random."""
    if get_kernels(spec.kernels).adapt is None:
        return None
    config = model.config
    shape = (CALIBRATION_IMAGES, config.image_size, config.image_size, config.channels)
    if not spec.weights.startswith("random:"):
        images = fashion_mnist("train").images[:CALIBRATION_IMAGES]
    else:
        images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return model.calibrate(params, images)


def _plan(spec: ModelSpec) -> AttentionPlan | None:
    plan = None if spec.heads is None else AttentionPlan.from_heads(spec.heads)
    if spec.linear_gelu is None:
        return plan
    keep = [[int(bit) for bit in layer] for layer in spec.linear_gelu.keep]
    whole_layers = all(len(layer) == 1 for layer in keep)
    return (plan or AttentionPlan()).with_gelu([layer[0] for layer in keep] if whole_layers else keep)
