"""The effect of the presets of options: each on the same model, under the protocols that it is for.

A ViT of 50 tokens (`vit_4_4_28`, Softmax, exact GeLU, random weights) on tuned kernels (`tuned_he` under CHEETAH), SPU
0.9.5, on loopback and over `wan`. docs/running.md shows the results and what each preset sets.

Expected: ten minutes, most of it CHEETAH.
    pytest harness/experiments/open_presets.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell
from mpcvit_harness.open_models import cifar, smoke
from spu_bench import PRESETS, Options, RunRecord

KERNELS = {"semi2k": "tuned_fxp", "cheetah": "tuned_he"}

CELLS = [
    *(
        Cell(
            experiment="open_presets",
            name=name,
            model=cifar("softmax", config="vit_4_4_28", kernels=KERNELS[protocol]),
            protocol=protocol,
            network=network,
            options=Options.load(name),
            repeats=3,
            scale="paper",
            labels={"attention": "softmax", "kernels": KERNELS[protocol], "options": name},
        )
        for name, preset in PRESETS.items()
        for protocol in preset.protocols
        for network in ("loopback", "wan")
    ),
    smoke("open_presets", "private", cifar("scale"), options=Options.load("private")),
]


def test_logits_are_those_of_plaintext(record: RunRecord) -> None:
    assert record.accuracy is not None and record.accuracy.max_abs_error < 0.05
