"""What several tests take from the repository: its experiments as modules, which are no package, and a record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpcvit_harness import load_experiments

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "harness" / "experiments"
ANY_RECORD = next((ROOT / "results").glob("*/links/*wan-netns*.json"))

PutRecord = Callable[..., None]
"""What the fixture `put` gives."""

PutTraining = Callable[..., None]
"""What the fixture `put_training` gives."""


def cells_of(experiment: str) -> list[Any]:
    """The cells of an experiment by its name, of either kind."""
    return load_experiments.cells_of(EXPERIMENTS / f"{experiment}.py")
