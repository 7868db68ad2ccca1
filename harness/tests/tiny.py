"""A tiny experiment for the tests: a model of one layer, cells of seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mpc_search import CheckpointOrigin, save_checkpoint
from mpcvit_harness.cell_record import CellRecord
from vit_models import AttentionPlan, Model, ViTConfig, init

EXPERIMENT = """
from mpcvit_harness.cells import Cell, ModelSpec
TINY = ModelSpec(config="tiny", weights="checkpoint:tiny")
CELLS = [
    Cell(experiment="tiny", name="mix", model=TINY, repeats=2, warmup=0),
    Cell(experiment="tiny", name="mix", model=TINY, protocol="cheetah", warmup=0, scale="reduced"),
]
def test_runs(cell, record):
    assert record.accuracy.max_abs_error < 0.05
def test_runs_again(cell, record):
    assert len(record.samples_s) == cell.repeats
"""

THREE = """
from mpcvit_harness.cells import Cell, ModelSpec
TINY = ModelSpec(config="tiny", weights="checkpoint:tiny")
CELLS = [Cell(experiment="tiny", name=f"mix-{n}", model=TINY, repeats=n, warmup=0) for n in (1, 2, 3)]
def test_runs(cell, record):
    assert len(record.samples_s) == cell.repeats
"""

MISSING = """
from mpcvit_harness.cells import Cell, ModelSpec
TINY = ModelSpec(config="tiny", weights="checkpoint:tiny")
CELLS = [
    Cell(experiment="tiny", name=scale, model=TINY, runtime="crypten-0.4.1", protocol="beaver", scale=scale)
    for scale in ("smoke", "reduced")
]
def test_runs(cell, record):
    assert record.samples_s
"""

SWALLOWING = """
import os, pathlib, signal
class Ends:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(9): pass  # Python runs the handler here
def test_first():
    Ends()
def test_second():
    pathlib.Path("second").touch()
"""

OPTIONS = (
    *("--executor", "loopback", "--results", "results", "--machine", "here", "--checkpoints", "checkpoints"),
    *("-p", "no:cacheprovider"),
)


def save_tiny(path: Path, seed: int) -> None:
    """The checkpoint of the tiny model below `path`, its weights drawn from `seed`."""
    config = ViTConfig(name="tiny", image_size=8, channels=1, patch=4, layers=1, heads=2, dim=8, num_classes=3)
    model = Model(config, "mix", AttentionPlan.from_heads([[1, 0]]), "tanh")
    origin = CheckpointOrigin(test_accuracy=0.5, test_images=12)
    save_checkpoint(path / "checkpoints" / "tiny", model, init(config, seed, attention="mix"), origin)


def measure(workplace: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """One session of pytest over the experiment."""
    return workplace.runpytest_subprocess(*OPTIONS, *arguments)


def stored(workplace: pytest.Pytester) -> list[Path]:
    """The files of the stored records."""
    return sorted((workplace.path / "results").glob("*/*/*.json"))


def session(workplace: pytest.Pytester, *arguments: str) -> subprocess.Popen[str]:
    """A session of pytest in the background."""
    command = [sys.executable, "-m", "pytest", *OPTIONS, *arguments]
    return subprocess.Popen(command, cwd=workplace.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def listed(workplace: pytest.Pytester, *arguments: str) -> list[dict[str, Any]]:
    """The cells that `--list-cells` prints as JSON."""
    result = measure(workplace, "--list-cells", *arguments)
    assert result.ret == 0
    cells: list[dict[str, Any]] = json.loads(result.stdout.str())
    return cells


def content(path: Path) -> tuple[str, list[int], int]:
    """The part of a record that is the same in two measurements of one cell."""
    record = CellRecord.load(path)
    assert record.status == "ok"
    return record.cell_fingerprint, record.sent_bytes, len(record.samples_s)
