"""Run-time shape checks, the original's reference numbers, and small models for the tests."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import install_import_hook

# Hundreds of tiny programs are compiled here and each runs once: compile quickly, not well.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")
# A pytest plugin of the environment may have imported the package already, without checks.
for _name in [n for n in sys.modules if n.partition(".")[0] == "vit_models"]:
    del sys.modules[_name]
# Not used as a context manager: modules that are imported later (kernel sets) are checked too.
install_import_hook("vit_models", "beartype.beartype")

import vit_models as vm  # noqa: E402 - after the hook

REFERENCE = Path(__file__).parent / "reference" / "vit_2_4_32.npz"


def pytest_configure(config):
    # The run-time type checker samples containers with the random module.
    config.addinivalue_line("filterwarnings", "ignore:Do not use the .random. module inside strategies")


@pytest.fixture(scope="session")
def reference():
    """The original's weights, inputs and outputs by name; see reference/README.md."""
    with np.load(REFERENCE) as data:
        return {name: data[name] for name in data.files}


@pytest.fixture(scope="session")
def tiny():
    """The smallest config with every part: 2 layers, 2 heads, 5 tokens."""
    return vm.ViTConfig("tiny", image_size=8, channels=1, patch=4, layers=2, heads=2, dim=16, num_classes=3)


@pytest.fixture(scope="session")
def lively():
    """params -> params whose random weights are large enough that every choice shows in the logits."""

    def scale_up(params, seed=7):
        rng = np.random.default_rng(seed)
        flat = vm.flatten(params)
        for name, value in flat.items():
            if name.endswith(("qkv.kernel", "proj.kernel", "linear1.kernel", "linear2.kernel", "head.kernel")):
                flat[name] = np.asarray(rng.normal(0, 1.5 / np.sqrt(value.shape[0]), value.shape), value.dtype)
            elif (name.endswith(".bias") and "the_x" not in name) or name == "class_token":
                flat[name] = np.asarray(rng.normal(0, 0.1, value.shape), value.dtype)
        return vm.unflatten(flat)

    return scale_up


@pytest.fixture(scope="session")
def images_for():
    """(config, batch, seed) -> NHWC float32 images."""

    def make(cfg, batch=2, seed=3):
        shape = (batch, cfg.image_size, cfg.image_size, cfg.channels)
        return np.random.default_rng(seed).normal(size=shape).astype(np.float32)

    return make


@pytest.fixture
def x64():
    """float64 for one test."""
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)
