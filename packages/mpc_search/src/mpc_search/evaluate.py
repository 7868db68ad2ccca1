"""What a trained model says of labelled images: in plaintext, and under MPC on a sample."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mpc_search.data import ImageSet
from mpc_search.errors import SearchError
from mpc_search.model import Model, Params, accuracy, predict
from mpc_search.record import ClassReport, PrivateScore, Score
from vit_models import export_program

_CHUNK = 2000  # images that are normalised at once


def plain_logits(model: Model, params: Params, data: ImageSet, kernels: str = "plain") -> npt.NDArray[np.float32]:
    """Logits (n, classes) of every image in plaintext, with the non-linear functions of that kernel set.

    Raises SearchError on an unknown kernel set.
    """
    rows = np.arange(len(data))
    try:
        parts = [
            predict(model, params, data.take(rows[i : i + _CHUNK]).images, kernels=kernels)
            for i in range(0, len(data), _CHUNK)
        ]
    except ValueError as error:
        raise SearchError(f"{error}. Fix: use one of those, and images of the model's size.") from error
    return np.concatenate(parts)


def score(logits: npt.NDArray[np.float32], data: ImageSet) -> Score:
    """Accuracy, loss, per-class report and confusion matrix of logits (n, classes) on `data`."""
    called, count = logits.argmax(-1), len(data.classes)
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (data.labels, called), 1)
    right, of, said = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    wide = logits.astype(np.float64)
    logsumexp = np.log(np.exp(wide - wide.max(-1, keepdims=True)).sum(-1)) + wide.max(-1)
    classes = [
        ClassReport(
            name=name,
            images=int(of[i]),
            precision=float(right[i] / said[i]) if said[i] else 0.0,
            recall=float(right[i] / of[i]) if of[i] else 0.0,
            f1=float(2 * right[i] / (of[i] + said[i])) if of[i] + said[i] else 0.0,
        )
        for i, name in enumerate(data.classes)
    ]
    return Score(
        images=len(data),
        accuracy=accuracy(logits, data.labels),
        loss=float((logsumexp - wide[np.arange(len(data)), data.labels]).mean()),
        classes=classes,
        confusion=confusion.tolist(),
    )


def private_score(
    model: Model,
    params: Params,
    data: ImageSet,
    *,
    protocol: str = "semi2k",
    kernels: str = "plain",
    batch: int = 1,
    timeout_s: float = 3600.0,
) -> PrivateScore:
    """All images of `data` through two party processes of spu_bench, over the loopback device, `batch` at a time.

    Under ref2k the same Program runs in plaintext fixed point. Raises SearchError where spu_bench is not installed or
    the run has no valid result.
    """
    if importlib.util.find_spec("spu_bench") is None:
        raise SearchError("Private inference needs spu_bench. Fix: pip install ./packages/spu_bench (Python 3.11).")
    from spu_bench import SpuBenchError, load_program, run

    if len(data) % batch:
        raise SearchError(f"{len(data)} images are no whole batches of {batch}. Fix: change one of them.")
    images = data.images
    plain = predict(model, params, images)
    with tempfile.TemporaryDirectory() as scratch:
        program = _program(model, params, kernels, batch, Path(scratch))
        inputs = Path(scratch) / "images.npz"
        np.savez(inputs, images=images)
        try:
            record = run(
                load_program(program),
                protocol=protocol,
                executor="loopback",
                inputs=inputs,
                expected=plain,
                timeout_s=timeout_s,
            )
        except SpuBenchError as error:
            raise SearchError(str(error)) from error
    assert record.accuracy is not None and record.logits is not None
    found = record.accuracy
    return PrivateScore(
        protocol=protocol,
        kernels=kernels,
        images=len(data),
        accuracy=accuracy(np.asarray(record.logits, np.float32).reshape(plain.shape), data.labels),
        plain_accuracy=accuracy(plain, data.labels),
        same_class=found.top1_equal,
        clear=found.clear,
        clear_equal=found.clear_equal,
        max_logit_error=found.max_abs_error,
    )


def _program(model: Model, params: Any, kernels: str, batch: int, directory: Path) -> Path:
    try:
        exported = export_program(
            model.config,
            params,
            plan=model.plan,
            attention=model.attention,
            kernels=kernels,
            gelu=model.gelu,
            batch=batch,
        )
    except ValueError as error:
        raise SearchError(f"{error}. Fix: see `mpc-search evaluate --help`.") from error
    return Path(exported.save(directory / "program"))
