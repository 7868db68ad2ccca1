"""The record of a training run: typed, versioned, and the only source of a reported accuracy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer, PlainValidator, ValidationError, WithJsonSchema, model_validator

from mpc_search.budgets import Level, Rule
from mpc_search.cost_table import CostTable
from mpc_search.errors import Reason, SearchError, first_line
from mpc_search.files import write_atomically
from mpc_search.migrations import migrate
from mpc_search.provenance import Code, Machine
from mpc_search.run_config import RunConfig
from mpc_search.strict import StrictModel, first_problem
from vit_models import AttentionPlan, Model

SUFFIX = ".training.json"
"""The end of a training record's file name. It tells it from a record of a private inference."""


class DataIdentity(StrictModel):
    """The images of one split: how many, and the SHA-256 of each of their files.

    `published_checksum` says if the files have the checksum that their source publishes; None if it publishes none.
    """

    name: str
    split: str
    images: int
    files: dict[str, str]
    published_checksum: bool | None


class Parent(StrictModel):
    """A run that this run builds on: its name, and the SHA-256 of its parameters."""

    name: str
    params: str


class PlanBudget(StrictModel):
    """How a plan was made from searched alphas.

    `rule` "seconds" is the best plan within `limit` predicted seconds; the other rules keep the share `mu` of all units
    of `level`. `predicted_seconds` are those of the plan by the cost table, `gelu_share` the share of betas kept.
    """

    level: Level
    rule: Rule | Literal["seconds"]
    mu: float | None = None
    limit: float | None = None
    predicted_seconds: float | None = None
    gelu_share: float | None = None


class EpochEvaluation(StrictModel):
    """The held-out images after an epoch: accuracy, mean cross-entropy; alpha and beta (layers, units) of a search."""

    epoch: int
    accuracy: float
    loss: float
    alpha: list[list[float]] | None = None
    beta: list[list[float]] | None = None


class ClassReport(StrictModel):
    """One class: its number of test images, precision, recall and F1 (0 for a class that was never predicted)."""

    name: str
    images: int
    precision: float
    recall: float
    f1: float


class Score(StrictModel):
    """A model's predictions for labelled images: accuracy, mean cross-entropy, both by class, and the confusions.

    `confusion[i][j]` is the number of images of class i that were predicted to be of class j.
    """

    images: int
    accuracy: float
    loss: float
    classes: list[ClassReport]
    confusion: list[list[int]]


class PrivateScore(StrictModel):
    """The first `images` test images under MPC: accuracy, agreement with plaintext, and the largest logit error.

    `protocol` "ref2k" is SPU's plaintext in fixed point. `same_class` images have the same class as in plaintext.
    `clear` images have a margin of more than 0.1 between their two largest plaintext logits; `clear_equal` of them have
    the same class as in plaintext.
    """

    protocol: str
    kernels: str
    images: int
    accuracy: float
    plain_accuracy: float
    same_class: int
    clear: int
    clear_equal: int
    max_logit_error: float


class Failure(StrictModel):
    """Why a run failed: a `Reason` of mpc_search.errors, the problem, and what to do about it."""

    reason: Reason
    problem: str
    fix: str

    @staticmethod
    def of(error: SearchError) -> Failure:
        """The failure that `error` describes."""
        return Failure(reason=error.reason, problem=error.problem, fix=error.fix)

    def __str__(self) -> str:
        return f"{self.problem} Fix: {self.fix}"


def _model(value: Any) -> Model:
    return value if isinstance(value, Model) else Model.from_dict(value)


_MODEL_SCHEMA = {
    "type": "object",
    "properties": {
        "config": {"type": "object"},
        "attention": {"type": "string"},
        "plan": {"anyOf": [{"type": "object"}, {"type": "null"}]},
        "gelu": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["config", "attention", "plan", "gelu"],
}

ModelValue = Annotated[
    Model, PlainValidator(_model), PlainSerializer(lambda model: model.to_dict()), WithJsonSchema(_MODEL_SCHEMA)
]
"""A `vit_models.Model` in a record, in the form of its `to_dict`."""


class TrainingRecord(StrictModel):
    """One training run, or one evaluation of a trained model.

    `fingerprint` is of all values that decide the result. `key` is of the run as a sweep lists it: a sweep skips a run
    that has a good record with its key. `model` is None for a run that failed or only evaluated. `parents` are the runs
    that it builds on, by their role. `parameters` is how many numbers the model has, and `params` their SHA-256.
    `alpha` and `beta` (layers, units) are the result of a search. `seconds` are of training and evaluating, over all
    parts of a resumed run; `images_per_s` is the speed of training alone.
    """

    schema_version: Literal[2] = 2
    experiment: str
    name: str
    stage: Literal["teacher", "search", "retrain", "evaluate"]
    key: str | None = None
    fingerprint: str | None = None
    status: Literal["ok", "failed"]
    failure: Failure | None = None
    config: RunConfig
    seed: int
    data: list[DataIdentity]
    model: ModelValue | None = None
    budget: PlanBudget | None = None
    parents: dict[str, Parent] = Field(default_factory=dict)
    costs: CostTable | None = None
    parameters: int | None = None
    params: str | None = None
    evaluations: list[EpochEvaluation] = Field(default_factory=list)
    test: Score | None = None
    private: list[PrivateScore] = Field(default_factory=list)
    alpha: list[list[float]] | None = None
    beta: list[list[float]] | None = None
    steps: int = 0
    seconds: float = 0.0
    images_per_s: float = 0.0
    machine: Machine
    versions: dict[str, str]
    code: Code
    started_at: str

    @model_validator(mode="before")
    @classmethod
    def _migrated(cls, value: Any) -> Any:
        return migrate(value) if isinstance(value, dict) else value

    @property
    def plan(self) -> AttentionPlan | None:
        """The plan of the model that was trained, if it has one."""
        return None if self.model is None else self.model.plan

    def save(self, path: str | Path) -> None:
        """Write the record as JSON, in one step."""
        write_atomically(Path(path), self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> TrainingRecord:
        """Read a record of this schema or an older one. Raises SearchError when the file is not one."""
        try:
            return cls.model_validate_json(Path(path).read_text())
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            problem = first_problem(error) if isinstance(error, ValidationError) else first_line(error)
            raise SearchError(f"{path} is not a training record ({problem}).", "run it again with --force.") from error


def record_json_schema() -> str:
    """The JSON Schema of TrainingRecord, as committed in docs."""
    return json.dumps(TrainingRecord.model_json_schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(record_json_schema(), end="")
