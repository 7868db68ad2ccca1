"""The original's names and layouts, both ways, and the refusal of a checkpoint that does not fit."""

from dataclasses import replace

import numpy as np
import pytest

import vit_models as vm

CCT = vm.ViTConfig("cct", image_size=8, layers=1, heads=2, dim=8, conv=vm.ConvTokenizer(), pool="sequence")


@pytest.mark.parametrize("attention", ["softmax", "the_x", "linformer_50", "xnorm"])
@pytest.mark.parametrize("search", [None, "layer", "head", "row"])
def test_round_trip(attention, search, tiny):
    for cfg in (tiny, CCT):
        params = vm.init(cfg, 3, attention=attention, search=search, search_gelu=search and "token")
        state = vm.to_torch_state(params, cfg)
        again = vm.flatten(vm.from_torch_state(state, cfg, attention=attention))
        for name, value in vm.flatten(params).items():
            np.testing.assert_array_equal(value, again[name])
        assert again.keys() == vm.flatten(params).keys()


@pytest.mark.parametrize("attention", [
    vm.AttentionPlan.from_heads([[0, 1], [1, 0]]).attention,
    vm.AttentionPlan.from_rows([[0, 1, 1, 0, 0]] * 2).attention,
    (vm.Choice("layer", (1,)), vm.Choice("head", (0, 1))),
])  # fmt: skip
@pytest.mark.parametrize("beta", [None, [[0, 1, 1, 0, 1]] * 2, [1, 0]])
def test_plan_crosses_as_alpha_and_beta(attention, beta, tiny):
    plan = vm.AttentionPlan(attention)
    plan = plan if beta is None else plan.with_gelu(beta)
    state = vm.to_torch_state(vm.init(tiny), tiny, plan)
    assert vm.infer_plan(vm.from_torch_state(state, tiny), tiny) == plan


def test_searched_alpha_needs_mu(tiny):
    params = vm.init(tiny, search="head")
    for i, value in enumerate(([0.1, 0.7], [0.2, 0.9])):
        params["blocks"][str(i)]["attention"]["alpha"] = np.reshape(value, (2, 1, 1))
    with pytest.raises(ValueError, match="mu"):
        vm.infer_plan(params, tiny)
    assert vm.infer_plan(params, tiny, mu=0.25) == vm.AttentionPlan.from_heads([[0, 0], [0, 1]])
    del params["blocks"]["1"]["attention"]["alpha"]
    with pytest.raises(ValueError, match="1 of 2 layers"):
        vm.infer_plan(params, tiny, mu=0.25)
    with pytest.raises(ValueError, match="neither"):
        vm.infer_plan(vm.init(tiny), tiny)


def test_every_problem_is_named_at_once(tiny):
    state = vm.to_torch_state(vm.init(tiny), tiny)
    del state["classifier.norm.bias"]
    state["classifier.fc.weight"] = state["classifier.fc.weight"].T
    state["classifier.blocks.0.self_attn.qkv_expand.0.weight"] = np.zeros(3)
    state["classifier.blocks.1.self_attn.alpha"] = np.ones((1, 3, 1, 1))
    with pytest.raises(ValueError) as caught:
        vm.from_torch_state(state, tiny)
    text = str(caught.value)
    assert "missing: classifier.norm.bias" in text
    assert "classifier.fc.weight has shape (16, 3), expected (3, 16)" in text
    assert "surplus: classifier.blocks.0.self_attn.qkv_expand.0.weight" in text
    assert "classifier.blocks.1.self_attn.alpha has shape (1, 3, 1, 1)" in text
    assert "\n" not in text


def test_surplus_can_be_allowed_and_prefixes_fall(tiny):
    state = {f"module.{k}": v for k, v in vm.to_torch_state(vm.init(tiny, 2), tiny).items()}
    state["module.extra"] = np.zeros(1)
    params = vm.from_torch_state(state, tiny, strict=False)
    np.testing.assert_array_equal(params["head"]["kernel"], vm.init(tiny, 2)["head"]["kernel"])


