"""The distribution of logit errors of tuned kernels under SPU's two truncations, over many inferences of a small model.

    python packages/vit_models/tests/spu/truncation_errors.py --inferences 1000 > errors.json

The model has random weights and 2 layers of 4 heads on 17 tokens; every inference has its own image and its own shares.
An inference has failed where a logit is off by more than 0.05: truncation that fails is off by whole units.
"""

import argparse
import json

import numpy as np
from two_parties import Parties

import vit_models as vm

FAILED = 0.05


def small():
    cfg = vm.ViTConfig("small", image_size=16, channels=1, patch=4, layers=2, heads=4, dim=64, num_classes=10)
    rng = np.random.default_rng(1)
    flat = vm.flatten(vm.init(cfg))
    for name, value in flat.items():
        if name.endswith(("qkv.kernel", "proj.kernel", "linear1.kernel", "linear2.kernel", "head.kernel")):
            flat[name] = rng.normal(0, 1.2 / np.sqrt(value.shape[0]), value.shape).astype(np.float32)
    return cfg, vm.unflatten(flat)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inferences", type=int, default=1000)
    parser.add_argument("--attention", default="softmax", choices=["softmax", "relu_softmax", "scale"])
    asked = parser.parse_args()
    cfg, params = small()
    shape = (asked.inferences + 256, 16, 16, 1)
    images = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    calibration = vm.calibrate(cfg, params, images[:256], attention=asked.attention)
    program = vm.export_program(
        cfg, params, attention=asked.attention, kernels="tuned_fxp", calibration=calibration, images=images[:1]
    )
    truth = np.asarray(vm.apply(cfg, params, images[256:], attention=asked.attention))
    found = {"model": cfg.to_dict(), "attention": asked.attention, "inferences": asked.inferences}
    for mode, local in (("communicating", False), ("local", True)):
        parties = Parties(program, local_truncation=local)
        logits = [parties.run(image[None])[0] for image in images[256:]]
        errors = np.abs(np.array(logits) - truth).max(axis=1)
        found[mode] = {
            "quantiles": {str(q): float(np.quantile(errors, q)) for q in (0.5, 0.9, 0.99, 0.999, 1.0)},
            "failed": int((errors > FAILED).sum()),
            "top1_changed": int((np.argmax(logits, 1) != truth.argmax(1)).sum()),
        }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
