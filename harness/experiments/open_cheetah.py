"""CHEETAH on all seven layers: tuned kernels beside the plain port, the weights private to the server.

CIFAR's ViT with Softmax and with Scale, random weights, exact GeLU, SPU 0.9.5. CHEETAH has no dealer: products are
homomorphic, comparisons are oblivious transfers, and seconds are computing more than waiting. `softspoken` has the
preset `cheetah-softspoken`, the others SPU's own choice of oblivious transfers.

Expected: on loopback, `tuned_softspoken` takes at most half of the plain port's seconds. Two and a half hours, most of
it the plain Softmax.
    pytest harness/experiments/open_cheetah.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.open_division import cifar, smoke
from spu_bench import RunRecord
from spu_bench.options import PRESETS

SYSTEMS = {
    "plain": ("plain", "private", 1),
    "plain_softspoken": ("plain", "cheetah-softspoken", 1),
    "tuned": ("tuned", "private", 3),
    "tuned_softspoken": ("tuned", "cheetah-softspoken", 3),
}
"""By name the kernels, the options and the repeats; over `wan`, where an inference takes minutes, it is one."""

CELLS = [
    *(
        Cell(
            experiment="open_cheetah",
            name=f"{system}-{network}-{attention}",
            model=cifar(attention, kernels=kernels),
            protocol="cheetah",
            network=network,
            options=PRESETS[options].options,
            repeats=1 if network == "wan" else repeats,
            timeout_s=7200,
            scale="paper",
        )
        for system, (kernels, options, repeats) in SYSTEMS.items()
        for attention in ("softmax", "scale")
        for network in ("loopback", "lan", "wan")
    ),
    smoke(
        "open_cheetah",
        "tuned",
        cifar("scale"),
        protocol="cheetah",
        options=PRESETS["cheetah-softspoken"].options,
        repeats=1,
    ),
]


def test_logits_are_those_of_plaintext(record: RunRecord) -> None:
    assert record.accuracy is not None and record.accuracy.max_abs_error < 0.05
