"""Training records in the store, and which measured seconds are those of the model that was trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpc_search.record import SUFFIX
from mpcvit_harness.cells import canonical_sha256
from mpcvit_harness.store import LOCAL
from mpcvit_harness.stored import StoredRun, StoredTraining

_SHAPE = (
    *("image_size", "channels", "patch", "layers", "heads", "dim", "mlp_ratio", "num_classes"),
    *("head_dim", "conv", "pool"),
)
"""The fields of a configuration that a latency depends on."""


@dataclass(frozen=True)
class TrainingRow(StoredTraining):
    """A training record of any status, and its file relative to the root of the store."""

    @property
    def page(self) -> Path:
        """Its page in the report."""
        return Path("trainings") / self.file.parent / f"{self.file.name.removesuffix(SUFFIX)}.html"

    @property
    def counts(self) -> bool:
        """Whether claims and figures use it: a valid run of committed code, not in the folder of local runs."""
        valid = self.record.status == "ok" and self.record.code.dirty is False
        return valid and self.file.parts[0] != LOCAL


def seconds_of(trained: TrainingRow, records: Iterable[StoredRun]) -> list[StoredRun]:
    """The records of private inferences with the same architecture and plan: the weights change no latency."""
    model = trained.record.model
    if model is None:
        return []
    plan = None if model.plan is None else model.plan.to_dict()
    wanted = _architecture(model.config.to_dict(), model.attention, model.gelu, plan)
    found = []
    for m in records:
        made_by = m.record.program.made_by if m.record.program else None
        if made_by is None or made_by.config is None:
            continue  # not a model of vit_models
        if _architecture(made_by.config, made_by.attention, made_by.gelu, made_by.plan) == wanted:
            found.append(m)
    return found


def _architecture(config: dict[str, Any], attention: str | None, gelu: str | None, plan: dict[str, Any] | None) -> str:
    shape = {name: config.get(name) for name in _SHAPE}
    return canonical_sha256([shape, attention, gelu, plan])
