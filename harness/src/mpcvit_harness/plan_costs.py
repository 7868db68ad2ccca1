"""The cost table of a model for `mpc-search`: predicted seconds of a layer by the number of its heads that are on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal, TypedDict

from mpcvit_harness.cells import Cell, ModelSpec
from mpcvit_harness.prepare import prepare
from spu_bench import Network, Options, predict
from vit_models import get_config


class CostTable(TypedDict):
    """Predicted seconds as JSON values: `layers[l][k]` with k heads of layer l on, and `rest` for everything else."""

    schema: Literal[1]
    protocol: str
    network: str
    kernels: str
    unit: Literal["seconds"]
    layers: list[list[float]]
    rest: float


def cost_table(
    model: ModelSpec,
    protocol: str = "semi2k",
    network: str | Network = "wan",
    *,
    options: Options | None = None,
    machine_costs: Path | None = None,
) -> CostTable:
    """The predicted seconds of every plan of `model` over `network`.

    `model` is a mix; its own plan does not matter. A plan takes the sum of `rest` and of its layers, since SPU runs a
    Program step by step. The Programs with 0, 1, ..., all heads on in every layer are exported and predicted; none is
    run, except for kinds of steps whose costs are not known yet. Layers are equal, and what all plans have in common is
    in `rest`. Raises ValueError where the model is not a mix, SpuBenchError as `predict` does.
    """
    config = get_config(model.config, num_classes=model.num_classes, **model.overrides)
    asked = network if isinstance(network, Network) else Network.load(network)
    seconds = []
    for on in range(config.heads + 1):
        heads = ((*(1,) * on, *(0,) * (config.heads - on)),) * config.layers
        spec = ModelSpec.model_validate({**model.model_dump(), "heads": heads})
        with tempfile.TemporaryDirectory(prefix="mpcvit-costs-") as scratch:
            cell = Cell(experiment="costs", name=f"{on}-on", model=spec)
            program = prepare(cell, Path(scratch), Path("unused")).program
            found = predict(program, protocol, asked, options=options, machine_costs=machine_costs)
        seconds.append(found.seconds)
    rest = min(seconds)
    layer = [(each - rest) / config.layers for each in seconds]
    return {
        "schema": 1,
        "protocol": protocol,
        "network": asked.name,
        "kernels": model.kernels,
        "unit": "seconds",
        "layers": [layer] * config.layers,
        "rest": rest,
    }
