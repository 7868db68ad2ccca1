"""Checkpoints and states that are damaged, and destinations that cannot be written: one line each, and nothing lost."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import MIX, TINY, job, mpc_search, stripes

from mpc_search import CheckpointOrigin, SearchError, load_checkpoint, save_checkpoint
from mpc_search.checkpoint import check_replaceable
from mpc_search.plaintext import accuracy
from mpc_search.scoring import score, score_logits
from mpc_search.trainer import fit, params_sha256, run_directory
from vit_models import flatten, init, unflatten


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A good checkpoint."""
    save_checkpoint(tmp_path / "model", MIX, init(TINY, 0, attention="mix"), CheckpointOrigin())
    return tmp_path / "model"


def changed(kept: Path, **arrays: Any) -> Path:
    """The checkpoint with other arrays; None takes one away."""
    flat = {name: np.asarray(value) for name, value in flatten(load_checkpoint(kept)[1]).items()}
    flat.update({name.replace("__", "."): value for name, value in arrays.items()})
    np.savez(kept / "params.npz", **{name: value for name, value in flat.items() if value is not None})
    return kept


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "1 parameters are missing, among them head.kernel"),
        (np.zeros((3, 3)), r"head.kernel has the shape \(3, 3\) instead of \(16, 2\)"),
        (np.full((16, 2), np.nan), "head.kernel has values that are not finite"),
        (np.full((16, 2), -np.inf), "head.kernel has values that are not finite"),
        (np.full((16, 2), "a"), "not a checkpoint"),
    ],
)
def test_parameters_that_do_not_fit(kept: Path, value: Any, words: str) -> None:
    """Missing, of another shape, or without a number: refused when the checkpoint is read, by name."""
    with pytest.raises(SearchError, match=words) as caught:
        load_checkpoint(changed(kept, head__kernel=value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    ["[" * 100_000, '{"a":' * 100_000, "", "[]", "3", "null", '{"config": 5}', "\x00", '{"config": {"layers": 1e999}}'],
)
def test_model_files_that_are_none(kept: Path, content: str) -> None:
    """Also JSON that is nested too deep."""
    (kept / "model.json").write_text(content)
    with pytest.raises(SearchError, match="is not a checkpoint") as caught:
        load_checkpoint(kept)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
    (kept / "model.json").write_bytes(b"\xff\xfe")
    done = mpc_search("evaluate", str(kept))
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("out", ["", ".", "/", "..", "x" * 300, "file/below", "/proc/none", "x" * 250])
def test_destinations_that_cannot_be_written(tmp_path: Path, out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are refused before anything is trained."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    done = mpc_search("retrain", "--config", "digits", "--attention", "softmax", "--out", out)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "Fix: give another" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_the_older_checkpoint(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, and what was there is still there."""
    before = {path.name: path.read_bytes() for path in kept.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(SearchError, match=r"No space left on device.*Fix: give another path"):
        save_checkpoint(kept, MIX, init(TINY, 1, attention="mix"), CheckpointOrigin())
    monkeypatch.undo()
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert [path.name for path in kept.parent.iterdir()] == ["model"]
    check_replaceable(kept)


def test_json_of_evaluate_is_checked_first(kept: Path, tmp_path: Path) -> None:
    """A destination that cannot be written is known before the evaluation."""
    (tmp_path / "file").touch()
    done = mpc_search("evaluate", str(kept), "--json", str(tmp_path / "file" / "out.json"))
    assert done.returncode == 2 and "out.json" in done.stderr and not done.stdout


def test_no_accuracy_of_logits_that_are_none() -> None:
    """A metric of NaN is refused, and so is one of a model with other classes."""
    data = stripes(6, 0)
    logits = np.zeros((6, 2), np.float32)
    assert accuracy(logits, data.labels) == score_logits(logits, data).accuracy
    with pytest.raises(SearchError, match="3 classes, and stripes has 2"):
        score_logits(np.zeros((6, 3), np.float32), data)
    for bad in (np.nan, np.inf):
        logits[4, 1] = bad
        for metric in (lambda: accuracy(logits, data.labels), lambda: score_logits(logits, data)):
            with pytest.raises(SearchError, match="logits of 1 of 6 images are not finite"):
                metric()
    params = flatten(init(TINY, 0, attention="mix"))
    params["head.kernel"] = np.full((16, 2), np.nan, np.float32)
    with pytest.raises(SearchError, match="logits of 6 of 6 images"):
        score(MIX, unflatten(params), data)


# -- states -------------------------------------------------------------------------------------------------------


def damage(step: Path) -> None:
    """Cut the largest data file of a state."""
    largest = max(
        (path for path in (step / "state").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    os.truncate(largest, 100)


def test_a_damaged_state_has_one_before_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The run resumes from the older state with the same result; with none that can be read it is one line."""
    train = {"epochs": 3, "checkpoint_every": 1}
    expected = fit(job(train=train)).params
    out = tmp_path / "model"
    fit(job(train=train), out, stop_after=9)
    states = run_directory(out) / "state"
    steps = sorted(int(path.name) for path in states.iterdir())
    assert steps == [4, 8]
    shutil.copytree(run_directory(out), tmp_path / "both.run")
    damage(states / "8")
    with caplog.at_level(logging.WARNING, "mpc_search"):
        again = fit(job(train=train), out)
    assert "resuming from step 4" in caplog.text and len(caplog.text.splitlines()) == 1
    assert params_sha256(again.params) == params_sha256(expected)
    for step in steps:
        damage(tmp_path / "both.run" / "state" / str(step))
    with pytest.raises(SearchError, match=r"No state in .* can be read .*--force") as caught:
        fit(job(train=train), tmp_path / "both")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    with pytest.raises(SearchError, match="other settings"):
        fit(job(train={**train, "seed": 9}), out)


def test_a_state_that_cannot_be_written(tmp_path: Path) -> None:
    """A file where the folder of the run would be."""
    (tmp_path / "model.run").touch()
    with pytest.raises(SearchError, match=r"cannot be written.*Fix: ") as caught:
        fit(job(), tmp_path / "model")
    assert "\n" not in str(caught.value)
