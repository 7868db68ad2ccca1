"""The cost table: predicted seconds of a layer for every number of its ReLU-Softmax heads, as a JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, ValidationError, model_validator

from mpc_search.errors import SearchError
from mpc_search.strict import StrictModel, first_problem
from vit_models import AttentionPlan, ViTConfig


class CostTable(StrictModel):
    """Predicted seconds of a model's attention under MPC, for one protocol, network and kernel set.

    `layers[l][k]` is the cost of layer l when k of its H heads are ReLU-Softmax, k = 0..H. `rest` is the cost of
    everything else. With batched heads the cost is a step (k = 1 costs as much as k = H); head by head it is a line.
    """

    model_config = ConfigDict(populate_by_name=True)

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
                f"The cost table has {len(self.layers)} layers of {self.heads} heads, but {config.name} has "
                f"{config.layers} layers of {config.heads} heads.",
                "make a table for this model with `mpcvit-report costs`.",
            )

    def seconds(self, plan: AttentionPlan) -> float:
        """Predicted seconds of a model with `plan`. In a plan by layers, all heads of a layer are alike.

        Raises SearchError for a plan by rows, which the table cannot price, and for a plan of another shape.
        """
        total = self.rest
        if plan.attention is None or len(plan.attention) != len(self.layers):
            raise SearchError("The plan and the cost table have different layers.", "make both for the same model.")
        for choice, costs in zip(plan.attention, self.layers):
            if choice.level == "row" or (choice.level == "head" and len(choice.on) != self.heads):
                raise SearchError("The cost table prices heads and layers only.", "use a plan by heads or layers.")
            total += costs[sum(choice.on) if choice.level == "head" else self.heads * choice.on[0]]
        return total

    @classmethod
    def load(cls, path: str | Path) -> CostTable:
        """Read a table. Raises SearchError when the file is missing or is not a table of this schema."""
        try:
            return cls.model_validate_json(Path(path).read_text())
        except OSError as error:
            raise SearchError(
                f"Cannot read the cost table {path} ({error.strerror}).", "write one with `mpcvit-report costs`."
            ) from error
        except ValidationError as error:
            raise SearchError(
                f"{path} is not a cost table: {first_problem(error)}.", "write one with `mpcvit-report costs`."
            ) from error

    def save(self, path: str | Path) -> None:
        """Write the table as JSON."""
        Path(path).write_text(self.model_dump_json(indent=1, by_alias=True) + "\n")
