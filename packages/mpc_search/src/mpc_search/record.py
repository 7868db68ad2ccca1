"""The record of a training run: typed, versioned, and the only source of a reported accuracy."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mpc_search.config import Config
from mpc_search.errors import SearchError

SUFFIX = ".training.json"
"""The end of a training record's file name, which tells it from a record of a private inference."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DataIdentity(_Strict):
    """The images of one split that were used: how many, the SHA-256 of their files, and whether the source's own
    checksum was met (None where it publishes none for this form)."""

    name: str
    split: str
    images: int
    files: dict[str, str]
    published_checksum: bool | None


class Parent(_Strict):
    """A run that this one builds on: its name, and the SHA-256 of its parameters."""

    name: str
    params: str


class ClassReport(_Strict):
    """One class: its test images, and precision, recall and F1 (0 where nothing was said to be of it)."""

    name: str
    images: int
    precision: float
    recall: float
    f1: float


class Score(_Strict):
    """What a model says of labelled images: share that is right, mean cross-entropy, by class, and who was taken for
    whom (`confusion[i][j]`: images of class i that were called j)."""

    images: int
    accuracy: float
    loss: float
    classes: list[ClassReport]
    confusion: list[list[int]]


class PrivateScore(_Strict):
    """The first `images` test images under MPC: right labels, classes as in plaintext, largest logit error.

    `protocol` ref2k is SPU's plaintext in fixed point. `clear` are the images whose two largest plaintext logits are
    more than 0.1 apart, `clear_equal` those of them with the same class as in plaintext.
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


class TrainingRecord(_Strict):
    """One training run, or one evaluation of a trained model.

    `fingerprint` is of the settings and of what the run builds on, by its values; `key` is of the same by how it was
    asked for, and a sweep takes a good record with the same key for done.
    `plan` is the attention plan that was trained with, `alpha` and `beta` (layers, units) what a search ended with.
    `seconds` are of training and evaluating, all parts of a resumed run together; `images_per_s` of training alone.
    """

    schema_version: Literal[1] = 1
    experiment: str
    name: str
    stage: Literal["teacher", "search", "retrain", "evaluate"]
    key: str | None = None
    fingerprint: str | None = None
    status: Literal["ok", "failed"]
    failure: str | None = None
    config: Config
    seed: int
    data: list[DataIdentity]
    model: dict[str, Any]
    plan: dict[str, Any] | None = None
    rule: dict[str, Any] | None = None
    parents: dict[str, Parent] = Field(default_factory=dict)
    costs: dict[str, Any] | None = None
    parameters: int | None = None
    params: str | None = None
    evaluations: list[dict[str, Any]] = Field(default_factory=list)
    test: Score | None = None
    private: list[PrivateScore] = Field(default_factory=list)
    alpha: list[list[float]] | None = None
    beta: list[list[float]] | None = None
    steps: int = 0
    seconds: float = 0.0
    images_per_s: float = 0.0
    machine: dict[str, Any]
    versions: dict[str, str]
    code: dict[str, Any]
    started_at: str

    def save(self, path: str | Path) -> None:
        """Write the record as JSON, whole or not at all."""
        write_whole(Path(path), self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> TrainingRecord:
        """Read a record; raises SearchError where the file is none of this schema."""
        try:
            return cls.model_validate_json(Path(path).read_text())
        except (OSError, ValidationError) as error:
            first = str(error).splitlines()[0]
            raise SearchError(f"{path} is no training record ({first}). Fix: run it again with --force.") from error


def record_json_schema() -> str:
    """The JSON Schema of TrainingRecord, as committed in docs."""
    return json.dumps(TrainingRecord.model_json_schema(), indent=1, sort_keys=True) + "\n"


def canonical_sha256(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path` through a temporary file and a rename, so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


if __name__ == "__main__":
    print(record_json_schema(), end="")
