"""Any JAX function becomes a Program, or is refused by the name of what cannot be in one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from spu_bench import ExportNote, NewProgram, Program, SpuBenchError, load_program, program_from_function

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
W = np.linspace(1, 2, 12, dtype=np.float32).reshape(4, 3)


def identity(params: Any, x: Any) -> Any:
    return x + params["w"]


def of(fn: Callable[..., Any], params: Any = None, sample: Any = X, **settings: Any) -> NewProgram:
    return program_from_function(fn, {} if params is None else params, sample, **settings)


def test_names_come_from_the_trees(tmp_path: Path) -> None:
    """Parameters, inputs and outputs; what is saved is read back, with the reference."""
    params = {"layers": [{"w": W, "b": W[0]}], "heads": 2}
    made = of(
        lambda p, x, mask: {"scores": x @ p["layers"][0]["w"] * mask, "pair": (x.sum(), p["layers"][0]["b"])},
        params,
        {"x": X, "mask": np.ones((2, 1), np.float32)},
        name="mine",
        holders={"params.layers.0.b": "public"},
        labels=[0, 2],
    )
    program = load_program(made.save(tmp_path / "program"))
    assert {each.name: each.holder for each in program.manifest.arguments} == {
        "params.layers.0.b": "public",
        "params.layers.0.w": "server",
        "x": "client",
        "mask": "client",
    }
    assert [each.name for each in program.manifest.outputs] == ["pair.0", "pair.1", "scores"]
    assert program.manifest.fingerprint == made.fingerprint and program.manifest.made_by["labels"] == [0, 2]
    reference = program.reference()
    assert reference is not None
    np.testing.assert_allclose(reference["scores"], X @ W, rtol=1e-6)
    assert made.save(tmp_path / "program") == tmp_path / "program"  # an earlier Program is replaced


@pytest.mark.parametrize(
    ("sample", "names"),
    [(X, ["image"]), ((X, X), ["image", "mask"]), ({"mask": X, "image": X}, ["image", "mask"])],
)
def test_the_forms_of_a_sample(sample: Any, names: list[str]) -> None:
    """An array, a tuple by position, a dict by name."""

    def fn(params: Any, image: Any, mask: Any = 1.0) -> Any:
        return image * mask

    assert sorted(each.name for each in of(fn, None, sample).arguments) == names


def test_the_same_function_gives_the_same_program() -> None:
    """Neither the file nor the time of an export is in it."""
    first, second = (of(lambda p, x: x @ p["w"], {"w": W}, name="same") for _ in range(2))
    assert first.fingerprint == second.fingerprint


def test_reached_through_program() -> None:
    """Both ways are one."""
    fn = identity
    made = Program.from_function(fn, {"w": X}, X, name="one")
    assert made.fingerprint == of(fn, {"w": X}, name="one").fingerprint


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        (ml_dtypes.bfloat16, "float32"),
        (np.float16, "float32"),
        (np.float64, "float32"),
        (np.int64, "int32"),
        (np.uint8, "int32"),
        (np.bool_, "int32"),
    ],
)
def test_other_types_are_converted_with_a_note(kind: Any, stored: str) -> None:
    """Where no value changes; the outputs are the two types too."""
    values = (np.arange(8).reshape(2, 4) % 2).astype(kind)
    with pytest.warns(ExportNote, match=rf"x: {np.dtype(kind).name} is stored as {stored}"):
        made = of(lambda p, x: x, None, values)
    assert made.arguments[0].value.dtype == stored and made.outputs["output"].dtype == stored
    np.testing.assert_array_equal(made.outputs["output"], values.astype(stored))


def test_a_bool_stays_one_for_the_function() -> None:
    """`~mask` of a whole number would be another thing."""
    mask = np.array([[True], [False]])
    with pytest.warns(ExportNote):
        made = of(lambda p, mask: ~mask, None, mask)
    np.testing.assert_array_equal(made.outputs["output"], [[0], [1]])


def test_what_the_function_does_not_read_is_left_out() -> None:
    """Its values are not in the module either."""
    secret = np.full(64, 1.2345678, np.float32)
    with pytest.warns(ExportNote, match=r"params\.unused: the function does not read it"):
        made = of(lambda p, x: jax.jit(lambda a, b: a * 2)(x, p["unused"]), {"unused": secret})
    assert [each.name for each in made.arguments] == ["x"] and secret[:4].tobytes() not in made.module


def test_a_captured_array_is_said_to_be_public() -> None:
    """It is a constant of the module, which both parties have."""
    with pytest.warns(ExportNote, match=r"shape \(4, 3\).* both parties see"):
        of(lambda p, x: x @ jnp.asarray(W))


@pytest.mark.parametrize(
    ("params", "sample", "named"),
    [
        ({"w": X * np.nan}, X, r"'params\.w' holds 8 values that are NaN or infinite"),
        ({"w": X * np.float32(1e15)}, X, r"'params\.w' holds values up to 1e\+15"),
        ({"w": X.astype(np.float64) * 1e300}, X, r"'params\.w' holds 8 values"),
        ({"w": X}, np.where(X > 0.9, np.inf, X), "'x' holds 1 values that are NaN or infinite"),
        ({"w": X.astype(np.complex64)}, X, r"'params\.w' is complex64.*astype"),
        ({"w": np.full((2, 4), 2**40)}, X, r"'params\.w' is int64.*astype"),
        ({"w": np.full((2, 4), 2**31, np.uint32)}, X, r"'params\.w' is uint32.*astype"),
        ({"w": jax.random.key(0)}, X, r"'params\.w' is a random key"),
    ],
)
def test_an_array_that_cannot_be_in_a_program(params: Any, sample: Any, named: str) -> None:
    """It is named, with what to do."""
    with pytest.raises(SpuBenchError, match=named) as caught:
        of(identity, params, sample)
    assert caught.value.reason == "bad_input" and caught.value.fix


def while_secret(p: Any, x: Any) -> Any:
    return jax.lax.while_loop(lambda c: c.sum() < 9, lambda c: c * 2, x)


def while_in_scan(p: Any, x: Any) -> Any:
    return jax.lax.scan(lambda c, row: (while_secret(p, c + row), row), jnp.zeros(4), x)[1]


@pytest.mark.parametrize(
    ("fn", "named"),
    [
        (while_secret, "number of steps depends on a secret"),
        (while_in_scan, "number of steps depends on a secret"),
        (lambda p, x: jnp.sort(x), "'sort' on a secret"),
        (lambda p, x: jnp.median(x), "'sort' on a secret"),
        (lambda p, x: jnp.abs(jnp.fft.fft(x)), "'fft'"),
        (lambda p, x: jnp.linalg.svd(x)[1], "'svd'"),
        (lambda p, x: jnp.linalg.eigh(x @ x.T)[0], "'eigh'"),
        (lambda p, x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x), "'pure_callback'"),
        (lambda p, x: x + jax.random.normal(jax.random.key(0), x.shape), "'random_bits'"),
        (lambda p, x: jnp.tan(x), "'tan'"),
        (lambda p, x: jnp.cbrt(x), "'cbrt'"),
        (lambda p, x: jax.lax.bitcast_convert_type(x, jnp.int32), "'bitcast_convert_type'"),
        (lambda p, x: (x.astype(jnp.bfloat16) * 2).astype(jnp.float32), "bfloat16"),
        (lambda p, x: x if x.sum() > 1 else -x, "JAX cannot trace"),
        (lambda p, x: jnp.ones(3), "reads no input of the client"),
        (lambda p, x: {}, "no output|reads no input"),
        (lambda p, x: jnp.log(x - x), "'output' holds"),
        (lambda p, x: x.astype(jnp.complex64), "'output' is an output of type complex64"),
    ],
)
def test_what_spu_cannot_run_is_refused_at_export(fn: Callable[..., Any], named: str) -> None:
    """By the operation's name, before anything is written."""
    with pytest.raises(SpuBenchError, match=named):
        of(fn)