FOREIGN = {
    "timm's Vis": ["cls_token", "blocks.0.attn.qkv.weight", "head.weight"],
    "timm's DeiT": ["dist_token", "blocks.0.attn.qkv.weight", "head_dist.weight"],
    "timm's Swin": ["layers.0.blocks.0.attn.qkv.weight", "layers.0.blocks.0.attn.relative_position_bias_table"],
    "Face's ViT": ["vit.encoder.layer.0.attention.attention.query.weight", "vit.embeddings.cls_token"],
    "Face's DeiT": ["deit.encoder.layer.0.attention.attention.query.weight", "deit.embeddings.distillation_token"],
    "torchvision": ["encoder.layers.encoder_layer_0.self_attention.in_proj_weight"],
    "CLIP": ["visual.transformer.resblocks.0.attn.in_proj_weight"],
    "Google": ["Transformer/encoderblock_0/MlpBlock_3/Dense_0/kernel"],
}


@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("layout", FOREIGN)
def test_a_foreign_layout_is_named_in_one_line(tiny, layout, wrapper):
    with pytest.raises(vm.ModelError, match=f"has the layout of .*{layout}.*Fix: ") as caught:
        vm.from_torch_state({wrapper + name: np.zeros(3) for name in FOREIGN[layout]}, tiny)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_wrappers_of_torch_fall(tiny, wrapper):
    state = vm.to_torch_state(vm.init(tiny, 2), tiny)
    params = vm.from_torch_state({wrapper + name: value for name, value in state.items()}, tiny)
    np.testing.assert_array_equal(params["head"]["kernel"], vm.init(tiny, 2)["head"]["kernel"])
    with pytest.raises(vm.ModelError, match="with and without"):
        vm.from_torch_state({**state, f"{wrapper}classifier.fc.bias": np.zeros(3)}, tiny)


def test_the_prefix_to_give_is_named(tiny):
    state = {f"student.net.{k}": v for k, v in vm.to_torch_state(vm.init(tiny), tiny).items()}
    with pytest.raises(vm.ModelError, match=r"prefix='student\.net\.'"):
        vm.from_torch_state(state, tiny)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(tiny, bad):
    state = vm.to_torch_state(vm.init(tiny), tiny)
    state["classifier.fc.bias"] = np.full(3, bad)
    with pytest.raises(vm.ModelError, match=r"classifier\.fc\.bias has values that are not finite"):
        vm.from_torch_state(state, tiny)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x93NUMPY", b"\x80\x02.", b"text"])
@pytest.mark.parametrize("name", ["a.npz", "a.pth"])
def test_files_that_are_no_checkpoints(tmp_path, name, content):
    if name == "a.pth":
        pytest.importorskip("torch", reason="PyTorch (an optional extra) is not installed")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(vm.ModelError) as caught:
        vm.load_torch_state(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_prefix_that_no_name_has(tiny, tmp_path):
    np.savez(tmp_path / "c.npz", **vm.to_torch_state(vm.init(tiny), tiny))
    with pytest.raises(vm.ModelError, match="begins with 'net'"):
        vm.load_torch_state(tmp_path / "c.npz", prefix="net")


def test_another_config_is_refused(tiny):
    state = vm.to_torch_state(vm.init(tiny), tiny)
    with pytest.raises(ValueError, match=r"missing: classifier\.blocks\.2"):
        vm.from_torch_state(state, replace(tiny, layers=3))


def test_fused_parameters_do_not_cross(tiny):
    plan = vm.AttentionPlan().with_gelu([0, 0])
    with pytest.raises(ValueError, match="before fuse_params"):
        vm.to_torch_state(vm.fuse_params(tiny, vm.init(tiny), plan), tiny)


def test_npz_with_prefix(tiny, tmp_path):
    state = vm.to_torch_state(vm.init(tiny), tiny)
    np.savez(tmp_path / "c.npz", **{f"w/{k}": v for k, v in state.items()}, other=np.zeros(2))
    found = vm.load_torch_state(tmp_path / "c.npz", prefix="w/")
    assert found.keys() == state.keys()


def test_torch_file_as_the_trainer_saves_it(tiny, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch (an optional extra) is not installed")
    import argparse

    state = {k: torch.from_numpy(v.copy()) for k, v in vm.to_torch_state(vm.init(tiny), tiny).items()}
    path = tmp_path / "model_best.pth.tar"
    torch.save({"epoch": 3, "state_dict": state, "args": argparse.Namespace(lr=0.1), "version": 2}, path)
    params = vm.from_torch_state(vm.load_torch_state(path), tiny)
    np.testing.assert_array_equal(params["head"]["kernel"], vm.init(tiny)["head"]["kernel"])


def test_torch_file_without_torch_names_the_extra(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(vm.ModelError, match=r"vit_models\[torch\]"):
        vm.load_torch_state(tmp_path / "a.pth.tar")
