"""The ring kernels in exact whole-number simulation: each over its whole domain, and whole models."""

import json
import math
import re
from dataclasses import replace

import jax
import numpy as np
import pytest

import vit_models as vm
from vit_models import Range
from vit_models.kernels import ring
from vit_models.kernels.ring import arithmetic, gelu, norm, polynomials, weights
from vit_models.kernels.tuned_fxp import fits

PLANS = {
    "scale": None,
    "relu_softmax": None,
    "softmax": None,
    "mix": vm.AttentionPlan.from_heads([[1, 0], [0, 1]]),
    "softmax_scale": vm.AttentionPlan.from_heads([[1, 1], [0, 0]]),
    "softmax+relu_softmax": vm.AttentionPlan.from_heads([[1, 0], [0, 1]]),
    "mix by layer": vm.AttentionPlan.from_layers([0, 1]),
}
ERROR = 0.05


def exact(seed=0):
    return arithmetic.ExactRing(np.random.default_rng(seed))


@pytest.fixture(scope="module")
def models(tiny, lively, images_for):
    """name -> (model, parameters, images, calibration), each calibrated once."""
    made = {}

    def make(name, gelu="exact", plan=None):
        key = name, gelu, plan
        if key not in made:
            model = vm.Model(tiny, name.split()[0], plan or PLANS[name], gelu)
            params, images = lively(model.init(0)), images_for(tiny, 64)
            made[key] = model, params, images, model.calibrate(params, images, error=ERROR)
        return made[key]

    return make


def test_products_wrap_as_the_ring_does():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-(2**63), 2**63, shape) for shape in ((3, 300), (300, 4)))
    expected = (a.astype(object) @ b.astype(object)) % 2**64
    assert ((exact().dot(a, b).astype(object) - expected) % 2**64 == 0).all()


@pytest.mark.parametrize("bits", [0, 7, 40])
def test_truncation_is_off_by_less_than_one(bits):
    x = np.random.default_rng(0).integers(-(2 ** (22 + bits)), 2 ** (22 + bits), 5000)
    (cut,) = arithmetic.truncate(exact(), [(x, bits)])
    assert np.abs(cut - x / 2.0**bits).max() < 1
    # Rounded at random: no bias.
    assert abs((cut - x / 2.0**bits).mean()) < 0.03


@pytest.mark.parametrize("name", ["exact", "tanh"])
@pytest.mark.parametrize(("degree", "bound"), [(4, 1.5), (4, 3.0), (8, 1.5), (8, 4.0), (16, 3.0), (16, 6.0), (32, 8.0)])
def test_gelu_on_every_number_of_its_range(name, degree, bound):
    form = polynomials.even_form(name, degree, bound)
    scale = 2.0**10
    plan = gelu.GeluPlan.of(form, scale)
    x = np.arange(-int(scale * bound), int(scale * bound) + 1)[:, None]
    y, guard = gelu.gelu(exact(), plan, x)
    truth = x / scale * 0.5 * (1 + polynomials.gate(name, x / scale))
    noise = np.abs(y / plan.result - truth).max() - form.error
    assert noise < 0.02 * max(1.0, bound / 3), noise
    assert (guard <= plan.limit * 0.01).all()
    # One channel outside lifts the sum of its group.
    _, guard = gelu.gelu(exact(), plan, np.array([[1.2 * bound * scale], [-1.2 * bound * scale]]).astype(np.int64))
    assert (guard > 0).all()


def test_exponential_over_its_domain():
    form, bound = fits.exp_root()
    x = np.linspace(-21, 1, 20_001)
    one = 2.0 ** (weights.SCORE_BITS + weights.SCORE_CUT)
    u = np.rint((form.slope * x / 16 - form.shift) * one).astype(np.int64)
    y = weights.exponential(exact(), u) / (fits.EXP_TOP * 2.0**weights.SUM_BITS)
    off = np.abs(y / np.exp(x) - 1)
    assert off[x > -8].max() < bound + 0.01
    assert off.max() < bound + 0.08
    # No clamp: far below, the result stays negligible beside a row's largest entry.
    u = np.rint((form.slope * np.linspace(-42, -21, 2001) / 16 - form.shift) * one).astype(np.int64)
    y = weights.exponential(exact(), u) / (fits.EXP_TOP * 2.0**weights.SUM_BITS)
    assert y.min() >= 0 and y.max() < 1.1 * math.exp(-21)


