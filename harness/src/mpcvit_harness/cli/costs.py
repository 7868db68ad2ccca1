"""`mpcvit-report costs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mpcvit_harness.cells import ModelSpec
from mpcvit_harness.errors import HarnessError
from mpcvit_harness.plan_costs import cost_table
from spu_bench.record import write_whole
from vit_models import ModelError


def costs_command(
    config: Annotated[str, typer.Option(help="The model's architecture.")] = "vit_7_4_32",
    attention: Annotated[str, typer.Option(help="A mix: the attention of heads that are on, and off.")] = "mix",
    kernels: Annotated[str, typer.Option(help="The kernel set.")] = "plain",
    gelu: Annotated[str, typer.Option(help="The model's activation.")] = "tanh",
    num_classes: Annotated[int, typer.Option(help="Classes of the model.")] = 10,
    override: Annotated[
        list[str] | None, typer.Option(help="Another value of one field of the architecture, as patch=7. Repeatable.")
    ] = None,
    protocol: Annotated[str, typer.Option(help="semi2k or cheetah.")] = "semi2k",
    network: Annotated[str, typer.Option(help="loopback, lan, wan, or a TOML file.")] = "wan",
    machine_costs: Annotated[
        Path | None, typer.Option(help="The machine's costs, from spu-bench profile-machine (default: the user's own).")
    ] = None,
    out: Annotated[Path, typer.Option(help="The cost table's file.")] = Path("costs.json"),
) -> None:
    """Write the predicted latency of every plan of a mix: the cost table that mpc-search takes. No plan is run.

    Example: mpcvit-report costs --config vit_4_4_28 --override patch=7 --network wan --out costs.json
    """
    try:
        model = ModelSpec(
            config=config,
            attention=attention,
            kernels=kernels,
            gelu=gelu,
            num_classes=num_classes,
            overrides=_numbers(override or []),
        )
        costs = cost_table(model, protocol, network, machine_costs=machine_costs)
    except HarnessError:
        raise
    except ModelError as error:
        raise HarnessError(error.problem, error.fix) from None
    except ValueError as error:
        raise HarnessError(str(error), "see mpcvit-report costs --help") from None
    write_whole(out, json.dumps(costs, indent=1) + "\n")
    print(f"The cost table is {out}")


def _numbers(settings: list[str]) -> dict[str, int | float]:
    """{name: number} of settings as "patch=7"."""
    found: dict[str, int | float] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            found[name] = int(value) if value.isdecimal() else float(value)
        except ValueError:
            raise HarnessError(f"--override {setting} is not NAME=NUMBER", "write it as --override patch=7") from None
    return found
