"""Agreement with the original, block by block."""

import jax.numpy as jnp
import numpy as np
import pytest

import vit_models as vm

CASES = {"softmax": "softmax", "relusoftmax": "relu_softmax", "scale": "scale", "mix": None, "mix_plus": None}


def outputs(reference, case, dtype, kernels="plain", gelu="exact"):
    cfg = vm.get_config("vit_2_4_32")
    state = {name[2:]: value for name, value in reference.items() if name.startswith("w/")}
    params = vm.from_torch_state(state, cfg, dtype=dtype)
    plan = vm.AttentionPlan.from_heads(reference["alpha"]) if case.startswith("mix") else None
    if case == "mix_plus":
        plan = plan.with_gelu(reference["beta"])
    images = jnp.asarray(reference["x"].transpose(0, 2, 3, 1), dtype)
    return vm.Model(cfg, CASES[case], plan, gelu).outputs(params, images, kernels=kernels)


def check(reference, case, out, tolerance):
    for i, block in enumerate(out.blocks):
        np.testing.assert_allclose(block[:1, ::4], reference[f"block64/{case}/{i}"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(out.tokens[:, ::4], reference[f"tokens64/{case}"], rtol=0, atol=tolerance)
    np.testing.assert_allclose(out.logits, reference[f"logits64/{case}"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_float32_within_1e_5(reference, case):
    out = outputs(reference, case, jnp.float32)
    assert out.logits.dtype == jnp.float32
    check(reference, case, out, 1e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", [("plain", "exact"), ("plain", "erf"), ("paper", "exact")], ids="-".join)
def test_float64_within_1e_9(reference, case, form, x64):
    out = outputs(reference, case, jnp.float64, *form)
    assert out.logits.dtype == jnp.float64
    check(reference, case, out, 1e-9)


def test_cases_differ_by_more_than_the_tolerance(reference):
    logits = [reference[f"logits64/{case}"] for case in CASES]
    assert min(np.abs(a - b).max() for i, a in enumerate(logits) for b in logits[:i]) > 1e-3


def test_plan_of_the_checkpoint_is_inferred(reference):
    cfg = vm.get_config("vit_2_4_32")
    state = {name[2:]: value for name, value in reference.items() if name.startswith("w/")}
    params = vm.from_torch_state(state, cfg)
    assert vm.infer_plan(params, cfg) == vm.AttentionPlan.from_heads(reference["alpha"])
    back = vm.to_torch_state(params, cfg)
    assert back.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(back[name], value)
