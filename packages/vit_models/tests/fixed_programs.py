"""Programs whose fingerprints are committed: every kernel set, and every way to change what is exported.

    python packages/vit_models/tests/fixed_programs.py      adds those of the installed JAX to fingerprints.json

Records of measurements are found by fingerprints, so what is exported must stay the same to the byte. The committed
ones leave out what depends on the processor: the logits, and the weights and calibration of the tuned kernels.
"""

import hashlib
import json
from pathlib import Path

import jax

import vit_models as vm
from vit_models.kernels.tuned_fxp import model_fingerprint
from vit_models.kernels.tuned_fxp.supported import TunedModel

FILE = Path(__file__).with_name("fingerprints.json")

TINY = vm.ViTConfig("tiny", image_size=8, channels=1, patch=4, layers=2, heads=2, dim=16, num_classes=3)
POOLED = vm.ViTConfig(
    "cct", image_size=8, layers=1, heads=2, dim=8, num_classes=3, conv=vm.ConvTokenizer(layers=2), pool="sequence"
)
HEADS = vm.AttentionPlan.from_heads([[1, 0], [0, 1]])
ROWS = vm.AttentionPlan.from_rows([[1, 0, 1, 1, 0]] * 2)
PLUS = HEADS.with_gelu([[0, 1, 1, 0, 1], [0] * 5])
RANGES = {"softmax": vm.Range(1.5, 3.0), "relu_softmax": vm.Range(0.5, 4.0), "scale": None}

PROGRAMS = {
    "plain softmax": (vm.Model(TINY), {}),
    "plain mix, two images": (vm.Model(TINY, plan=HEADS), {"batch": 2, "labels": [0, 2]}),
    "plain rows": (vm.Model(TINY, plan=ROWS), {}),
    "plain the_x": (vm.Model(TINY, "the_x"), {}),
    "plain MPCViT+": (vm.Model(TINY, plan=PLUS), {}),
    "plain MPCViT+, fused": (vm.Model(TINY, plan=PLUS), {"fuse": True}),
    "plain scale, public weights": (vm.Model(TINY, "scale", gelu="quad"), {"weights": "public"}),
    "plain pooled, two images": (vm.Model(POOLED), {"batch": 2}),
    "paper softmax": (vm.Model(TINY, "softmax"), {"kernels": "paper"}),
    "paper mix": (vm.Model(TINY, plan=HEADS), {"kernels": "paper"}),
    "paper MPCViT+, layers fused": (vm.Model(TINY, plan=PLUS, gelu="relu"), {"kernels": "paper", "fuse": "layers"}),
    "tuned_fxp softmax": (vm.Model(TINY), {"kernels": "tuned_fxp"}),
    "tuned_fxp mix, two images": (vm.Model(TINY, plan=HEADS), {"kernels": "tuned_fxp", "batch": 2}),
    "tuned_fxp scale without gelu": (vm.Model(TINY, "scale"), {"kernels": "tuned_fxp", "without": "gelu"}),
    "tuned_he softmax": (vm.Model(TINY), {"kernels": "tuned_he"}),
    "tuned_he mix, two images": (vm.Model(TINY, plan=HEADS), {"kernels": "tuned_he", "batch": 2}),
}


def fingerprint(name):
    """SHA-256 of what is exported under that name, except for what depends on the processor."""
    model, options = PROGRAMS[name]
    params = model.init(0)
    adapted = vm.get_kernels(options.get("kernels", "plain")).adapt is not None
    if adapted:
        options = {**options, "calibration": calibration(model, params)}
    manifest = model.export(params, **options).manifest()
    del manifest["outputs"], manifest["fingerprint"], manifest["made_by"]["jax"]
    if adapted:
        del manifest["made_by"]["calibration"]
        for argument in manifest["arguments"]:
            del argument["sha256"]
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def calibration(model, params):
    """A calibration with fixed ranges."""
    kinds = TunedModel.of(model).kinds
    return vm.Calibration(
        model=model_fingerprint(model, params),
        images=1,
        margin=1.25,
        tolerance=1e-2,
        pre=(vm.Range(0.5, 1.5),) * 2,
        norm1=(vm.Range(0.5, 2.0),) * 2,
        final=vm.Range(0.75, 1.5),
        rows=tuple(tuple(RANGES[kind] for kind in layer) for layer in kinds),
    )


def committed():
    """{JAX version: {name: fingerprint}}."""
    return json.loads(FILE.read_text())


if __name__ == "__main__":
    FILE.write_text(
        json.dumps({**committed(), jax.__version__: {n: fingerprint(n) for n in PROGRAMS}}, indent=1) + "\n"
    )
