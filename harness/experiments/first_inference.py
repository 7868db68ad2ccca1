"""First private inferences: a trained small ViT on real images, and the paper's CIFAR ViT with random weights.

Not a table of the paper. The small ViT (4 layers, mix attention with half of the heads ReLU-Softmax, trained on
Fashion-MNIST by `mpc-search retrain`) has to give under MPC the classes that it gives in plaintext. `vit_7_4_32` with
Softmax and tanh GeLU shows what a plain port costs on SPU 0.9.5: rounds and bytes do not depend on the machine.

Expected: 1,987 rounds and 233 MB a party with SPU's defaults, 1,498 and 202 MB with local truncation. About 4 minutes.
    pytest harness/experiments/first_inference.py --executor loopback --scale smoke --results results
"""

from __future__ import annotations

import pytest

from mpcvit_harness.cells import Cell, ModelSpec
from spu_bench import Options, RunRecord

SMALL = ModelSpec(config="vit_4_4_28", weights="checkpoint:vit_4_4_28", gelu="tanh")
CIFAR = ModelSpec(config="vit_7_4_32", attention="softmax", gelu="tanh")
LOCAL_TRUNCATION = Options(runtime={"trunc_allow_msb_error": True})

MIX = {"attention": "mix", "run": "vit_4_4_28"}
SOFTMAX = {"attention": "softmax"}

CELLS = [
    Cell(experiment="first_inference", name="small-mix", model=SMALL, images=64, timeout_s=600, labels=MIX),
    Cell(
        experiment="first_inference",
        name="small-mix",
        model=SMALL,
        protocol="cheetah",
        images=4,
        warmup=0,
        timeout_s=600,
        labels=MIX,
    ),
    Cell(
        experiment="first_inference",
        name="cifar-softmax",
        model=CIFAR,
        repeats=5,
        timeout_s=600,
        labels={**SOFTMAX, "options": "exact"},
    ),
    Cell(
        experiment="first_inference",
        name="cifar-softmax-local-trunc",
        model=CIFAR,
        options=LOCAL_TRUNCATION,
        repeats=5,
        timeout_s=600,
        labels={**SOFTMAX, "options": "local-truncation"},
    ),
]

COST = {"cifar-softmax": (1987, 233e6), "cifar-softmax-local-trunc": (1498, 202e6)}
"""Rounds and bytes sent by a party, of a plain port measured on SPU 0.9.5 before this project."""

GIB = 2**30


def test_same_class_as_in_plaintext(cell: Cell, record: RunRecord) -> None:
    """Every input whose class is clear in plaintext has the same class under MPC."""
    assert record.accuracy is not None
    print(f"{cell.id}: largest logit error {record.accuracy.max_abs_error:.5f}, {record.accuracy}")
    assert record.accuracy.clear_equal == record.accuracy.clear
    assert record.accuracy.inputs == max(cell.images, 1) * cell.repeats


def test_cost(cell: Cell, record: RunRecord) -> None:
    """Rounds are exactly, bytes within 1 %, those of the prototype; no party needs 2 GiB."""
    assert all(0 < party.peak_memory_bytes < 2 * GIB for party in record.parties)
    if cell.name in COST:
        rounds, sent = COST[cell.name]
        assert [traffic.sent_messages for traffic in record.traffic()] == [rounds, rounds]
        assert record.sent_bytes == pytest.approx([sent, sent], rel=0.01)
