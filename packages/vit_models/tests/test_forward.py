"""Training-time behaviour, tokens, the CCT form, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_models as vm


def test_returns(tiny, images_for, lively):
    params, images = lively(vm.init(tiny)), images_for(tiny)
    logits = vm.apply(tiny, params, images)
    out = vm.Model(tiny).outputs(params, images)
    assert logits.shape == (2, 3) and out.tokens.shape == (2, 5, 16) and len(out.blocks) == 2
    np.testing.assert_array_equal(logits, out.logits)
    head = params["head"]
    np.testing.assert_allclose(out.tokens[:, 0] @ head["kernel"] + head["bias"], logits, atol=1e-5)


def test_training_noise_needs_a_key_and_follows_it(tiny, images_for, lively):
    params, images = lively(vm.init(tiny)), images_for(tiny)
    with pytest.raises(ValueError, match="rng"):
        vm.apply(tiny, params, images, train=True)
    a, b, c = (vm.apply(tiny, params, images, train=True, rng=jax.random.key(k)) for k in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert np.abs(a - c).max() > 1e-3
    np.testing.assert_array_equal(vm.apply(tiny, params, images, rng=jax.random.key(0)), vm.apply(tiny, params, images))


@pytest.mark.parametrize("field", ["dropout", "attention_dropout", "stochastic_depth"])
def test_each_noise_acts_alone_and_none_is_silent(field, tiny, images_for, lively):
    from dataclasses import replace

    quiet = replace(tiny, dropout=0.0, attention_dropout=0.0, stochastic_depth=0.0)
    params, images = lively(vm.init(tiny)), images_for(tiny, batch=8)
    still = vm.apply(quiet, params, images)
    np.testing.assert_array_equal(still, vm.apply(quiet, params, images, train=True, rng=jax.random.key(0)))
    noisy = vm.apply(replace(quiet, **{field: 0.5}), params, images, train=True, rng=jax.random.key(0))
    assert np.abs(noisy - still).max() > 1e-3


def test_dropout_keeps_the_mean():
    from vit_models.forward import _Noise

    x = jnp.ones((400, 50))
    dropped = _Noise(jax.random.key(0)).drop(0.25, 0)(x)
    assert set(np.unique(dropped)) == {0.0, np.float32(1 / 0.75)}
    assert abs(float(dropped.mean()) - 1) < 0.02
    by_sample = np.asarray(_Noise(jax.random.key(0)).drop(0.25, 0, per_sample=True)(x))
    assert (by_sample == by_sample[:, :1]).all() and len(np.unique(by_sample[:, 0])) == 2


def test_pooling_of_the_cct_is_max_pooling():
    from vit_models.forward import _max_pool

    x = np.random.default_rng(0).uniform(size=(2, 7, 7, 3)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.stack(
        [[padded[:, i : i + 3, j : j + 3].max((1, 2)) for j in range(0, 7, 2)] for i in range(0, 7, 2)], 0
    ).transpose(2, 0, 1, 3)
    np.testing.assert_array_equal(_max_pool(jnp.asarray(x), 3, 2, 1), expected)


def test_cct_has_no_class_token(images_for):
    cfg = vm.ViTConfig(
        "cct",
        image_size=8,
        layers=1,
        heads=2,
        dim=8,
        num_classes=3,
        conv=vm.ConvTokenizer(layers=2, hidden=4),
        pool="sequence",
    )
    params = vm.init(cfg)
    assert cfg.tokens == 4 and "class_token" not in params and params["pool"]["kernel"].shape == (8, 1)
    assert params["tokenizer"]["1"]["kernel"].shape == (3, 3, 4, 8)
    out = vm.Model(cfg).outputs(params, images_for(cfg))
    assert out.logits.shape == (2, 3) and out.tokens.shape == (2, 4, 8)


def test_init_is_reproducible_and_seeded(tiny, tmp_path):
    a, b, c = (vm.flatten(vm.init(tiny, seed)) for seed in (0, 0, 1))
    assert all((a[k] == b[k]).all() for k in a)
    assert not (a["head.kernel"] == c["head.kernel"]).all()
    vm.save_params(tmp_path / "p.npz", vm.unflatten(a))
    back = vm.flatten(vm.load_params(tmp_path / "p.npz"))
    assert list(back) == list(a) and all((back[k] == a[k]).all() for k in a)


def test_block_order_is_numeric():
    cfg = vm.ViTConfig(layers=12, heads=1, dim=4, image_size=8)
    names = [n for n in vm.flatten(vm.init(cfg)) if n.endswith("linear1.bias")]
    assert names == [f"blocks.{i}.linear1.bias" for i in range(12)]


@pytest.mark.parametrize("shape", [(8, 8, 1), (2, 1, 8, 8), (2, 8, 8, 3), (2, 9, 8, 1)])
def test_wrong_image_shapes_are_refused(shape, tiny):
    with pytest.raises((ValueError, TypeError), match=r"NHWC|batch height width channels"):
        vm.apply(tiny, vm.init(tiny), np.zeros(shape, np.float32))


def test_search_levels_are_checked(tiny):
    with pytest.raises(ValueError, match="layer, head, row"):
        vm.init(tiny, search="column")
    with pytest.raises(ValueError, match="layer, token"):
        vm.init(tiny, search_gelu="head")


def test_describe_counts_by_hand(tiny):
    cfg = vm.get_config("vit_7_4_32")
    n, c, m, layers = 65, 256, 512, 7
    per_layer = n * c * 3 * c + 2 * n * n * c + n * c * c + 2 * n * c * m
    found = vm.describe(cfg, "softmax")
    assert found.macs == 64 * 48 * c + layers * per_layer + c * 10
    assert found.parameters == 3_716_902 - 28
    plan = vm.AttentionPlan.uniform(cfg, False).with_gelu(np.zeros(7))
    fused = vm.describe(cfg, "mix", plan, fuse=True)
    assert found.macs - fused.macs == layers * (2 * n * c * m - n * c * c)
    assert fused.parameters == found.parameters - layers * (2 * c * m + m - c * c)


def test_fusion_needs_a_plan_and_a_known_scope(tiny):
    params = vm.init(tiny)
    with pytest.raises(ValueError, match="with_gelu"):
        vm.fuse_params(tiny, params, None)
    with pytest.raises(ValueError, match="'layers'"):
        vm.fuse_params(tiny, params, vm.AttentionPlan().with_gelu([0, 0]), scope="rows")


def test_partial_fusion_respects_its_scope(tiny):
    plan = vm.AttentionPlan(
        (vm.Choice("layer", (1,)),) * 2, (vm.Choice("token", (0, 1, 1, 1, 1)), vm.Choice("layer", (0,)))
    )
    params = vm.init(tiny)
    fused = {
        s: [i for i in "01" if "fused" in vm.fuse_params(tiny, params, plan, scope=s)["blocks"][i]]
        for s in ("all", "layers")
    }
    assert fused == {"all": ["0", "1"], "layers": ["1"]}
