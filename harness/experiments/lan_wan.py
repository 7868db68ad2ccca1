"""The models of the main table over `lan` and over `wan`, under SEMI2K and under Cheetah.

The paper says that MPCViT is faster over both kinds of network and under both protocols; its numbers could not be read.
`paper` has CIFAR-10's Softmax, ReLU-Softmax, MPCViT (mu .5) and ScaleAttn on SPU 0.3.1b0, as in its tables. `reduced`
has the small `vit_4_4_28` on SPU 0.9.5 with batched heads. `paper_breakdown` has one block of the CIFAR-10 model.

Expected: 1 inference a cell. Under SEMI2K half a minute a cell of `reduced`, and a cell of `paper` half a minute more
than its seconds in `paper_cifar10`; under Cheetah minutes each.
    pytest harness/experiments/lan_wan.py --executor netns --scale reduced --results results
    pytest harness/experiments/lan_wan.py -m paper --executor netns --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell, ModelSpec
from mpcvit_harness.paper_models import CIFAR10, TOY, cells, labelled, smoke
from spu_bench import RunRecord

PROTOCOLS = ("semi2k", "cheetah")
NETWORKS = ("lan", "wan")
SMALL = ModelSpec(config="vit_4_4_28", gelu="tanh")
HALF = ((1, 1, 0, 0),) * 4

REDUCED = {
    "softmax": labelled(SMALL),
    "relu_softmax": labelled(SMALL.model_copy(update={"attention": "relu_softmax"})),
    "mpcvit_0.5": labelled(SMALL.model_copy(update={"attention": "mix", "heads": HALF}), mu="0.5"),
    "scale": labelled(SMALL.model_copy(update={"attention": "scale"})),
}
PAPER = {
    "cifar10-softmax": labelled(CIFAR10.model("softmax"), dataset="cifar10"),
    "cifar10-relu_softmax": labelled(CIFAR10.model("relu_softmax"), dataset="cifar10"),
    "cifar10-mpcvit_0.5": labelled(CIFAR10.mpcvit(0.5), dataset="cifar10", mu="0.5"),
    "cifar10-scale": labelled(CIFAR10.model("scale"), dataset="cifar10"),
}

CELLS = [
    *(
        cell
        for protocol in PROTOCOLS
        for cell in smoke(
            "lan_wan", {"mpcvit_0.5": labelled(TOY.mpcvit(0.5), mu="0.5")}, runtime="0.9.5", protocol=protocol
        )
    ),
    *(
        cell
        for models, settings in (
            (REDUCED, {"runtime": "0.9.5", "scale": "reduced", "timeout_s": 1800}),
            (PAPER, {"timeout_s": 7200}),
        )
        for protocol in PROTOCOLS
        for network in NETWORKS
        for cell in cells("lan_wan", models, 1, protocol=protocol, network=network, **settings)
    ),
]


def test_logits_are_those_of_plaintext(cell: Cell, record: RunRecord) -> None:
    """Under every protocol and over every network; a shaped link was probed before and after."""
    assert record.accuracy is not None and record.accuracy.max_abs_error < 0.1
    assert bool(record.link_before and record.link_after) is (cell.network != "loopback")
