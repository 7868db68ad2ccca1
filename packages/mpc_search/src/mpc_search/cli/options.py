"""Options that several commands share, declared once."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Optional, get_type_hints

import typer

from mpc_search.run_config import Scale, parse_overrides
from mpc_search.strict import Settings

DataFolder = Annotated[
    Optional[Path], typer.Option("--data", help="Folder of the data set, if it is not in its usual place.")
]
CostsFile = Annotated[Optional[Path], typer.Option(help="Cost table (JSON) of the model, protocol and network.")]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of every command that trains."""

    data: DataFolder = None
    get_data: Annotated[bool, typer.Option("--get-data", help="Install Debian's package of the data if needed.")] = (
        False
    )
    settings: Annotated[
        Optional[list[str]], typer.Option("--set", help="A setting, like train.epochs=3. Can be repeated.")
    ] = None
    force: Annotated[bool, typer.Option(help="Start again instead of resuming.")] = False

    def overrides(self) -> Settings:
        """The settings that these options change, by dotted names."""
        found = parse_overrides(self.settings or [])
        return found if self.data is None else {**found, "data.folder": str(self.data)}


@dataclass(frozen=True, kw_only=True)
class StageOptions(RunOptions):
    """Options of teacher, search and retrain."""

    out: Annotated[Path, typer.Option(help="Directory of the checkpoint. OUT.run gets the state and metrics.")]
    config: Annotated[str, typer.Option(help="cifar10, cifar100, tiny_imagenet, ..., or a TOML file.")] = (
        "fashion_mnist"
    )
    scale: Annotated[Scale, typer.Option(help="Size of the run.")] = "smoke"
    model: Annotated[Optional[str], typer.Option(help="Model of vit_models, instead of the config's.")] = None
    gelu: Annotated[
        Optional[str], typer.Option(help="exact, tanh, quad, relu or identity, instead of the config's activation.")
    ] = None
    seed: Annotated[Optional[int], typer.Option(help="Seed of all random numbers.")] = None
    results: Annotated[
        Optional[Path], typer.Option(help="Write a record to RESULTS/<machine>/single, where RESULTS is the store.")
    ] = None
    processes: Annotated[
        Optional[str], typer.Option(help="HOST:PORT/I/N: this is process I of N, which connect to that address.")
    ] = None

    def overrides(self) -> Settings:
        """The settings that these options change, by dotted names."""
        given = {"model.config": self.model, "model.gelu": self.gelu, "train.seed": self.seed}
        return {**super().overrides(), **{name: value for name, value in given.items() if value is not None}}


def shared_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose first parameter is a dataclass of options gets each field of it as an option of its own."""
    hints = get_type_hints(command, include_extras=True)
    first, *own = inspect.signature(command).parameters.values()
    group = hints[first.name]
    group_hints = get_type_hints(group, include_extras=True)
    parameters = [parameter.replace(annotation=hints[parameter.name]) for parameter in own]
    for field in dataclasses.fields(group):
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        kind = inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter(field.name, kind, default=default, annotation=group_hints[field.name]))

    @functools.wraps(command)
    def with_options(**values: Any) -> None:
        options = group(**{field.name: values.pop(field.name) for field in dataclasses.fields(group)})
        command(options, **values)

    signature = inspect.Signature([parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters])
    vars(with_options)["__signature__"] = signature
    with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return with_options
