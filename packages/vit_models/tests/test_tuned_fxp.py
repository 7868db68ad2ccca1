"""The tuned kernels over their domains, the calibration, and the Programs they make: plain JAX."""

import json
import math
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import vit_models as vm
from vit_models.kernels.tuned_fxp import PARTS, fits, functions

ULP = 2.0**-18
PLANS = {
    "scale": None,
    "relu_softmax": None,
    "softmax": None,
    "mix": vm.AttentionPlan.from_heads([[1, 0], [0, 1]]),
    "softmax_scale": vm.AttentionPlan.from_heads([[1, 1], [0, 0]]),
    "mix by layer": vm.AttentionPlan.from_layers([0, 1]),
}


def grid(lo, hi):
    """Every fixed-point number (18 fraction bits) of [lo, hi]."""
    return np.arange(math.ceil(lo / ULP), math.floor(hi / ULP) + 1) * ULP


def exact_gelu(x, name):
    if name == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.vectorize(math.erf)(x * math.sqrt(0.5)))


@pytest.mark.parametrize("name", ["exact", "tanh"])
def test_gelu_on_every_fixed_point_number(name, x64):
    form, bound = fits.gelu_gap(name)
    assert bound < 1.7e-3
    x = np.concatenate([grid(-8 * form.slope, 8 * form.slope), [-(2.0**25), 2.0**25]])
    y = np.asarray(functions.gelu(jnp.asarray(x), name)) / form.slope
    assert np.abs(y - exact_gelu(x / form.slope, name)).max() <= bound + 1e-9


def test_exponential_on_every_fixed_point_number(x64):
    form, bound = fits.exp_root()
    assert bound < 2e-3

    def at(lo, hi):
        u = grid(form.slope * lo / 16 - form.shift, form.slope * hi / 16 - form.shift)
        x = (u + form.shift) / form.slope * 16
        return np.asarray(functions.exponential(jnp.asarray(u))) / fits.EXP_TOP, x

    y, x = at(-21, 1)
    assert np.abs(y / np.exp(x) - 1).max() <= 1.01 * bound
    # No clamp: far below, the result stays negligible beside a row's largest entry.
    y, _ = at(-42, -21)
    assert y.min() >= 0 and y.max() < 1.01 * math.exp(-21)


@pytest.mark.parametrize("octaves", [functions.SOFTMAX_OCTAVES, functions.RELU_OCTAVES])
def test_normalise_over_all_its_octaves(octaves, x64):
    _, start, bound = fits.reciprocal_octave()
    assert bound < 3.1e-4
    low, high = octaves
    sums = start * np.exp(np.linspace(low * math.log(2), high * math.log(2), 20_001))[:-1]
    shares = np.random.default_rng(0).dirichlet(np.ones(5), len(sums))
    weights, beyond = functions.normalise(jnp.asarray(sums[:, None] * shares), octaves)
    assert np.abs(np.asarray(weights) / shares - 1).max() <= 1.01 * bound
    assert np.asarray(beyond).max() <= 0
    zero, _ = functions.normalise(jnp.zeros((1, 5)), octaves)
    assert not np.asarray(zero).any()
    _, beyond = functions.normalise(jnp.full((1, 5), start * 2.0**high), octaves)
    assert np.asarray(beyond).min() > 0


@pytest.mark.parametrize(("ratio", "levels"), [(3, 2), (4, 3), (16, 4), (72, 5), (190, 6)])
def test_inverse_square_root_over_its_range(ratio, levels, x64):
    lo, hi = 0.3, 0.3 * ratio
    width = fits.capacity_width(lo, hi)
    factors = fits.inverse_sqrt(lo, hi, width, levels)
    u = grid(-width, width)[:: 2 ** (levels - 2)]
    root = functions.product_form(jnp.asarray(u)[:, None], jnp.asarray(factors.linear), jnp.asarray(factors.constant))
    v = 0.5 * (hi + lo) + 0.5 * (hi - lo) * u / width
    error = np.abs(factors.gain * np.asarray(root)[:, 0] * np.sqrt(v) - 1).max()
    assert error <= 1.01 * factors.error + 1e-9 and factors.error < 1e-3
    # Neither the whole nor a part may come near the ring's limit, nor lose its bits.
    assert np.asarray(root).min() > 1 and np.asarray(root).max() < 100


def test_inverse_square_root_needs_a_positive_range():
    with pytest.raises(ValueError, match="range above zero"):
        fits.inverse_sqrt(0.0, 1.0, 1.0, 3)


@pytest.fixture
def model(tiny, lively, images_for):
    def make(name, **calibration):
        plan = PLANS[name]
        attention = name.split()[0]
        params = lively(vm.init(tiny))
        images = images_for(tiny, 64)
        made = vm.calibrate(tiny, params, images, plan=plan, attention=attention, **calibration)
        return {"cfg": tiny, "params": params, "plan": plan, "attention": attention}, images, made

    return make


