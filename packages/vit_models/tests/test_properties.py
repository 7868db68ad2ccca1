"""Laws of plans and of the model, for any plan and any weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vit_models as vm

CFG = vm.ViTConfig("tiny", image_size=8, channels=1, patch=4, layers=2, heads=4, dim=16, num_classes=3)
few = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEEDS = st.integers(0, 2**16)


def bits(*shape):
    count = int(np.prod(shape))
    return st.tuples(*[st.integers(0, 1)] * count).map(lambda v: np.array(v).reshape(shape))


PLANS = st.one_of(
    bits(2, 4).map(vm.AttentionPlan.from_heads),
    bits(2, 5).map(vm.AttentionPlan.from_rows),
    bits(2).map(vm.AttentionPlan.from_layers),
)


def model(seed, lively, images_for, batch=2):
    return lively(vm.init(CFG, seed), seed), images_for(CFG, batch, seed)


@functools.partial(jax.jit, static_argnums=(0,), static_argnames=("plan", "attention"))
def run(cfg, params, images, **options):
    return vm.apply(cfg, params, images, **options)


def same(a, b, tolerance=2e-5):
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)


@few
@given(SEEDS, st.sampled_from(["from_heads", "from_rows", "from_layers"]), st.sampled_from([0, 1]))
def test_all_on_is_relu_softmax_and_all_off_is_scale(lively, images_for, seed, make, bit):
    params, images = model(seed, lively, images_for)
    shape = {"from_heads": (2, 4), "from_rows": (2, 5), "from_layers": (2,)}[make]
    plan = getattr(vm.AttentionPlan, make)(np.full(shape, bit))
    pure, other = ("relu_softmax", "scale") if bit else ("scale", "relu_softmax")
    mixed = run(CFG, params, images, plan=plan)
    same(mixed, run(CFG, params, images, attention=pure))
    assert np.abs(mixed - run(CFG, params, images, attention=other)).max() > 1e-4


@few
@given(SEEDS, bits(2, 4), st.tuples(st.permutations(range(4)), st.permutations(range(4))))
def test_permuting_heads_with_their_weights_changes_nothing(lively, images_for, seed, alpha, orders):
    params, images = model(seed, lively, images_for)
    before = run(CFG, params, images, plan=vm.AttentionPlan.from_heads(alpha))
    flat = vm.flatten(params)
    for i, order in enumerate(orders):
        qkv, proj = f"blocks.{i}.attention.qkv.kernel", f"blocks.{i}.attention.proj.kernel"
        flat[qkv] = flat[qkv].reshape(16, 3, 4, 4)[:, :, list(order)].reshape(16, 48)
        flat[proj] = flat[proj].reshape(4, 4, 16)[list(order)].reshape(16, 16)
    permuted = np.stack([alpha[i][list(order)] for i, order in enumerate(orders)])
    same(before, run(CFG, vm.unflatten(flat), images, plan=vm.AttentionPlan.from_heads(permuted)))


@few
@given(SEEDS, PLANS, bits(2, 5) | bits(2), st.booleans(), st.sampled_from(["all", "layers"]))
def test_fused_equals_unfused(lively, images_for, seed, plan, beta, post_relu, scope):
    params, images = model(seed, lively, images_for)
    plan = plan.with_gelu(beta, post_relu)
    fused = vm.fuse_params(CFG, params, plan, scope=scope)
    same(run(CFG, params, images, plan=plan), run(CFG, fused, images, plan=plan))


@few
@given(SEEDS, PLANS, st.integers(0, 2))
def test_batch_of_one_is_a_row_of_a_batch(lively, images_for, seed, plan, row):
    params, images = model(seed, lively, images_for, batch=3)
    whole = run(CFG, params, images, plan=plan)
    same(run(CFG, params, images[row : row + 1], plan=plan)[0], whole[row])


@few
@given(SEEDS, PLANS, bits(2, 5) | bits(2))
def test_search_form_at_0_and_1_is_the_static_plan(lively, images_for, seed, plan, beta):
    params, images = model(seed, lively, images_for)
    plan = plan.with_gelu(beta)
    shapes = {"layer": (1, 1, 1), "head": (4, 1, 1), "row": (1, 5, 1)}
    flat = vm.flatten(params)
    for i, (a, b) in enumerate(zip(plan.attention, plan.gelu)):
        flat[f"blocks.{i}.attention.alpha"] = jnp.asarray(a.on, jnp.float32).reshape(shapes[a.level])
        flat[f"blocks.{i}.beta"] = jnp.asarray(b.on, jnp.float32).reshape(-1, 1)
    searched = vm.unflatten(flat)
    assert vm.infer_plan(searched, CFG) == plan
    same(run(CFG, searched, images, attention="mix"), run(CFG, params, images, plan=plan))


@pytest.mark.parametrize("level", ["layer", "head", "row"])
@pytest.mark.parametrize("pair", ["mix", "softmax_scale", "xnorm+hydra"])
def test_search_form_is_linear_in_alpha_of_one_layer(lively, images_for, level, pair):
    # Of the last block's attention output; alpha of half must give the mean of alpha 0 and alpha 1.
    one = vm.ViTConfig("one", image_size=8, channels=1, patch=4, layers=1, heads=4, dim=16, num_classes=3)
    params = lively(vm.init(one, search=level, attention=pair))
    from vit_models.heads import attention_layer
    from vit_models.kernels import get_kernels

    mode = vm.Model(one, pair).modes[0]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 16)), jnp.float32)

    def out(value):
        attn = params["blocks"]["0"]["attention"]
        attn = {**attn, "alpha": jnp.full_like(attn["alpha"], value)}
        return attention_layer(one, attn, x, mode, get_kernels("plain"), lambda v: v)

    same(out(0.5), 0.5 * (out(0.0) + out(1.0)))
    assert np.abs(out(0.0) - out(1.0)).max() > 1e-3


@pytest.mark.parametrize("level", ["layer", "head", "row"])
@pytest.mark.parametrize("gelu_level", ["layer", "token"])
def test_alpha_and_beta_have_gradients(lively, images_for, level, gelu_level):
    params = lively(vm.init(CFG, search=level, search_gelu=gelu_level))
    flat = vm.flatten(params)
    for name in flat:
        if name.endswith((".alpha", ".beta")):
            flat[name] = 0.5 * flat[name]

    def loss(values):
        return jnp.sum(vm.apply(CFG, vm.unflatten(values), images_for(CFG), attention="mix") ** 2)

    gradient = jax.jit(jax.grad(loss))(flat)
    for name, value in gradient.items():
        # The last layer's rows other than the class token do not reach the logits.
        live = np.asarray(value).reshape(-1)[:1] if "blocks.1" in name and value.size == 5 else np.asarray(value)
        assert np.abs(live).min() > 0 or value.ndim == 0 or not name.endswith((".alpha", ".beta")), name
