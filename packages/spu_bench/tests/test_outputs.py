"""Real runs of Programs of any function: every output is compared with plaintext, by its own kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from spu_bench import NewProgram, RunFailed, RunRecord, SpuBenchError, load_program, program_from_function, run
from spu_bench.comparison import OutputComparison
from spu_bench.program import manifest_fingerprint

RNG = np.random.default_rng(0)
W = (RNG.normal(size=(16, 10)) / 2).astype(np.float32)
X = RNG.normal(size=(2, 16)).astype(np.float32)


def private(made: NewProgram, path: Path, **settings: Any) -> RunRecord:
    """The record of `made` between two parties."""
    return run(load_program(made.save(path / "program")), executor="loopback", **settings)


def mlp(params: Any, x: Any) -> Any:
    return jax.nn.relu(x @ params["first"]["w"] + params["first"]["b"]) @ params["second"]["w"]


def test_a_dict_of_parameters(tmp_path: Path) -> None:
    """Logits: their error, their classes, and the same as an output by name."""
    params = {"first": {"w": W, "b": W[0]}, "second": {"w": W[:10, :4]}}
    record = private(program_from_function(mlp, params, X), tmp_path, repeats=2)
    assert record.status == "ok" and record.accuracy is not None and record.accuracy.top1_equal == 4
    assert record.outputs["output"].shape == [2, 4] and record.outputs["output"].max_abs_error < 0.01
    np.testing.assert_allclose(np.asarray(record.logits)[2:], mlp(params, X), atol=0.01)


def test_an_equinox_model(tmp_path: Path) -> None:
    """A module is a tree of parameters like any other."""
    import equinox

    model = equinox.nn.MLP(16, 4, 8, 2, key=jax.random.key(0))
    record = private(program_from_function(lambda model, x: jax.vmap(model)(x), model, X), tmp_path)
    assert record.status == "ok" and record.outputs["output"].max_abs_error < 0.01


def test_two_inputs_two_outputs_and_a_mask(tmp_path: Path) -> None:
    """Inputs by name, a table without a batch axis, several batches of the client's own."""
    made = program_from_function(
        lambda p, x, keep, table: {"scores": (x @ p + table) * keep, "class": jnp.argmax(x @ p, -1)},
        W,
        {"x": X, "keep": np.ones((2, 1), np.float32), "table": W[1]},
        unbatched=["table"],
    )
    record = private(made, tmp_path)
    assert record.status == "ok" and record.logits is not None
    assert record.outputs["class"] == OutputComparison(kind="integer", shape=[2], values=2, equal=2)
    more = RNG.normal(size=(4, 16)).astype(np.float32)
    keep = np.array([[1], [0], [0], [1]], np.float32)
    np.savez(tmp_path / "own.npz", x=more, keep=keep, table=W[1])
    expected = {"scores": (more @ W + W[1]) * keep, "class": (more @ W).argmax(-1)}
    program = load_program(tmp_path / "program")
    record = run(program, executor="loopback", inputs=tmp_path / "own.npz", expected=expected)
    assert record.status == "ok" and record.outputs["scores"].values == 40 and record.outputs["class"].equal == 4
    np.savez(tmp_path / "own.npz", x=more, keep=keep[:2], table=W[1])
    with pytest.raises(SpuBenchError, match="different numbers of batches: 'x' has 2, 'keep' has 1"):
        program.arrays("client", tmp_path / "own.npz")


def answers(w: Any, x: Any) -> dict[str, Any]:
    scores = x @ w
    largest = jnp.max(scores)
    return {"class": jnp.argmax(scores, -1), "score": scores.sum(-1), "scalar": largest, "positive": largest > 0}