@pytest.mark.parametrize("kernels", ["tuned_fxp", "tuned_he"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", PLANS)
def test_program_gives_the_logits_of_the_model(name, batch, kernels, model):
    spec, images, calibration = model(name)
    program = vm.export_program(**spec, kernels=kernels, calibration=calibration, images=images[:batch], batch=batch)
    cfg, params = spec.pop("cfg"), spec.pop("params")
    logits = np.asarray(vm.apply(cfg, params, images[:batch], **spec))
    np.testing.assert_allclose(program.outputs[0][1], logits, rtol=0, atol=2e-2)
    assert {a.holder for a in program.arguments} == {"server", "client"}
    assert program.made_by["calibration"] == calibration.fingerprint


@pytest.mark.parametrize("without", PARTS)
def test_every_part_can_be_left_out(without, model):
    spec, images, calibration = model("softmax")
    whole, left = (
        vm.export_program(**spec, kernels="tuned_fxp", calibration=calibration, images=images[:1], without=part)
        for part in (None, without)
    )
    assert left.module != whole.module and left.made_by["without"] == without
    np.testing.assert_allclose(left.outputs[0][1], whole.outputs[0][1], rtol=0, atol=2e-2)


def test_public_weights_give_the_same_logits(model):
    spec, images, calibration = model("softmax")
    made = {"kernels": "tuned_fxp", "calibration": calibration, "images": images[:1]}
    whole = vm.export_program(**spec, **made)
    public = vm.export_program(**spec, **made, weights="public")
    np.testing.assert_allclose(public.outputs[0][1], whole.outputs[0][1], rtol=0, atol=1e-3)


@pytest.mark.parametrize("kernels", ["tuned_fxp", "tuned_he"])
@pytest.mark.parametrize("gelu", ["erf", "tanh", "relu"])
def test_activations(gelu, kernels, model):
    spec, images, calibration = model("scale", gelu=gelu)
    program = vm.export_program(**spec, gelu=gelu, kernels=kernels, calibration=calibration, images=images[:1])
    logits = np.asarray(vm.apply(spec["cfg"], spec["params"], images[:1], attention="scale", gelu=gelu))
    np.testing.assert_allclose(program.outputs[0][1], logits, rtol=0, atol=2e-2)


@pytest.mark.parametrize("kernels", ["tuned_fxp", "tuned_he"])
def test_an_image_outside_the_calibration_is_marked(kernels, model):
    spec, images, calibration = model("scale")
    for factor in (1.7, 30):
        far = factor * images[:1]
        program = vm.export_program(**spec, kernels=kernels, calibration=calibration, images=far)
        # Floats overflow where a ring would wrap: no logit looks like one either way.
        assert not np.any(np.abs(program.outputs[0][1]) < 1000)


def test_calibration_crosses_json(model):
    _, _, calibration = model("mix")
    text = json.dumps(calibration.to_dict())
    assert vm.Calibration.from_dict(json.loads(text)) == calibration
    for spoilt in (
        {},
        [],
        {**json.loads(text), "schema": 2},
        {**json.loads(text), "final": {"lo": 2, "hi": 1}},
    ):
        with pytest.raises(ValueError, match="not a calibration"):
            vm.Calibration.from_dict(spoilt)


def test_what_does_not_fit_is_one_clear_error(model, tiny, lively, images_for):
    spec, images, calibration = model("mix")
    with pytest.raises(ValueError, match=r"need a calibration\. Fix: pass calibration="):
        vm.export_program(**spec, kernels="tuned_fxp")
    with pytest.raises(ValueError, match="take no calibration"):
        vm.export_program(**spec, kernels="plain", calibration=calibration)
    others = (
        {**spec, "plan": PLANS["softmax_scale"]},
        {**spec, "params": lively(vm.init(tiny), seed=8)},
        {**spec, "attention": "softmax_scale"},
    )
    for other in others:
        with pytest.raises(ValueError, match="another model"):
            vm.export_program(**other, kernels="tuned_fxp", calibration=calibration)
    with pytest.raises(ValueError, match="no part 'everything'"):
        vm.export_program(**spec, kernels="tuned_fxp", calibration=calibration, without="everything")
    with pytest.raises(ValueError, match=r"no part 'gelu' to leave out\. Fix: use kernels='tuned_fxp'"):
        vm.export_program(**spec, without="gelu")
    with pytest.raises(ValueError, match=r"no part 'gelu' to leave out\. Fix: use kernels='tuned_fxp'"):
        vm.export_program(**spec, kernels="tuned_he", calibration=calibration, without="gelu")
    with pytest.raises(ValueError, match="compute gelu exact"):
        vm.export_program(**spec, kernels="tuned_fxp", calibration=calibration, gelu="quad")
    for kernels in ("tuned_fxp", "tuned_he"):
        with pytest.raises(ValueError, match=f"kernels '{kernels}' exist only in an exported Program"):
            vm.apply(tiny, spec["params"], images[:1], kernels=kernels)
    rows = vm.AttentionPlan.from_rows([[1] * 5, [0] * 5])
    with pytest.raises(ValueError, match="heads or layers"):
        vm.calibrate(tiny, spec["params"], images, plan=rows)
    with pytest.raises(ValueError, match="not linformer_50"):
        vm.calibrate(tiny, spec["params"], images, attention="linformer_50")
    plus = replace(spec["plan"].with_gelu([0, 1]), post_relu=False)
    with pytest.raises(ValueError, match=r"gelu part\. Fix: use kernels='tuned'"):
        vm.export_program(**{**spec, "plan": plus}, kernels="tuned_fxp", calibration=calibration)
    cct = vm.ViTConfig(
        "cct", image_size=8, channels=1, layers=1, heads=2, dim=8, conv=vm.ConvTokenizer(), pool="sequence"
    )
    with pytest.raises(ValueError, match="patch embedding and a class token"):
        vm.calibrate(cct, vm.init(cct), images_for(cct))
    with pytest.raises(ValueError, match="not finite"):
        vm.calibrate(tiny, spec["params"], images * np.nan, attention="scale")
    tight = replace(calibration, tolerance=1e-12)
    with pytest.raises(ValueError, match="smaller margin, or raise tolerance"):
        vm.export_program(**spec, kernels="tuned_fxp", calibration=tight)
