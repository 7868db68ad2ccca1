"""The accuracy of a trained model on labelled images: in plaintext, and under MPC on a sample."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mpc_search.data import ImageSet
from mpc_search.errors import SearchError
from mpc_search.plaintext import accuracy, check_finite, plaintext_logits
from mpc_search.record import ClassReport, PrivateScore, Score
from vit_models import Model, ModelError
from vit_models.types import Params

_CHUNK = 2000
"""Images that are normalised at once."""


def score(model: Model, params: Params, data: ImageSet, kernels: str = "plain") -> Score:
    """Accuracy, loss, report by class and confusion matrix of a model on `data`, in plaintext.

    `kernels` is the kernel set of the non-linear functions. Raises SearchError on an unknown one, and on images that do
    not have the model's size.
    """
    rows = np.arange(len(data))
    try:
        parts = [
            plaintext_logits(model, params, data.take(rows[i : i + _CHUNK]).images, kernels=kernels)
            for i in range(0, len(data), _CHUNK)
        ]
    except ModelError as error:
        raise SearchError(error.problem, error.fix) from error
    return score_logits(np.concatenate(parts), data)


def score_logits(logits: npt.NDArray[np.float32], data: ImageSet) -> Score:
    """Accuracy, loss, report by class and confusion matrix of logits (n, classes) for the images of `data`.

    Raises SearchError where a logit is not finite, or where there is not one for each class.
    """
    check_finite(logits)
    if logits.shape[1] != len(data.classes):
        raise SearchError(
            f"The model has {logits.shape[1]} classes, and {data.name} has {len(data.classes)}.",
            "evaluate on the data that it was trained on.",
        )
    predicted, count = logits.argmax(-1), len(data.classes)
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (data.labels, predicted), 1)
    correct, of_class, as_class = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    wide = logits.astype(np.float64)
    logsumexp = np.log(np.exp(wide - wide.max(-1, keepdims=True)).sum(-1)) + wide.max(-1)
    classes = [
        ClassReport(
            name=name,
            images=int(of_class[i]),
            precision=float(correct[i] / as_class[i]) if as_class[i] else 0.0,
            recall=float(correct[i] / of_class[i]) if of_class[i] else 0.0,
            f1=float(2 * correct[i] / (of_class[i] + as_class[i])) if of_class[i] + as_class[i] else 0.0,
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
    """The accuracy of a model on `data` under MPC: two party processes of spu_bench over the loopback device.

    `batch` images go through the model at once. Under the protocol ref2k the same Program runs in plaintext fixed
    point. Raises SearchError when spu_bench is not installed, or when the run has no valid result.
    """
    if importlib.util.find_spec("spu_bench") is None:
        raise SearchError(
            "Private inference needs spu_bench.",
            "use Python 3.11 and run `pip install ./packages/spu_bench`.",
            "environment",
        )
    from spu_bench import SpuBenchError, load_program, run

    if len(data) % batch:
        raise SearchError(f"{len(data)} images do not divide into batches of {batch}.", "change one of the two.")
    plain = plaintext_logits(model, params, data.images)
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Path(scratch) / "images.npz"
        np.savez(inputs, images=data.images)
        try:
            program = model.export(params, kernels=kernels, batch=batch).save(Path(scratch) / "program")
            record = run(
                load_program(program),
                protocol=protocol,
                executor="loopback",
                inputs=inputs,
                expected=plain,
                timeout_s=timeout_s,
            )
        except (ModelError, SpuBenchError) as error:
            raise SearchError(error.problem, error.fix, "failed") from error
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
