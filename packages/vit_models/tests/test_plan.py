import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vit_models as vm
from vit_models import AttentionPlan, Choice

BIT = st.integers(0, 1)


def choices(levels):
    def sized(level):
        size = st.just(1) if level == "layer" else st.integers(1, 9)
        return size.flatmap(lambda n: st.tuples(*[BIT] * n)).map(lambda on: Choice(level, on))

    return st.none() | st.lists(st.sampled_from(levels).flatmap(sized), min_size=1, max_size=5).map(tuple)


PLANS = st.builds(AttentionPlan, choices(("layer", "head", "row")), choices(("layer", "token")), st.booleans())


@given(PLANS)
def test_json_round_trip(plan):
    again = AttentionPlan.from_json(plan.to_json())
    assert again == plan
    assert hash(again) == hash(plan)
    assert again.fingerprint == plan.fingerprint


@given(PLANS, PLANS)
def test_fingerprint_separates_plans(a, b):
    assert (a.fingerprint == b.fingerprint) == (a == b)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("schema", "attention", "gelu", "post_relu")


@given(PLANS, st.sampled_from(KEYS), JSON)
def test_one_altered_field_is_refused_or_is_a_plan(plan, key, value):
    altered = json.dumps({**plan.to_dict(), key: value})
    refusal = ""
    try:
        read = AttentionPlan.from_json(altered)
    except vm.ModelError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert refusal or json.loads(read.to_json()) == json.loads(altered)


@given(st.text(max_size=30))
def test_text_that_is_no_plan_is_refused(text):
    with pytest.raises(ValueError):
        AttentionPlan.from_json(text)


GOOD = AttentionPlan.from_heads([[0, 1]]).to_dict()


@pytest.mark.parametrize(
    "attention",
    [
        [],
        {},
        [[0, 1]],
        [{"level": "head"}],
        [{"level": "head", "on": []}],
        [{"level": "head", "on": [0, 2]}],
        [{"level": "head", "on": [0.0, 1.0]}],
        [{"level": "head", "on": [True, False]}],
        [{"level": "head", "on": 1}],
        [{"level": "token", "on": [0, 1]}],
        [{"level": "column", "on": [0, 1]}],
        [{"level": None, "on": [0, 1]}],
        [{"level": "layer", "on": [0, 1]}],
        [{"level": "head", "on": [0, 1], "note": ""}],
    ],
    ids=str,
)
def test_malformed_attention_is_refused(attention):
    with pytest.raises(ValueError, match="plan"):
        AttentionPlan.from_dict({**GOOD, "attention": attention})


def test_other_schemas_are_refused():
    for schema in (0, 2, "1", True, None):
        with pytest.raises(ValueError, match="schema"):
            AttentionPlan.from_dict({**GOOD, "schema": schema})


# Numbers of ReLU-Softmax heads for mu = 0.1 .. 1.0, as published.
CIFAR = [3, 6, 9, 12, 14, 17, 20, 23, 26, 28]
TINY = [11, 22, 33, 44, 54, 65, 76, 87, 98, 108]


@pytest.mark.parametrize(("shape", "counts"), [((7, 4), CIFAR), ((9, 12), TINY)], ids=["cifar", "tiny_imagenet"])
def test_head_counts_by_mu(shape, counts):
    alpha = np.random.default_rng(0).uniform(size=shape)
    for tenth, count in zip(range(1, 11), counts):
        plan = AttentionPlan.from_alpha(alpha, tenth / 10)
        on = np.array([c.on for c in plan.attention])
        assert on.sum() == count
        # A ranking over all layers: whatever is on beats whatever is off.
        if count < alpha.size:
            assert alpha[on == 1].min() > alpha[on == 0].max()


@given(st.integers(1, 9), st.integers(1, 13), st.floats(0, 1))
def test_top_k_count(layers, heads, mu):
    alpha = np.random.default_rng(layers * 100 + heads).normal(size=(layers, heads))
    assert vm.top_k(alpha, mu).sum() == layers * heads - int((1 - mu) * layers * heads)


@pytest.mark.parametrize("mu", [-0.1, 1.1, float("nan")])
def test_mu_outside_is_refused(mu):
    with pytest.raises(ValueError, match="mu"):
        AttentionPlan.from_alpha(np.ones((2, 2)), mu)


def test_alpha_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="finite"):
        AttentionPlan.from_alpha([[np.nan, 1.0]], 0.5)


def test_levels_from_alpha():
    assert AttentionPlan.from_alpha([0.1, 0.9], 0.5, level="layer").attention == (
        Choice("layer", (0,)),
        Choice("layer", (1,)),
    )
    assert AttentionPlan.from_alpha([[0.1, 0.9]], 0.5, level="row").attention == (Choice("row", (0, 1)),)
    with pytest.raises(ValueError, match="level"):
        AttentionPlan.from_alpha([[0.1, 0.9]], 0.5, level="token")


def test_searched_values_are_not_taken_for_a_plan():
    with pytest.raises(ValueError, match="from_alpha"):
        AttentionPlan.from_heads([[0.3, 1.0]])


def test_plan_for_another_config_is_refused(tiny, images_for):
    params = vm.init(tiny)
    for plan, words in [
        (AttentionPlan.from_heads(np.ones((3, 2))), "3 layers"),
        (AttentionPlan.from_heads(np.ones((2, 4))), "4 head entries"),
        (AttentionPlan.from_rows(np.ones((2, 4))), "4 row entries"),
        (AttentionPlan().with_gelu(np.ones((2, 6))), "6 token entries"),
    ]:
        with pytest.raises(ValueError, match=words):
            plan.check(tiny)
        with pytest.raises(ValueError, match=words):
            vm.apply(tiny, params, images_for(tiny), plan=plan)
        with pytest.raises(ValueError, match=words):
            vm.export_program(tiny, params, plan=plan)


def test_plan_without_a_mix_is_refused(tiny, images_for):
    with pytest.raises(ValueError, match=r"softmax\+scale"):
        vm.apply(tiny, vm.init(tiny), images_for(tiny), plan=AttentionPlan.uniform(tiny, True), attention="softmax")