@pytest.mark.parametrize("batch", [1, 2])
def test_outputs_without_classes(batch: int, tmp_path: Path) -> None:
    """A class, a score, a scalar, a bool: no logits are made of them, and no class is counted."""
    record = private(program_from_function(answers, W, X[:batch]), tmp_path, repeats=2)
    assert record.status == "ok" and record.accuracy is None and record.logits is None
    assert {name: (each.kind, each.shape, each.values) for name, each in record.outputs.items()} == {
        "class": ("integer", [batch], 2 * batch),
        "score": ("float", [batch], 2 * batch),
        "scalar": ("float", [], 2),
        "positive": ("integer", [], 2),
    }
    assert all(each.is_right(0.01) for each in record.outputs.values())
    assert RunRecord.model_validate_json(record.model_dump_json()) == record


def test_a_single_scalar(tmp_path: Path) -> None:
    """The first output is one number, of a secret mask too."""
    mask = np.array([[True], [False]])
    made = program_from_function(lambda w, x, mask: jnp.where(~mask, x @ w, 0).sum(), W, (X, mask))
    record = private(made, tmp_path)
    assert record.status == "ok" and record.outputs["output"].max_abs_error < 0.01


@pytest.mark.parametrize("classes", [1, 2])
def test_two_samples_of_two_classes(classes: int, tmp_path: Path) -> None:
    """The batch is not taken for the classes; one score is no class."""
    record = private(program_from_function(lambda w, x: x @ w, W[:, :classes], X), tmp_path)
    assert record.status == "ok" and (record.accuracy is None) == (classes == 1)
    assert record.accuracy is None or record.accuracy.inputs == record.accuracy.top1_equal == 2


def test_a_second_output_that_is_wrong(tmp_path: Path) -> None:
    """It is compared, kept and named like the first."""
    made = program_from_function(lambda w, x: {"logits": x @ w, "part": jnp.argmax(x @ w, -1)}, W, X)
    made.outputs["part"][:] += 5  # type: ignore[index]
    record = private(made, tmp_path)
    assert (record.status, record.correctness) == ("wrong", "wrong")
    assert record.outputs["logits"].is_right(0.01) and record.outputs["part"].equal == 0
    assert "'part': 0 of 2 equal" in str(record.wrong_outputs()) and "'logits'" not in str(record.wrong_outputs())


@pytest.mark.parametrize(
    ("fn", "cause", "fix"),
    [
        (lambda w, x: jax.nn.softmax(jnp.where(x > 0, x, -1e4) * 3.0) @ w, "exponential", "EXP_PADE"),
        (lambda w, x: jax.lax.rsqrt(x * x * 1e-9 + 1e-9) @ w, "variance near zero", "epsilon"),
        (lambda w, x: (x * 3e6) * (x * 3e6) / 1e13 @ w, "range", "FM128"),
    ],
)
def test_a_wrong_result_names_its_likely_cause(fn: Callable[..., Any], cause: str, fix: str, tmp_path: Path) -> None:
    """The record has it, and so has the error."""
    record = private(program_from_function(fn, W, X), tmp_path, error_bound=0.01)
    assert record.status == "wrong" and record.likely_cause is not None
    assert cause in record.likely_cause.cause and fix in record.likely_cause.fix
    assert cause in str(record.wrong_outputs())


def test_a_number_beyond_the_ring_is_named(tmp_path: Path) -> None:
    """A Program made by hand can hold one: the party that has it refuses it."""
    path = program_from_function(lambda w, x: x @ w, W * np.float32(1e9), X).save(tmp_path / "program")
    with pytest.raises(RunFailed, match="'params' has values up to") as caught:
        run(load_program(path), executor="loopback")
    assert caught.value.record.status == "failed" and caught.value.reason == "bad_input"


def test_an_argument_is_batched_unless_it_says_otherwise(small: Path) -> None:
    """A Program that was written before reads as it did."""
    assert all(each.batched for each in load_program(small).manifest.arguments)
    raw = json.loads((small / "program.json").read_text())
    assert manifest_fingerprint(raw) == raw["fingerprint"]


def test_a_number_that_is_none_is_wrong() -> None:
    """NaN is further off than any bound."""
    assert not OutputComparison(kind="float", values=1, max_abs_error=float("nan")).is_right(1e9)