@pytest.mark.parametrize("octaves", [weights.SOFTMAX_OCTAVES, weights.RELU_OCTAVES])
def test_normalise_over_all_its_octaves(octaves):
    sums = 2.0 ** np.linspace(octaves.low, octaves.high, 4001)[:-1]
    shares = np.random.default_rng(0).dirichlet(np.ones(5), len(sums))
    x = np.rint(sums[:, None] * shares * 2.0**octaves.bits).astype(np.int64)
    got, beyond = weights.normalise(exact(), x, octaves)
    assert np.abs(got / weights.RESULT - x / x.sum(1, keepdims=True)).max() < 1e-3
    assert beyond.max() <= 0
    zero, _ = weights.normalise(exact(), np.zeros((1, 5), np.int64), octaves)
    assert not zero.any()
    _, beyond = weights.normalise(exact(), np.full((1, 5), int(2.0 ** (octaves.high + octaves.bits))), octaves)
    assert beyond.min() > 0


@pytest.mark.parametrize("ratio", [1.5, 2.2, 4.0, 16.0, 72.0, 190.0])
@pytest.mark.parametrize("class_factor", [None, 40.0])
def test_layer_norm_over_its_range(ratio, class_factor):
    rng, rows, channels = np.random.default_rng(0), 33, 64
    variance = np.exp(np.linspace(0, math.log(ratio), rows))
    x = rng.normal(size=(rows, channels))
    x -= x.mean(1, keepdims=True)
    x *= np.sqrt(variance / x.var(1))[:, None]
    if class_factor:
        x[0] *= math.sqrt(class_factor)
    ranges = norm.TokenRange(Range(class_factor, class_factor) if class_factor else None, Range(1.0, ratio))
    fit = norm.NormFit.of(ranges, 1.05, 1e-3)
    plan, arrays, root = fit.fold(2.0**24 * channels, 2.0**22)
    d = np.rint(x * 2.0**12).astype(np.int64)
    kernel = np.rint(np.eye(channels) * 2.0**10).astype(np.int64)
    whole = {name: value.astype(np.int64) for name, value in arrays.items()}
    first = np.arange(rows) == 0
    for joint in (True, False):
        out, checks = norm.norm_product(exact(), plan, whole, d, kernel, first, skip_class=False, joint=joint)
        truth = x / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        assert np.abs(out / (root * 2.0**22) - truth).max() < (0.01 if ratio < 100 else 0.03)
        assert max(c.max() for c in checks) <= 0


@pytest.mark.parametrize("name", PLANS)
def test_simulated_logits_are_those_of_the_model(name, models):
    model, params, images, calibration = models(name)
    logits = ring.simulate(ring.folded(model, params, calibration), images[:8])
    np.testing.assert_allclose(logits, model.apply(params, images[:8]), rtol=0, atol=ERROR)
    assert calibration.ring.logit_error <= ERROR and calibration.ring.headroom < 1


@pytest.mark.parametrize("gelu", ["erf", "tanh", "relu", "quad", "identity"])
def test_activations(gelu, models):
    model, params, images, calibration = models("scale", gelu)
    logits = ring.simulate(ring.folded(model, params, calibration), images[:8])
    np.testing.assert_allclose(logits, model.apply(params, images[:8]), rtol=0, atol=ERROR)


