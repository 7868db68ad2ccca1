"""The cost of each attention variant: one row per variant, the same model around it.

The paper's attention table (accuracy and latency of Softmax, ReLU-Softmax, Scale, 2Quad, Sparsemax, XNorm, ...) could
not be read; this is its latency (`accuracy_variants` has the accuracy), on the small `vit_4_4_28` (50 tokens): random
weights, tanh GeLU, batched heads, SEMI2K on SPU 0.9.5. A mix has two of four heads in every layer on its first kind.
Fewer heads: ReLU-Softmax with two heads of 16.

Expected: ScaleAttn is the cheapest of those with scores, Softmax and Sparsemax are the most expensive. About 15
minutes.
    pytest harness/experiments/variants.py --executor netns --scale reduced --results results
"""

from __future__ import annotations

from mpcvit_harness.cells import Cell, Heads, ModelSpec
from spu_bench import RunRecord

HALF: Heads = ((1, 1, 0, 0),) * 4
MIXES = ("mix", "softmax_scale")
VARIANTS = (
    *("softmax", "relu_softmax", "scale", "scale_linear", "two_quad", "two_quad_c0", "two_relu", "the_x"),
    *("linformer_30", "linformer_50", "linformer_70", "sparsemax", "xnorm", "hydra", *MIXES),
)


def model(attention: str) -> ModelSpec:
    """The small model with `attention`."""
    heads = HALF if attention in MIXES else None
    return ModelSpec(config="vit_4_4_28", attention=attention, heads=heads, gelu="tanh")


FEWER_HEADS = ModelSpec(
    config="vit_4_4_28", overrides={"heads": 2, "head_dim": 16}, attention="relu_softmax", gelu="tanh"
)
MODELS = {**{name: model(name) for name in VARIANTS}, "relu_softmax-2-heads": FEWER_HEADS}

TOY = {"layers": 1, "dim": 16, "patch": 14}

CELLS = [
    *(
        Cell(
            experiment="variants",
            name=f"toy-{name}",
            model=model(name).model_copy(update={"overrides": TOY}),
            warmup=0,
            timeout_s=300,
            labels={"attention": name},
        )
        for name in ("relu_softmax", "two_quad")
    ),
    *(
        Cell(
            experiment="variants",
            name=name,
            model=spec,
            network=network,
            warmup=0,
            scale="reduced",
            timeout_s=900,
            labels={"attention": spec.attention, "form": name},
        )
        for name, spec in MODELS.items()
        for network in ("wan", "lan")
    ),
]


def test_logits_are_those_of_plaintext(cell: Cell, record: RunRecord) -> None:
    """Every variant computes under MPC what it computes in plaintext."""
    assert record.accuracy is not None and record.accuracy.max_abs_error < 0.05
