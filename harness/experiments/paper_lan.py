"""MPCViT over a LAN, as PriViT measured the authors' checkpoints.

PriViT (Table of CIFAR-10, CIFAR-100 and Tiny-ImageNet; SEMI2K on SPU 0.5.0b0, two hosts of a cluster with Xeon 8268,
95 threads, LAN): CIFAR-10 8.96 / 9.39 / 9.85 / 10.39 s at mu .1 / .3 / .5 / .7, CIFAR-100 7.86 / 8.21 / 8.76 / 9.16 s,
Tiny-ImageNet 43.96 / 71.04 / 95.75 / 150.83 s. Its published profile has 14 clamps and 13 divisions in one inference:
exact GeLU, which its JAX expands to a rational polynomial, heads of a kind in one call, and a truncation with
communication. That is `port`: the plain kernels with exact GeLU on SPU 0.9.5, over `lan`. `loop` is the paper's own
form on the paper's SPU over the same network. Machines and SPU differ: compare ratios.

Expected: 3 inferences a cell, 10 to 25 s each on CIFAR, minutes on Tiny-ImageNet; about 80 minutes.
    pytest harness/experiments/paper_lan.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.paper_models import BUDGETS, CIFAR10, CIFAR100, TINY, TOY, DataSet, Labelled, cells, labelled, smoke
from spu_bench import RunRecord


def loop(data: DataSet, mu: float) -> Labelled:
    """MPCViT in the paper's own form."""
    return labelled(data.mpcvit(mu), dataset=data.name, mu=str(mu), form="loop")


def port(data: DataSet, mu: float) -> Labelled:
    """MPCViT in the form of a plain port."""
    model = data.mpcvit(mu).model_copy(update={"kernels": "plain", "gelu": "exact"})
    return labelled(model, dataset=data.name, mu=str(mu), form="port")


ALL = [(data, mu) for data in (CIFAR10, CIFAR100, TINY) for mu in BUDGETS]

CELLS = [
    *smoke("paper_lan", {"port": port(TOY, 0.5)}, runtime="0.9.5"),
    *smoke("paper_lan", {"loop": loop(TOY, 0.5)}),
    *cells(
        "paper_lan",
        {f"port-{data.name}_{mu}": port(data, mu) for data, mu in ALL},
        runtime="0.9.5",
        network="lan",
        timeout_s=3600,
    ),
    *cells(
        "paper_lan",
        {f"loop-{data.name}_{mu}": loop(data, mu) for data, mu in ALL},
        network="lan",
        timeout_s=3600,
    ),
]


def test_measured_over_a_probed_link(cell: Cell, record: RunRecord) -> None:
    """Every inference was timed, and a shaped link was seen before and after it."""
    assert len(record.samples_s) == cell.repeats
    assert bool(record.link_before and record.link_after) is (cell.network != "loopback")