def test_a_loop_over_public_values_is_kept() -> None:
    """Its steps do not depend on a secret."""

    def fn(p: Any, x: Any) -> Any:
        return jax.lax.fori_loop(0, p["steps"], lambda i, c: c * 2, x)

    made = of(fn, {"steps": np.int32(3)}, holders={"params": "public"})
    assert made.outputs["output"].shape == (2, 4)
    with pytest.raises(SpuBenchError, match="depends on a secret"):
        of(fn, {"steps": np.int32(3)})


def test_arithmetic_of_few_bits_is_refused_where_it_wraps() -> None:
    """int32 would give another number."""
    with pytest.raises(SpuBenchError, match="comes out otherwise"):
        of(lambda p, x: x * np.uint8(200), None, np.full((1, 4), 200, np.uint8))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "x has 2, y has 3"),
        ({"holders": {"z": "public"}}, "holders names 'z'"),
        ({"unbatched": ["z"]}, "unbatched names 'z'"),
        ({"unbatched": ["y"], "labels": [1]}, "1 labels for a batch of 2"),
        ({"holders": {"y": "stranger"}}, "holder 'stranger'"),
    ],
)
def test_batches_and_names_are_checked(settings: dict[str, Any], named: str) -> None:
    """An axis that is no batch has to be stated."""
    with pytest.raises(SpuBenchError, match=named):
        of(lambda p, x, y: x.sum() + y.sum(), None, (X, np.ones((3, 1), np.float32)), **settings)


def test_nothing_else_is_overwritten(tmp_path: Path) -> None:
    """Only a Program is replaced by one."""
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(SpuBenchError, match="is not a Program"):
        of(lambda p, x: x).save(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["mine"]


def test_running_needs_no_jax() -> None:
    """What a party and an executor import loads neither JAX nor the module that makes Programs."""
    modules: Sequence[str] = ("measured_run", "program", "new_program", "party.launch")
    code = ";".join(
        [
            "import sys",
            *(f"import spu_bench.{each}" for each in modules),
            "assert 'spu_bench.from_function' not in sys.modules",
        ]
    )
    subprocess.run([sys.executable, "-c", code], check=True)
