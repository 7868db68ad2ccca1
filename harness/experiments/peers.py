"""One model on CrypTen, on a plain SPU port and on ours: the same weights, the same probed link, one after the other.

CIFAR's ViT with Softmax, with Scale and with a mix (two of four heads in every layer ReLU-Softmax, the rest Scale),
random weights, batch 1. CrypTen 0.4.1 (trusted first party, like SPU's default) runs with its defaults, and with the
Newton steps for 1/sqrt that LayerNorm requires (`sqrt_nr_iters`). Its erf is wrong, so its GeLU is the tanh form; the
plain port runs with exact GeLU, as a straight port would, and with tanh. Each error is against plaintext of the same
functions. Trained weights show what the settings are for: 64 test images on the small model of the main job.

Expected: on CrypTen 1,556 rounds of four one-way delays for Softmax and 751 for Scale, so about 130 s and 64 s over
`wan`; on the plain port 2,939 rounds of one delay for Softmax, about 71 s, and fewer for the others. 90 minutes, most
of it CrypTen over `wan`.
    mpc-search retrain --get-data --model vit_4_4_28 --attention mix --out build/checkpoints/vit_4_4_28
    spu-bench runtime install crypten-0.4.1
    pytest harness/experiments/peers.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from typing import Any

from mpcvit_harness.cells import Cell, Heads, ModelSpec
from spu_bench import Options, RunRecord

HALF: Heads = ((1, 1, 0, 0),) * 7
ATTENTIONS = ("softmax", "scale", "mix")
REPEATS = {"wan": 1, "lan": 3, "loopback": 3}

LOCAL_TRUNCATION = Options(runtime={"trunc_allow_msb_error": True})
CRYPTEN = {"runtime": "crypten-0.4.1", "protocol": "beaver"}
SYSTEMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "crypten": ({"gelu": "tanh"}, CRYPTEN),
    "crypten-accurate": (
        {"gelu": "tanh"},
        {**CRYPTEN, "options": Options(runtime={"functions": {"sqrt_nr_iters": 8}})},
    ),
    "plain": ({"gelu": "exact"}, {}),
    "plain-tanh": ({"gelu": "tanh"}, {}),
    "tuned": ({"gelu": "exact", "kernels": "tuned_fxp"}, {}),
    "tuned-local_truncation": ({"gelu": "exact", "kernels": "tuned_fxp"}, {"options": LOCAL_TRUNCATION}),
}
"""What runs: by name, how the model is exported and what it is run on."""


def model(attention: str, **export: Any) -> ModelSpec:
    """The model with `attention`."""
    return ModelSpec(config="vit_7_4_32", attention=attention, heads=HALF if attention == "mix" else None, **export)


TRAINED = ModelSpec(config="vit_4_4_28", weights="checkpoint:vit_4_4_28", gelu="tanh")

TOY = {"layers": 1, "dim": 16, "patch": 16}

CELLS = [
    *(
        Cell(
            experiment="peers",
            name=f"{system}-toy",
            model=model("softmax", **SYSTEMS[system][0], overrides=TOY),
            timeout_s=300,
            labels={"system": system, "attention": "softmax"},
            **SYSTEMS[system][1],
        )
        for system in ("crypten-accurate", "plain", "tuned")
    ),
    *(
        Cell(
            experiment="peers",
            name=f"{network}-{system}-{attention}",
            model=model(attention, **export),
            network=network,
            repeats=repeats,
            scale="paper",
            labels={"system": system, "attention": attention},
            **run,
        )
        for system, (export, run) in SYSTEMS.items()
        for attention in ATTENTIONS
        for network, repeats in REPEATS.items()
    ),
    *(
        Cell(
            experiment="peers",
            name=f"{system}-trained",
            model=TRAINED,
            images=64,
            scale="paper",
            labels={"system": system, "attention": "mix", "run": "vit_4_4_28"},
            **run,
        )
        for system, (export, run) in SYSTEMS.items()
        if export["gelu"] == TRAINED.gelu
    ),
]


def test_logits_are_those_of_plaintext(cell: Cell, record: RunRecord) -> None:
    """Except CrypTen's at its defaults, whose error is a result."""
    assert record.accuracy is not None
    assert cell.labels["system"] == "crypten" or record.accuracy.max_abs_error < 0.05
