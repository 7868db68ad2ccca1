"""The directory that an MPC runtime reads: its format, checksums and completeness."""

import hashlib
import json
import os
from dataclasses import replace

import numpy as np
import pytest

import vit_models as vm


@pytest.fixture
def program(tiny, lively):
    plan = vm.AttentionPlan.from_heads([[0, 1], [1, 1]])
    return vm.export_program(tiny, lively(vm.init(tiny, search="head")), plan=plan, labels=[2])


def digest(value):
    head = f"{value.dtype}:{','.join(map(str, value.shape))}:".encode("ascii")
    return hashlib.sha256(head + value.astype(value.dtype.newbyteorder("<")).tobytes(order="C")).hexdigest()


def test_directory_is_what_the_format_says(program, tmp_path):
    path = program.save(tmp_path / "prog")
    assert sorted(os.listdir(path)) == [
        "client.npz",
        "module.hlo",
        "program.json",
        "reference.npz",
        "server.npz",
    ]
    assert os.listdir(tmp_path) == ["prog"]
    manifest = json.loads((path / "program.json").read_text())
    assert manifest["schema"] == 1
    assert hashlib.sha256((path / "module.hlo").read_bytes()).hexdigest() == manifest["module"]["sha256"]
    for a in manifest["arguments"]:
        with np.load(path / f"{a['holder']}.npz", allow_pickle=False) as held:
            value = held[a["name"]]
        assert (list(value.shape), value.dtype.name, digest(value)) == (a["shape"], a["dtype"], a["sha256"])
    with np.load(path / "reference.npz") as held:
        assert digest(held["logits"]) == manifest["outputs"][0]["sha256"]
    body = {k: v for k, v in manifest.items() if k != "fingerprint"}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert manifest["fingerprint"] == hashlib.sha256(text.encode("ascii")).hexdigest() == program.fingerprint


def test_arguments_are_ordered_named_and_all_read(program):
    names = [a.name for a in program.arguments]
    assert names[-1] == "images" and program.arguments[-1].holder == "client"
    assert "params.blocks.0.attention.qkv.kernel" in names
    assert not [n for n in names if n.endswith("alpha")]
    assert {a.holder for a in program.arguments[:-1]} == {"server"}
    assert all(a.value.dtype == np.float32 for a in program.arguments)
    assert program.made_by["labels"] == [2]
    assert vm.AttentionPlan.from_dict(program.made_by["plan"]).attention is not None
    assert vm.ViTConfig.from_dict(json.loads(json.dumps(program.made_by["config"]))).name == "tiny"


def test_public_weights(tiny, tmp_path):
    path = vm.export_program(tiny, vm.init(tiny), weights="public").save(tmp_path / "p")
    assert (path / "public.npz").exists() and not (path / "server.npz").exists()


def test_reference_is_the_models_output(tiny, lively, images_for):
    params, images = lively(vm.init(tiny)), images_for(tiny, batch=3)
    program = vm.export_program(tiny, params, attention="scale", gelu="quad", batch=3, images=images)
    expected = vm.apply(tiny, params, images, attention="scale", gelu="quad")
    np.testing.assert_allclose(program.outputs[0][1], expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(program.arguments[-1].value, images)


def test_kernels_choose_gelu_and_head_loop(tiny, lively):
    params = lively(vm.init(tiny))
    paper, plain = (vm.export_program(tiny, params, kernels=k) for k in ("paper", "plain"))
    assert (paper.made_by["gelu"], plain.made_by["gelu"]) == ("tanh", "exact")
    looped, batched = (vm.export_program(tiny, params, kernels=k, gelu="quad") for k in ("paper", "plain"))
    assert len(looped.module) > len(batched.module)
    assert 0 < np.abs(paper.outputs[0][1] - plain.outputs[0][1]).max() < 1e-2


def test_fingerprints_follow_content(tiny):
    params = vm.init(tiny)
    base = vm.export_program(tiny, params)
    assert base.fingerprint == vm.export_program(tiny, params).fingerprint
    # The place where it was made does not show either.
    assert b".py" not in base.module
    others = [
        vm.export_program(tiny, vm.init(tiny, 1)),
        vm.export_program(tiny, params, attention="scale"),
        vm.export_program(tiny, params, kernels="paper"),
        vm.export_program(tiny, params, labels=[1]),
        vm.export_program(tiny, params, weights="public"),
    ]
    assert len({p.fingerprint for p in [base, *others]}) == 6


def test_saving_replaces_a_program_and_nothing_else(program, tmp_path):
    program.save(tmp_path / "prog")
    other = replace(program, name="other")
    other.save(tmp_path / "prog")
    assert json.loads((tmp_path / "prog" / "program.json").read_text())["name"] == "other"
    assert os.listdir(tmp_path) == ["prog"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="not a Program"):
        program.save(tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["thesis.tex"]


def test_a_failed_save_leaves_nothing(program, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        program.save(tmp_path / "prog")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch": 2, "images": np.zeros((1, 8, 8, 1), np.float32)}, "batch=1"),
        ({"labels": [1, 2]}, "2 labels"),
        ({"weights": "client"}, "weights='server' or weights='public'"),
        ({"fuse": True}, "gelu part"),
    ],
)
def test_what_does_not_fit_is_refused(options, words, tiny):
    with pytest.raises(ValueError, match=words):
        vm.export_program(tiny, vm.init(tiny), **options)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.zeros((2, 2)), r"'weights' is float64.*\.astype\('float32'\)"),
        (np.zeros((2, 2), np.int64), r"'weights' is int64.*\.astype\('int32'\)"),
        (np.zeros((2, 2), np.uint8), r"'weights' is uint8.*\.astype\('int32'\)"),
        (np.full((2, 2), np.nan, np.float32), "'weights' holds values that are NaN or infinite"),
    ],
)
def test_an_array_that_the_format_does_not_have(weights, said, tmp_path):
    """It is named when the Program is written, and nothing is left behind."""
    outputs = (("out", np.zeros((1, 2), np.float32)),)
    with pytest.raises(ValueError, match=said):
        vm.Program("p", b"", (vm.Argument("weights", "server", weights),), outputs).save(tmp_path / "p")
    assert not list(tmp_path.iterdir())
