"""The base of every pydantic model in this package."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

Settings = dict[str, JsonValue]
"""Values by name, as a TOML or JSON file has them."""


class StrictModel(BaseModel):
    """A frozen value that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


def first_problem(error: ValidationError) -> str:
    """The first wrong field of a validation error, and what is wrong with it."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
