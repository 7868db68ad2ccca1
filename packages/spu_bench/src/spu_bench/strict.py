"""The base of the models that are read from and written to JSON files."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A model that refuses unknown keys, and whose infinite or undefined numbers survive JSON."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")
