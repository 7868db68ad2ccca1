"""`Model` as one value, and the functions of a config as forms of it."""

import dataclasses
import json
import pickle

import jax
import numpy as np
import pytest

import vit_models as vm
from vit_models import AttentionPlan, Model

HEADS = AttentionPlan.from_heads([[1, 0], [0, 1]])


@pytest.mark.parametrize(
    ("plan", "attention"),
    [(None, "softmax"), (HEADS, "mix"), (AttentionPlan().with_gelu([0, 1]), "softmax")],
    ids=["no plan", "plan of heads", "plan of gelu"],
)
def test_attention_follows_from_the_plan(plan, attention, tiny):
    model = Model(tiny, plan=plan)
    assert model.attention == attention
    assert model == Model(tiny, attention, plan) and hash(model) == hash(Model(tiny, attention, plan))


def test_the_search_form_is_a_mix_without_a_plan(tiny):
    assert Model(tiny, "mix").is_search_form
    assert not Model(tiny, "mix", HEADS).is_search_form and not Model(tiny, "scale").is_search_form


@pytest.mark.parametrize("gelu", [None, "quad"])
@pytest.mark.parametrize("plan", [None, HEADS.with_gelu([0, 1])])
def test_a_model_survives_json_and_pickle(plan, gelu, tiny):
    model = Model(tiny, "mix", plan, gelu)
    assert Model.from_dict(json.loads(json.dumps(model.to_dict()))) == model
    assert pickle.loads(pickle.dumps(model)) == model
    with pytest.raises(vm.ModelError, match="exactly config, attention, plan and gelu"):
        Model.from_dict({**model.to_dict(), "note": ""})


def test_a_model_is_frozen_and_can_be_replaced(tiny):
    model = Model(tiny, "mix", HEADS)
    with pytest.raises(dataclasses.FrozenInstanceError):
        model.attention = "scale"
    assert dataclasses.replace(model, gelu="relu") == Model(tiny, "mix", HEADS, "relu")


def test_what_does_not_fit_is_refused_when_the_model_is_made(tiny):
    other = AttentionPlan.from_heads(np.ones((3, 2)))
    for attention, plan, gelu in (
        ("swish", None, None),
        (None, other, None),
        ("scale", HEADS, None),
        (None, None, "x"),
    ):
        with pytest.raises(vm.ModelError):
            Model(tiny, attention, plan, gelu)


def test_the_functions_of_a_config_are_its_methods(tiny, lively, images_for):
    model, images = Model(tiny, "mix", HEADS, "tanh"), images_for(tiny, 8)
    spec = {"attention": "mix", "plan": HEADS, "gelu": "tanh"}
    drawn = vm.init(tiny, 5, attention="mix", search="head")
    for name, value in vm.flatten(model.init(5, search="head")).items():
        np.testing.assert_array_equal(value, vm.flatten(drawn)[name])
    params = lively(drawn)
    np.testing.assert_array_equal(model.apply(params, images), vm.apply(tiny, params, images, **spec))
    calibration = model.calibrate(params, images, margin=1.5)
    assert calibration == vm.calibrate(tiny, params, images, margin=1.5, **spec)
    made = {"kernels": "tuned_fxp", "calibration": calibration, "labels": [1], "name": "mine"}
    program = model.export(params, **made)
    assert program.fingerprint == vm.export_program(tiny, params, **spec, **made).fingerprint
    assert {**model.to_dict(), "labels": [1]}.items() <= program.made_by.items() and program.name == "mine"


def test_an_unknown_option_is_refused(tiny):
    with pytest.raises(TypeError, match="kernel"):
        Model(tiny).export(vm.init(tiny), kernel="paper")
    with pytest.raises(TypeError, match="training"):
        Model(tiny).apply(vm.init(tiny), np.zeros((1, 8, 8, 1), np.float32), training=True)


def test_a_model_is_static_under_jit(tiny, images_for):
    run = jax.jit(lambda model, params, images: model.apply(params, images), static_argnums=0)
    params, images = vm.init(tiny), images_for(tiny)
    a, b = (run(Model(tiny, attention), params, images) for attention in ("softmax", "scale"))
    assert np.abs(a - b).max() > 0


def test_init_takes_a_seed_or_a_key(tiny):
    def drawn(seed):
        return np.asarray(Model(tiny).init(seed)["head"]["kernel"])

    np.testing.assert_array_equal(drawn(jax.random.key(3)), drawn(jax.random.PRNGKey(3)))
    np.testing.assert_array_equal(drawn(np.int64(3)), drawn(3))
    assert not (drawn(jax.random.key(3)) == drawn(jax.random.key(4))).any()
    for wrong in (jax.random.split(jax.random.key(0)), np.zeros(2, np.float32)):
        with pytest.raises(vm.ModelError, match="one JAX key"):
            drawn(wrong)
    with pytest.raises(vm.ModelError, match=r"outside of jax\.jit"):
        jax.jit(Model(tiny).init)(jax.random.key(0))


def test_an_error_is_one_line_with_problem_fix_and_reason(tiny):
    with pytest.raises(vm.ModelError) as caught:
        vm.get_config("vit_7_4_33")
    error = caught.value
    assert str(error) == f"{error.problem} Fix: {error.fix}" and "\n" not in str(error)
    assert error.reason == "unknown_name" and isinstance(error, ValueError)
    again = pickle.loads(pickle.dumps(error))
    assert (again.problem, again.fix, again.reason) == (error.problem, error.fix, error.reason)
    assert "\n" not in str(vm.ModelError("two\nlines.", "join them.", "bad_value"))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 not a zip"])
def test_a_file_that_holds_no_parameters_is_refused(content, tmp_path):
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(vm.ModelError, match="not a parameter file"):
        vm.load_params(tmp_path / "p.npz")
