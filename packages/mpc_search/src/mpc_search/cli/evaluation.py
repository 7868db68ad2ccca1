"""The command evaluate: the accuracy of a checkpoint, in plaintext and under MPC."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from mpc_search.cli.options import DataFolder


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of a command that trains.")],
    data: DataFolder = None,
    kernels: Annotated[str, typer.Option(help="Kernel set of vit_models: plain, paper, tuned, ...")] = "plain",
    private: Annotated[
        Optional[list[str]],
        typer.Option(help="Also run under semi2k, cheetah, or ref2k (plaintext in fixed point). Can be repeated."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Number of test images under MPC.")] = 16,
    json_out: Annotated[Optional[Path], typer.Option("--json", help="Write all results as JSON.")] = None,
) -> None:
    """Evaluate on the test images: accuracy in plaintext, also by class, and under MPC on a sample.

    Example: mpc-search evaluate build/mine --kernels tuned --private semi2k --images 16
    """
    import numpy as np

    from mpc_search.checkpoint import load_checkpoint
    from mpc_search.data import load
    from mpc_search.errors import printable
    from mpc_search.files import scratch_beside, write_atomically
    from mpc_search.scoring import private_score, score

    if json_out is not None:
        with scratch_beside(json_out):
            pass  # where it cannot be written, better to know before the evaluation
    model, params, origin = load_checkpoint(checkpoint)
    test = load(origin.data or "fashion_mnist", "test", data)
    found = score(model, params, test, kernels)
    print(f"{found.accuracy:.2%} on {len(test)} test images, kernels {kernels}")
    for each in found.classes:
        name = printable(each.name)
        print(f"  {name:<14} {each.images:>6} images  precision {each.precision:.3f}  recall {each.recall:.3f}")
    sample = test.take(np.arange(min(images, len(test))))
    scores = [private_score(model, params, sample, protocol=name, kernels=kernels) for name in private or []]
    for one in scores:
        print(
            f"{one.protocol}: {one.accuracy:.2%} on {one.images} images ({one.plain_accuracy:.2%} in plaintext); the "
            f"class is that of plaintext for {one.same_class} of them, and for {one.clear_equal} of {one.clear} with a "
            f"clear margin; largest logit error {one.max_logit_error:.4f}"
        )
    if json_out is not None:
        content = {"test": found.model_dump(), "private": [one.model_dump() for one in scores]}
        write_atomically(json_out, json.dumps(content, indent=1) + "\n")
