"""What each tuned kernel buys: rounds and bytes of a private inference with one of them switched off alone.

    python packages/vit_models/tests/spu/ablation.py --config vit_7_4_32 --attention softmax

Random weights, SEMI2K FM64, two parties in this process: counted messages only, so no time means anything.
"""

import argparse
import importlib
import json
import os
import re
import sys
import tempfile
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from two_parties import run

import vit_models as vm
from vit_models.kernels.tuned import fits

forward = importlib.import_module("vit_models.kernels.tuned.forward")
folding = importlib.import_module("vit_models.kernels.tuned.folding")


def erf_gelu(x, form, checks):
    """SPU's own erf in place of the quartic."""
    _, count = forward.positive_parts([], checks)
    h = x * (1.0 / form.slope)
    return 0.5 * form.slope * h * (1.0 + jax.lax.erf(h * 0.5**0.5)), count


def power(u):
    """(1 + x / 256)^256, SPU's own exponential, in place of the quartic."""
    form, _ = fits.exp_root()
    x = (u + form.shift) * (16.0 / form.slope)
    return jnp.exp(x) * fits.EXP_TOP


def divided(x, octaves):
    """One division a row in place of octaves and quartic."""
    total = jnp.sum(x, axis=-1, keepdims=True)
    return x * (1.0 / total), total - 2.0**25


def batched_heads(self, qkv, rows, layer):
    """A batched product, which SPU computes head by head, in place of one product of all heads."""
    heads, width = self.cfg.heads, self.cfg.width
    q, k, v = jnp.split(qkv.reshape(-1, 3, heads, width).transpose(1, 2, 0, 3), 3)
    a = jnp.matmul(q[0, :, :rows], jnp.swapaxes(k[0], -1, -2))
    kinds = self.kinds[layer]
    parts = (
        [self._weights(kind, a[h : h + 1], layer) for h, kind in enumerate(kinds)]
        if len(set(kinds)) > 1
        else None
    )
    weights = self._weights(kinds[0], a, layer) if parts is None else jnp.concatenate(parts)
    return jnp.matmul(weights, v[0]).transpose(1, 0, 2).reshape(rows, -1)


def separate_squares(self, d, name, kernel):
    """Squares, then the product, in place of both in one call."""
    static = self.norms[name]
    u = forward.doubled(jnp.sum(d * d, axis=1, keepdims=True), static.times) - self.p[f"{name}.centre"]
    root = forward.product_form(u, self.p[f"{name}.linear"], self.p[f"{name}.constant"])
    return (d * root) @ kernel


WITHOUT = {
    "nothing": (),
    "the quartic GeLU": (mock.patch.object(forward, "gelu_with", erf_gelu),),
    "the quartic exponential": (mock.patch.object(forward, "exponential", power),),
    "normalisation by octaves": (mock.patch.object(forward, "normalise", divided),),
    "all heads in one product": (mock.patch.object(forward._Pass, "_attended", batched_heads),),
    "squares with the product": (mock.patch.object(forward._Pass, "_normed", separate_squares),),
}


def counted(program):
    """(rounds, bytes) of the first party."""
    with tempfile.TemporaryFile() as log:
        sys.stdout.flush()
        kept = [os.dup(i) for i in (1, 2)]
        for i in (1, 2):
            os.dup2(log.fileno(), i)
        try:
            run(program)
        finally:
            for i, copy in zip((1, 2), kept):
                os.dup2(copy, i)
        log.seek(0)
        text = log.read().decode(errors="replace")
    sent, rounds = re.findall(r"Link details: total send bytes (\d+), .*?send actions (\d+)", text)[0]
    return int(rounds), int(sent)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="vit_7_4_32")
    parser.add_argument("--attention", default="softmax", choices=["softmax", "relu_softmax", "scale"])
    asked = parser.parse_args()
    cfg = vm.get_config(asked.config)
    params = vm.init(cfg)
    shape = (8, cfg.image_size, cfg.image_size, cfg.channels)
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    calibration = vm.calibrate(cfg, params, images, attention=asked.attention)
    for name, patches in WITHOUT.items():
        for patch in patches:
            patch.start()
        program = vm.export_program(
            cfg,
            params,
            attention=asked.attention,
            kernels="tuned",
            calibration=calibration,
            images=images[:1],
        )
        rounds, sent = counted(program)
        for patch in patches:
            patch.stop()
        row = {
            "config": cfg.name,
            "attention": asked.attention,
            "without": name,
            "rounds": rounds,
            "bytes": sent,
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
