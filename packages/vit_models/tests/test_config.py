import dataclasses

import pytest

import vit_models as vm


@pytest.mark.parametrize(
    ("name", "classes", "count"),
    [
        ("vit_7_4_32", 10, 3_716_902),
        ("vit_7_4_32", 100, 3_740_032),
        ("vit_9_12_64", 200, 2_766_068),
        ("vit_12_12_224", 1000, 5_710_648),
        ("vit_7_4_32_wider", 10, 8_327_846),
    ],
)
def test_parameter_counts_with_alpha(name, classes, count):
    cfg = vm.get_config(name, num_classes=classes)
    assert vm.count_params(vm.init(cfg, search="head")) == count
    assert vm.count_params(vm.init(cfg)) == count - cfg.layers * cfg.heads


@pytest.mark.parametrize(
    ("name", "tokens"), [("vit_7_4_32", 65), ("vit_9_12_64", 257), ("vit_4_4_28", 50), ("cct_7_3x1_32", 256)]
)
def test_tokens(name, tokens):
    assert vm.get_config(name).tokens == tokens


def test_fewer_heads_keep_their_width():
    cfg = vm.get_config("vit_7_4_32", heads=1, head_dim=64)
    params = vm.init(cfg)
    assert params["blocks"]["0"]["attention"]["qkv"]["kernel"].shape == (256, 192)
    assert params["blocks"]["0"]["attention"]["proj"]["kernel"].shape == (64, 256)


@pytest.mark.parametrize("name", vm.CONFIGS)
def test_config_survives_a_dict(name):
    cfg = vm.CONFIGS[name]
    assert vm.ViTConfig.from_dict(cfg.to_dict()) == cfg
    assert hash(vm.ViTConfig.from_dict(cfg.to_dict())) == hash(cfg)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"heads": 3}, "not divisible"),
        ({"patch": 5}, "multiple of patch"),
        ({"layers": 0}, "at least 1"),
        ({"pool": "mean"}, "'class' or 'sequence'"),
        ({"depth": 3}, "Unknown config field 'depth'"),
    ],
)
def test_bad_configs_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        vm.get_config("vit_7_4_32", **change)


def test_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match="vit_9_12_64"):
        vm.get_config("vit_7_4_33")


def test_config_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        vm.get_config("vit_7_4_32").layers = 3
