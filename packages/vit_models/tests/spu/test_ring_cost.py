"""The ring kernels on two SPU parties: rounds and bytes are the counted ones, values those of the simulation."""

import jax.numpy as jnp
import numpy as np
import pytest
from two_parties import Parties, run, traffic

import vit_models as vm
from vit_models.hlo import wide_integers
from vit_models.kernels import ring
from vit_models.kernels.ring import RUNTIME, arithmetic, gelu, polynomials, weights

RNG = np.random.default_rng(0)
FORM = polynomials.even_form("exact", 8, 4.0)
GELU = gelu.GeluPlan.of(FORM, 2.0**10)
SUMS = 2.0 ** RNG.uniform(-6, 18, (40, 1)) * RNG.dirichlet(np.ones(7), 40)
ONE = 2.0 ** (weights.SCORE_BITS + weights.SCORE_CUT)

KERNELS = {
    "truncation": (1, lambda r, x: arithmetic.truncate(r, [(x, 33)])[0], RNG.integers(-(2**54), 2**54, (9, 5))),
    "gelu": (4, lambda r, x: gelu.gelu(r, GELU, x)[0], RNG.integers(-4096, 4097, (9, 16))),
    "exponential": (10, weights.exponential, np.rint(RNG.uniform(-0.4, 0.3, (9, 9)) * ONE).astype(np.int64)),
    "normalise": (
        13,
        lambda r, x: weights.normalise(r, x, weights.SOFTMAX_OCTAVES)[0],
        np.rint(SUMS * 2.0**weights.SUM_BITS).astype(np.int64),
    ),
    "comparison": (8, lambda r, x: r.positive(x), RNG.integers(-(2**61), 2**61, (9, 5))),
}
NOISE = {"truncation": 1, "comparison": 0}
"""Largest difference of two runs that round at random; a share of the largest value for the other kernels."""


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_costs_what_is_counted_and_gives_what_is_simulated(name, capfd):
    rounds, kernel, x = KERNELS[name]
    with wide_integers():
        module = vm.lower_to_hlo(lambda v: kernel(arithmetic.SpuRing(), jnp.asarray(v)), [x])
    made = vm.Program("kernel", module, (vm.Argument("x", "server", x),), (), runtime_options=RUNTIME)
    counted = arithmetic.RealRing()
    kernel(counted, x.astype(np.float64))
    assert counted.rounds == rounds
    assert traffic(made, capfd) == (counted.sent, counted.rounds)
    simulated = kernel(arithmetic.ExactRing(np.random.default_rng(1)), x)
    off = np.abs(run(made) - simulated).max()
    assert off <= NOISE.get(name, 0.01 * np.abs(simulated).max())


MODELS = {
    "scale": None,
    "softmax": None,
    "relu_softmax": None,
    "mix": vm.AttentionPlan.from_heads([[1, 0], [0, 1]]),
}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("attention", MODELS)
def test_a_model_costs_what_is_counted_and_gives_its_logits(attention, batch, tiny, images_for, capfd):
    model = vm.Model(tiny, attention, MODELS[attention])
    params, images = model.init(0), images_for(tiny, 64)
    calibration = model.calibrate(params, images)
    made = model.export(params, kernels="tuned", calibration=calibration, images=images[:batch], batch=batch)
    sent, rounds = traffic(made, capfd)
    assert (rounds, sent) == ring.traffic(ring.folded(model, params, calibration), images[:batch])
    parties = Parties(made)
    for start in (0, 10, 20):
        part = images[start : start + batch]
        np.testing.assert_allclose(parties.run(part), model.apply(params, part), rtol=0, atol=0.01)


def test_an_image_outside_the_calibration_is_marked(tiny, images_for):
    model = vm.Model(tiny, "scale")
    params, images = model.init(0), images_for(tiny, 64)
    calibration = model.calibrate(params, images)
    made = model.export(params, kernels="tuned", calibration=calibration, images=images[:1])
    parties = Parties(made)
    assert np.abs(parties.run(images[:1])).max() < 10
    assert np.abs(parties.run(2.0 * images[:1])).min() > 100
