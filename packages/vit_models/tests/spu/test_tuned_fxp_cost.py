"""Cost and error of the tuned kernels on SPU: rounds are exact numbers, and do not depend on the size."""

import re
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from two_parties import Parties, run, traffic

import vit_models as vm
from vit_models.kernels.tuned_fxp import fits, functions

GELU, _ = fits.gelu_gap("exact")
EXP, _ = fits.exp_root()
SCORES = np.random.default_rng(0).normal(0, 2, (6, 9))
TOP = SCORES - SCORES.max() - 1
HALF = vm.AttentionPlan.from_heads([[1, 0], [1, 0]])


def program(function, *values):
    values = [np.asarray(v, dtype=np.float32) for v in values]
    arguments = tuple(vm.Argument(f"a{i}", "server", v) for i, v in enumerate(values))
    expected = np.asarray(function(*map(jnp.asarray, values)))
    return vm.Program("kernel", vm.lower_to_hlo(function, values), arguments, (("logits", expected),))


KERNELS = {
    "gelu": (12, functions.gelu, GELU.slope * np.linspace(-6, 6, 99)),
    "exponential": (12, functions.exponential, EXP.slope * TOP / 16 - EXP.shift),
    "softmax": (
        28,
        lambda u: functions.normalise(functions.exponential(u), functions.SOFTMAX_OCTAVES)[0],
        EXP.slope * TOP / 16 - EXP.shift,
    ),
    "relu_softmax": (
        24,
        lambda a: functions.normalise(jnp.maximum(a, 0.0), functions.RELU_OCTAVES)[0],
        SCORES,
    ),
    "inverse_sqrt": (
        6,
        lambda u: functions.product_form(u, *map(jnp.asarray, INVERSE_SQRT)),
        np.linspace(-1, 1, 9)[:, None],
    ),
}
_FACTORS = fits.inverse_sqrt(1.0, 9.0, 1.0, 3)
INVERSE_SQRT = (_FACTORS.linear.astype(np.float32), _FACTORS.constant.astype(np.float32))


@pytest.mark.parametrize("name", KERNELS)
def test_rounds_and_fixed_point_error_of_a_kernel(name, capfd):
    rounds, function, values = KERNELS[name]
    made = program(function, values)
    sent = traffic(made, capfd)[1]
    assert sent == rounds
    expected = made.outputs[0][1]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(run(made) / scale, expected / scale, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("attention", "alpha", "rounds"),
    [
        ("scale", None, 94),
        ("softmax", None, 150),
        ("mix", [[1, 0], [0, 1]], 142),
        ("mix", [[1, 1], [0, 0]], 118),
    ],
)
def test_rounds_and_error_of_a_model(attention, alpha, rounds, tiny, images_for, capfd):
    plan = None if alpha is None else vm.AttentionPlan.from_heads(alpha)
    params, images = vm.init(tiny), images_for(tiny, 64)
    calibration = vm.calibrate(tiny, params, images, plan=plan, attention=attention, tolerance=1e-2)
    made = vm.export_program(
        tiny,
        params,
        plan=plan,
        attention=attention,
        kernels="tuned_fxp",
        calibration=calibration,
        images=images[:1],
    )
    assert traffic(made, capfd)[1] == rounds
    logits = vm.apply(tiny, params, images[:1], plan=plan, attention=attention)
    np.testing.assert_allclose(run(made), logits, rtol=0, atol=2e-2)


def test_under_cheetah_products_send_less(tiny, images_for, capfd):
    """The same logits with other products: the server's weights stay plaintext, and no zeros are encrypted."""
    cfg = replace(tiny, image_size=32)
    params, images = vm.init(cfg), images_for(cfg, 64)
    calibration = vm.calibrate(cfg, params, images, attention="mix", plan=HALF, tolerance=1e-2)
    spec = {"plan": HALF, "attention": "mix", "calibration": calibration, "images": images[:1]}
    logits = vm.apply(cfg, params, images[:1], plan=HALF, attention="mix")
    sent = {}
    for kernels in ("tuned_fxp", "tuned_he"):
        parties = Parties(vm.export_program(cfg, params, kernels=kernels, **spec), profile=True, cheetah=True)
        parties.run(images[:1])  # with keys, which are for all later ones too
        capfd.readouterr()
        np.testing.assert_allclose(parties.run(images[:1]), logits, rtol=0, atol=2e-2)
        log = "".join(capfd.readouterr())
        products = re.findall(r"- pphlo\.dot(?:_general)?, .*?send bytes (\d+)", log)
        assert products, log[-2000:]
        sent[kernels] = sum(map(int, products))
    assert sent["tuned_he"] < 0.8 * sent["tuned_fxp"], sent
