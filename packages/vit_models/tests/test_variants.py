"""Each variant against its formula written out in NumPy, and every variant at every granularity."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

import vit_models as vm
from vit_models.kernels import get_kernels
from vit_models.variants import Env, attend, variant

B, H, N, D = 2, 3, 7, 4
RNG = np.random.default_rng(11)
Q, K, V = (RNG.normal(size=(B, H, N, D)) for _ in range(3))
A = Q @ K.swapaxes(-1, -2) / np.sqrt(D)


def relu(x):
    return np.maximum(x, 0)


def rows(x):
    return x / x.sum(-1, keepdims=True)


def softmax(x):
    return rows(np.exp(x))


def sparsemax(a):
    """By its optimality conditions: the largest support whose threshold keeps every member positive."""
    out = np.zeros_like(a)
    for index in np.ndindex(a.shape[:-1]):
        z = np.sort(a[index])[::-1]
        support = max(j for j in range(1, len(z) + 1) if 1 + j * z[j - 1] > z[:j].sum())
        out[index] = relu(a[index] - (z[:support].sum() - 1) / support)
    return out


def unit(x):
    return x / np.sqrt((x**2).sum(-1, keepdims=True) + 1e-5)


T = {}
for _i, (_inputs, _outputs) in enumerate([(1, 64), (64, 128), (128, N)], start=1):
    T[f"t{_i}_kernel"] = RNG.normal(0, 0.1, (_inputs, _outputs))
    T[f"t{_i}_bias"] = RNG.normal(0, 0.1, _outputs)
E_ = {"e": RNG.normal(size=(3, N))}
GAMMA = {"gamma": RNG.normal(size=(H, 1, 1))}


def the_x():
    s = relu((A / 2 + 1) ** 3).sum(-1, keepdims=True)
    for i in (1, 2, 3):
        s = s @ T[f"t{i}_kernel"] + T[f"t{i}_bias"]
    return A * s @ V


def linformer():
    return softmax(Q @ (E_["e"] @ K).swapaxes(-1, -2) / np.sqrt(D)) @ (E_["e"] @ V)


EXPECTED = {
    "softmax": lambda: softmax(A) @ V,
    "relu_softmax": lambda: relu(A) / (relu(A).sum(-1, keepdims=True) + 1e-5) @ V,
    "scale": lambda: A / N @ V,
    "scale_linear": lambda: A / N @ V,
    "two_quad": lambda: rows((A + 5) ** 2) @ V,
    "two_quad_c0": lambda: A**2 / ((A**2).sum(-1, keepdims=True) + 1e-5) @ V,
    "two_relu": lambda: rows(relu(A) + 1e-3) @ V,
    "the_x": the_x,
    "linformer_30": linformer,
    "linformer_50": linformer,
    "linformer_70": linformer,
    "sparsemax": lambda: sparsemax(A) @ V,
    "xnorm": lambda: (GAMMA["gamma"] * unit(Q)) @ (GAMMA["gamma"] * unit(K.swapaxes(-1, -2) @ V)),
    "hydra": lambda: unit(Q) * (unit(K) * V).sum(-2, keepdims=True),
}
EXTRA = {"the_x": T, "linformer_30": E_, "linformer_50": E_, "linformer_70": E_, "xnorm": GAMMA}


def test_every_variant_has_a_formula_here():
    assert set(EXPECTED) == set(vm.VARIANTS)


@pytest.mark.parametrize("name", EXPECTED)
def test_formula(name, x64):
    extra = {k: jnp.asarray(v) for k, v in EXTRA.get(name, {}).items()}
    env = Env(extra, get_kernels("plain"))
    out = attend(variant(name), *(jnp.asarray(x) for x in (Q, K, V)), env)
    np.testing.assert_allclose(out, EXPECTED[name](), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", EXPECTED)
def test_docstring_says_formula_and_source(name):
    v = variant(name)
    text = (v.weights or v.context).__doc__
    assert "Source" in text or "MPCFormer" in text or "paper" in text


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 65])
def test_sparsemax_of_any_length_is_a_distribution(n):
    a = jnp.asarray(np.random.default_rng(n).normal(0, 3, (2, 1, 4, n)), jnp.float32)
    weights = np.asarray(jax.jit(lambda x: variant("sparsemax").weights(x, Env({}, get_kernels("plain"))))(a))
    np.testing.assert_allclose(weights.sum(-1), 1, atol=2e-6)
    np.testing.assert_allclose(weights, sparsemax(np.asarray(a, np.float64)), atol=1e-5)


@pytest.mark.parametrize(("name", "rows_"), [("linformer_30", 19), ("linformer_50", 32), ("linformer_70", 45)])
def test_linformer_ratios(name, rows_):
    params = vm.init(vm.get_config("vit_7_4_32"), attention=name)
    assert params["blocks"]["6"]["attention"][name]["e"].shape == (rows_, 65)


def test_extra_parameters_leave_the_common_ones_alone(tiny):
    plain, extended = (vm.flatten(vm.init(tiny, 5, attention=a)) for a in ("softmax", "the_x"))
    for name, value in plain.items():
        np.testing.assert_array_equal(value, extended[name])


# One layer says as much as two, except where layers differ.
PLANS = {
    "layer": vm.AttentionPlan.from_layers([0, 1]),
    "head": vm.AttentionPlan.from_heads([[0, 1]]),
    "row": vm.AttentionPlan.from_rows([[1, 0, 1, 1, 0]]),
    "mixed": vm.AttentionPlan((vm.Choice("row", (0, 1, 1, 0, 1)), vm.Choice("head", (1, 0)))),
}
# Scale against itself is no choice, so it is paired with relu_softmax.
PAIRS = {name: f"{name}+{'relu_softmax' if name == 'scale' else 'scale'}" for name in EXPECTED}


@pytest.mark.parametrize("level", [*PLANS, "all"])
@pytest.mark.parametrize("name", EXPECTED)
def test_forward_gradient_and_export(name, level, tiny, images_for, lively):
    plan = PLANS.get(level)
    tiny = replace(tiny, layers=len(plan.attention) if plan else 1)
    attention = name if plan is None else PAIRS[name]
    params = lively(vm.init(tiny, 1, attention=attention))
    images = images_for(tiny)
    flat = vm.flatten(params)

    def loss(values):
        logits = vm.apply(tiny, vm.unflatten(values), images, plan=plan, attention=attention)
        return jnp.sum(logits**2), logits

    gradient, logits = jax.jit(jax.grad(loss, has_aux=True))(flat)
    program = vm.export_program(tiny, params, plan=plan, attention=attention, batch=2, images=images)
    used = {a.name.removeprefix("params.") for a in program.arguments[:-1]}
    for key, value in gradient.items():
        assert np.isfinite(value).all(), key
        # What is exported is what the logits depend on.
        assert (key in used) == bool(np.abs(value).max() > 0), key
    np.testing.assert_allclose(program.outputs[0][1], logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("level", ["head", "row"])
@pytest.mark.parametrize("name", EXPECTED)
def test_kernel_sets_agree(name, level, tiny, images_for, lively):
    tiny = replace(tiny, layers=1)
    params = lively(vm.init(tiny, 1, attention=PAIRS[name]))
    options = {"plan": PLANS[level], "attention": PAIRS[name], "gelu": "exact"}
    a, b = jax.jit(lambda p, x: [vm.apply(tiny, p, x, kernels=k, **options) for k in ("plain", "paper")])(
        params, images_for(tiny)
    )
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


def test_unknown_names_are_refused(tiny, images_for):
    params, images = vm.init(tiny), images_for(tiny)
    for attention in ("softplus", "scale+softplus", "a+b+c"):
        with pytest.raises(ValueError, match="attention"):
            vm.apply(tiny, params, images, attention=attention)
    with pytest.raises(ValueError, match="Unknown gelu"):
        vm.apply(tiny, params, images, gelu="swish")
    with pytest.raises(ValueError, match="Unknown kernels"):
        vm.apply(tiny, params, images, kernels="fast")
    with pytest.raises(ValueError, match="attention='the_x'"):
        vm.apply(tiny, params, images, attention="the_x")
    with pytest.raises(ValueError, match="search='head'"):
        vm.apply(tiny, params, images, attention="mix")


def test_shape_annotations_are_checked():
    x = jnp.ones((2, 5))
    with pytest.raises(TypeCheckError):
        get_kernels("plain").layer_norm(x, jnp.ones(4), jnp.ones(5), 1e-5)
    with pytest.raises(TypeCheckError):
        variant("softmax").weights(x, Env({}, get_kernels("plain")))
