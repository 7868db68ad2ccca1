"""CHEETAH on all seven layers: tuned kernels and the plain port, with weights private to the server.

CIFAR's ViT with Softmax and with Scale, random weights, exact GeLU, SPU 0.9.5, all with the options of the preset
`cheetah-lsb`. CHEETAH has no dealer: products are homomorphic, comparisons are oblivious transfers, and more seconds
are computing than waiting. The kernels `tuned_he` are made for that, `tuned_fxp` for few rounds.

Expected: on loopback, `tuned_he` takes at most half of the seconds of the plain port. Two hours, most of it the plain
port.
    pytest harness/experiments/open_cheetah.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.open_models import cifar, smoke
from spu_bench import Options, RunRecord

OPTIONS = Options.load("cheetah-lsb")
REPEATS = {"loopback": 3, "lan": 2, "wan": 2}

CELLS = [
    *(
        Cell(
            experiment="open_cheetah",
            name=f"{name}-{network}-{attention}",
            model=cifar(attention, kernels=kernels),
            protocol="cheetah",
            network=network,
            options=OPTIONS,
            repeats=REPEATS[network] if kernels == "tuned_he" else 1,
            timeout_s=7200,
            scale="paper",
            labels={"attention": attention, "kernels": kernels, "options": "cheetah-lsb"},
        )
        for name, kernels in (("plain", "plain"), ("tuned", "tuned_fxp"), ("tuned_he", "tuned_he"))
        for attention in ("softmax", "scale")
        for network in REPEATS
    ),
    smoke(
        "open_cheetah",
        "tuned_he",
        cifar("softmax", kernels="tuned_he"),
        protocol="cheetah",
        options=OPTIONS,
        repeats=1,
    ),
]


def test_logits_are_those_of_plaintext(record: RunRecord) -> None:
    assert record.accuracy is not None and record.accuracy.max_abs_error < 0.05
