"""Small image sets with classes that can be learned, and files in the formats of real data sets."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from mpc_search import ImageSet
from mpc_search.cli import main
from mpc_search.cost_table import CostTable
from mpc_search.run_config import RunConfig
from mpc_search.trainer import TrainingJob
from vit_models import AttentionPlan, Model, ViTConfig

TINY = ViTConfig(name="tiny", image_size=8, channels=1, patch=4, layers=2, heads=2, dim=16, num_classes=2)
MIX = Model(TINY, "mix", AttentionPlan.from_heads([[1, 0], [0, 1]]), "tanh")
SEARCH = Model(TINY, "mix", None, "tanh")
SOFTMAX = Model(TINY, "softmax", None, "tanh")


def stripes(count: int, seed: int) -> ImageSet:
    """Images whose class is the direction of their stripes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count).astype(np.int32)
    wave = np.sin(np.arange(8) * 1.6)
    images = np.where(labels[:, None, None] == 0, wave[None, :, None], wave[None, None, :])
    noisy = 128 + 60 * (images + rng.normal(scale=0.3, size=(count, 8, 8)))
    pixels = np.clip(noisy, 0, 255).astype(np.uint8)[..., None]
    return ImageSet("stripes", pixels, labels, ("down", "across"), (0.5,), (0.25,), files={"seed": f"{seed} {count}"})


def config(**tables: Any) -> RunConfig:
    """A config for TINY: a few short epochs, with `tables` over it."""
    train = {"epochs": 2, "batch": 32, "learning_rate": 5e-3, "schedule": "step", "log_every": 3}
    return RunConfig.model_validate(
        {
            "data": {"name": "stripes"},
            "model": {"config": "tiny"},
            **tables,
            "train": {**train, **tables.get("train", {})},
        }
    )


def job(model: Model = MIX, count: int = 128, **tables: Any) -> TrainingJob:
    """A job on stripes; tables of the config by name, `teacher`, `costs` and `start` as TrainingJob takes them."""
    extra = {name: tables.pop(name) for name in ("teacher", "costs", "start") if name in tables}
    return TrainingJob(model, stripes(count, 0), stripes(64, 1), config(**tables), search=model is SEARCH, **extra)


def idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, count: int = 12, zipped: bool = True, labels: int | None = None) -> Path:
    """The four files of an MNIST-like set, with random images."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for prefix in ("train", "t10k"):
        files = {
            f"{prefix}-images-idx3-ubyte": rng.integers(0, 256, (count, 28, 28)),
            f"{prefix}-labels-idx1-ubyte": np.arange(count if labels is None else labels) % 10,
        }
        for name, array in files.items():
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / name).write_bytes(idx(array))
    return folder


def mpc_search(*arguments: str) -> SimpleNamespace:
    """The command line in this process: `returncode`, `stdout`, `stderr`."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["mpc-search", *arguments]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
        code: Any = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv = before
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def in_a_process(at: Path, *arguments: str, timeout: float = 1500) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with the working directory `at`."""
    code = "from mpc_search.cli import main; main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=at)


@pytest.fixture(scope="session", autouse=True)
def _compile_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests that train the same model share the compiled code."""
    if jax.__version_info__ < (0, 5):
        return  # jaxlib 0.4.34 crashes when it runs a training step from the compilation cache
    kept = str(tmp_path_factory.mktemp("compiled"))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = kept  # for the processes that tests start
    jax.config.update("jax_compilation_cache_dir", kept)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


SMALL = """
name = "small"
config = "digits"
scale = "smoke"
seeds = [3, 4]

[[run]]
name = "teacher"
stage = "teacher"
set = { "train.epochs" = 1 }

[[run]]
name = "search-{search.weight}"
stage = "search"
set = { "train.epochs" = 1 }
grid = { "search.weight" = [1e-5, 1e-3] }
seeds = [3]

[[run]]
name = "mpcvit-{mu}-{rule}"
stage = "retrain"
search = "search-1e-05"
grid = { mu = [0.0, 0.5], rule = ["global", "random"] }
set = { "train.epochs" = 1 }
seeds = [3]

[[run]]
name = "student"
stage = "retrain"
search = "search-1e-05"
seconds_of_mu = 0.5
costs = "COSTS"
teacher = "teacher"
set = { "train.epochs" = 1, "distill.kind" = "both", "distill.init" = "teacher" }
seeds = [3]

[[run]]
name = "evaluated"
stage = "evaluate"
of = "student"
seeds = [3]
"""
STEPS = CostTable(protocol="semi2k", network="wan", kernels="plain", layers=((0.0, 1.0, 1.1, 1.2, 1.3),) * 2, rest=2.0)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """The sweep above, with its cost table."""
    STEPS.save(tmp_path / "costs.json")
    path = tmp_path / "small.toml"
    path.write_text(SMALL.replace("COSTS", str(tmp_path / "costs.json")))
    return path