@pytest.mark.parametrize("gelu", ["exact", "relu"])
@pytest.mark.parametrize("beta", [[0, 1], [1, 0], [0, 0], [[1, 0, 1, 0, 0], [0, 1, 1, 1, 1]]])
def test_mpcvit_plus(beta, gelu, models):
    plan = replace(PLANS["mix"].with_gelu(beta), post_relu=False)
    model, params, images, calibration = models("mix", gelu, plan)
    program = ring.folded(model, params, calibration)
    logits = ring.simulate(program, images[:8])
    np.testing.assert_allclose(logits, model.apply(params, images[:8]), rtol=0, atol=ERROR)
    if isinstance(beta[0], int):
        # Where no token keeps the activation, both linears are one matrix.
        names = [f"blocks.{i}.linear2.kernel" in program.arrays for i in range(2)]
        assert names == [bool(b) for b in beta]


def test_images_side_by_side_have_the_logits_of_each(models):
    model, params, images, calibration = models("mix")
    program = ring.folded(model, params, calibration)
    from vit_models.kernels.ring.ring_pass import RingPass

    real = RingPass(program.plan, program.arrays, arithmetic.RealRing())
    each = np.concatenate([real(images[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(real(images[:3]), each, rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [1.7, 3.0])
@pytest.mark.parametrize("name", ["scale", "softmax"])
def test_an_image_outside_the_calibration_is_marked(name, factor, models):
    model, params, images, calibration = models(name)
    logits = ring.simulate(ring.folded(model, params, calibration), factor * images[:2])
    assert not np.any(np.abs(logits) < 100)


@pytest.mark.parametrize("degree", polynomials.DEGREES)
def test_hidden_values_outside_are_marked_at_every_degree(degree, models):
    model, params, images, calibration = models("scale")
    tokens = tuple(replace(t, bound=0.7 * t.hidden) for t in calibration.tokens)
    narrow = replace(calibration, tokens=tokens, ring=replace(calibration.ring, degrees=(degree,) * 2))
    logits = ring.simulate(ring.folded(model, params, narrow), images)
    assert (np.abs(logits) > 100).all(axis=1).any()


def test_program_says_what_it_needs_and_reveals_nothing(models):
    model, params, images, calibration = models("mix")
    program = model.export(params, kernels="tuned", calibration=calibration, images=images[:1])
    assert program.manifest()["runtime_options"] == {
        "protocol": "semi2k",
        "field": "FM64",
        "fxp_fraction_bits": arithmetic.FRACTION_BITS,
        "trunc_allow_msb_error": False,
    }
    assert {a.holder for a in program.arguments} == {"server", "client"}
    assert {a.value.dtype.name for a in program.arguments if a.holder == "server"} == {"int64"}
    np.testing.assert_allclose(program.outputs[0][1], model.apply(params, images[:1]), rtol=0, atol=1e-5)
    # No custom call: nothing asks the runtime to open, keep or print a value.
    assert not re.search(rb"custom-call|outfeed|infeed", program.module)
    assert jax.config.jax_enable_x64 is False


def test_calibration_crosses_json(models):
    *_, calibration = models("mix")
    assert vm.Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


def test_what_does_not_fit_is_one_clear_error(models):
    model, params, _, calibration = models("scale")
    with pytest.raises(vm.ModelError, match=r"secret weights only\. Fix: use weights='server'"):
        model.export(params, kernels="tuned", calibration=calibration, weights="public")
    relu_after = replace(PLANS["mix"].with_gelu([0, 1]), post_relu=True)
    with pytest.raises(vm.ModelError, match="plan with post_relu"):
        vm.Model(model.config, "mix", relu_after).calibrate(params, np.zeros((1, 8, 8, 1)))
    with pytest.raises(vm.ModelError, match="need a calibration"):
        model.export(params, kernels="tuned")
    with pytest.raises(vm.ModelError, match="no ranges for whole-number kernels"):
        model.export(params, kernels="tuned", calibration=replace(calibration, ring=None))
    off = replace(calibration, ring=replace(calibration.ring, logit_error=1.0))
    with pytest.raises(vm.ModelError, match="off by 1 in calibration"):
        model.export(params, kernels="tuned", calibration=off)
    full = replace(calibration, ring=replace(calibration.ring, headroom=1.5))
    with pytest.raises(vm.ModelError, match="times the room of the ring"):
        model.export(params, kernels="tuned", calibration=full)
