"""Older forms of a training record's JSON, brought to the present one."""

from __future__ import annotations

from typing import Any


def migrate(record: dict[str, Any]) -> dict[str, Any]:
    """The content of a training record of any schema in the form of the newest. The argument is not changed.

    From schema 1 to 2: `model` holds config, attention, plan and gelu apart, and `plan` is part of it; `rule` is called
    `budget`; `failure` has a reason, a problem and a fix.
    """
    if record.get("schema_version") != 1:
        return record
    new = {**record, "schema_version": 2}
    config, plan, new["budget"] = dict(new.pop("model")), new.pop("plan", None), new.pop("rule", None)
    new["model"] = None
    if config:
        attention, gelu = config.pop("attention"), config.pop("gelu")
        new["model"] = {"config": config, "attention": attention, "plan": plan, "gelu": gelu}
    if isinstance(why := new.get("failure"), str):
        problem, _, fix = why.partition(" Fix: ")
        new["failure"] = {"reason": "failed", "problem": problem, "fix": fix}
    return new
