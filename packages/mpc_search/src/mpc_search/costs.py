"""The cost table: seconds of a layer for every number of ReLU-Softmax heads in it, as a JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, ValidationError, model_validator

from mpc_search.errors import SearchError
from vit_models import AttentionPlan, ViTConfig


class CostTable(BaseModel):
    """What a model's attention costs under MPC, for one protocol, network and set of kernels.

    `layers[l][k]` is the cost of layer l with k of its H heads ReLU-Softmax, k = 0..H; `rest` that of all else. With
    batched heads a layer is a step (k = 1 costs as much as k = H), head by head a straight line.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    protocol: str
    network: str
    kernels: str
    unit: Literal["seconds"] = "seconds"
    layers: tuple[tuple[NonNegativeFloat, ...], ...] = Field(min_length=1)
    rest: NonNegativeFloat = 0.0

    @model_validator(mode="after")
    def _rectangular(self) -> CostTable:
        if len({len(layer) for layer in self.layers}) != 1 or len(self.layers[0]) < 2:
            raise ValueError("every layer needs the same number of costs, for 0 to H heads")
        return self

    @property
    def heads(self) -> int:
        """Heads of a layer."""
        return len(self.layers[0]) - 1

    def check(self, config: ViTConfig) -> None:
        """Raise SearchError unless the table is for a model of this shape."""
        if (len(self.layers), self.heads) != (config.layers, config.heads):
            raise SearchError(
                f"The cost table has {len(self.layers)} layers of {self.heads} heads, {config.name} has "
                f"{config.layers} of {config.heads}. Fix: make the table for this model."
            )

    def seconds(self, plan: AttentionPlan) -> float:
        """What `plan` costs in all; a plan by layers has all heads of a layer one way.

        Raises SearchError for a plan by rows, whose rows a table of heads cannot price, or for one of other shape.
        """
        total = self.rest
        if plan.attention is None or len(plan.attention) != len(self.layers):
            raise SearchError("The plan does not have the layers of the cost table. Fix: make them for one model.")
        for choice, costs in zip(plan.attention, self.layers):
            if choice.level == "row" or (choice.level == "head" and len(choice.on) != self.heads):
                raise SearchError("The cost table prices heads and layers. Fix: use a plan by heads or layers.")
            total += costs[sum(choice.on) if choice.level == "head" else self.heads * choice.on[0]]
        return total

    @classmethod
    def load(cls, path: str | Path) -> CostTable:
        """Read a table; raises SearchError where the file is missing or no table of this schema."""
        try:
            return cls.model_validate_json(Path(path).read_text())
        except OSError as error:
            raise SearchError(
                f"There is no cost table {path} ({error.strerror}). Fix: write one with `mpcvit-report costs`."
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise SearchError(f"{path} is no cost table: {where} {first['msg']}. Fix: make it again.") from error

    def save(self, path: str | Path) -> None:
        """Write the table as JSON."""
        Path(path).write_text(self.model_dump_json(indent=1, by_alias=True) + "\n")
