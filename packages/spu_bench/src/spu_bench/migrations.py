"""Records of older schemas, brought to the current one a version at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spu_bench.samples import summarize

CURRENT = 3

Raw = dict[str, Any]
"""A record's JSON value, of any schema."""


def migrate(raw: Raw) -> Raw:
    """A record's JSON value in the current schema; ValueError where no step leads there from its own.

    A value without a version is a record that is being made.
    """
    version = raw.get("schema_version", CURRENT)
    while version != CURRENT:
        if type(version) is not int or version not in STEPS:
            raise ValueError(f"a record of schema {version!r:.40}, where this code knows {min(STEPS)} to {CURRENT}")
        try:
            raw = {**STEPS[version](raw), "schema_version": version + 1}
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"no record of schema {version}: {type(error).__name__} {error}") from error
        version += 1
    return raw


def _from_1(raw: Raw) -> Raw:
    """Schema 2 has the median's interval from the bootstrap, where 1 had order statistics.

    What it has besides (`watch`, `overhead_s`) was not observed before, and stays away.
    """
    samples = raw.get("samples_s")
    return {**raw, "statistics": summarize(samples).model_dump(mode="json")} if samples else raw


def _from_2(raw: Raw) -> Raw:
    """Schema 3 has the correctness beside the status, and types for what was any JSON.

    All records of schema 2 have measurement version 1. Logits are checked by the bound that 3 states by default.
    """
    error_bound = 0.5
    accuracy = raw.get("accuracy")
    right = accuracy is None or accuracy["max_abs_error"] <= error_bound
    status, whole = raw["status"], raw["status"] == "ok"
    return {
        **raw,
        "measurement_version": 1,
        "error_bound": error_bound,
        "correctness": ("right" if right else "wrong") if whole and accuracy else "not checked",
        "status": "wrong" if whole and not right else status,
        "program": _program_of_3(raw.get("program")),
        "executor": _executor_of_3(raw.get("executor")),
        "code": _code_of_3(raw.get("code") or {}),
    }


def _program_of_3(program: Raw | None) -> Raw | None:
    """`made_by["training"]` has become `training`, which is not of the Program but of who ran it."""
    if program is None:
        return None
    made_by = dict(program["made_by"])
    return {**program, "training": made_by.pop("training", None), "made_by": made_by}


def _executor_of_3(executor: Raw | None) -> Raw | None:
    """`executor` has become `name`; what is of a container's image stands together."""
    if not executor:
        return None
    named = {"name" if key == "executor" else key: value for key, value in executor.items()}
    if "hosts" in named:
        named["hosts"] = [host["machine"] for host in named["hosts"]]
    if "image_id" in named:
        image = {key: named.pop(f"image_{key}") for key in ("id", "digests", "labels")}
        named["image"] = {"engine": named.pop("engine"), "name": named.pop("image"), **image}
    return named


def _code_of_3(code: Raw) -> Raw:
    """`counted` has become `recounted_by`."""
    return {"recounted_by" if key == "counted" else key: value for key, value in code.items()}


STEPS: dict[int, Callable[[Raw], Raw]] = {1: _from_1, 2: _from_2}
"""The step from each older version to the next."""
