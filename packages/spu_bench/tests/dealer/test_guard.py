"""The dealer is no oracle: what it refuses, by the rule that it names."""

from __future__ import annotations

from dataclasses import replace

import pytest
from asking import Seeds, ask_for
from hypothesis import given, settings
from hypothesis import strategies as st

from spu_bench.dealer import Limits, Refusal, overlaps
from spu_bench.dealer.draws import Draw, DrawnRange
from spu_bench.dealer.guard import Guard
from spu_bench.dealer.requests import METHODS, Method, Operand, Permutation, Request
from spu_bench.dealer.sm2 import KeyPair, encrypt

_KEY = KeyPair.generate()


def _guard(world_size: int = 2, limits: Limits | None = None) -> Guard:
    return Guard(world_size, _KEY, limits or Limits(), kept_draws=1000)


@pytest.fixture
def seeds() -> Seeds:
    return Seeds(_KEY.pem)


def _refused(guard: Guard, request: Request, rule: str) -> None:
    before = [streams.cursor for streams in guard._sets.values()]
    with pytest.raises(Refusal) as caught:
        guard.admit(request)
    assert caught.value.rule == rule and "Fix: " in str(caught.value)
    assert [streams.cursor for streams in guard._sets.values()][: len(before)] == before


def _rule(guard: Guard, request: Request) -> str | None:
    try:
        guard.admit(request)
    except Refusal as refusal:
        return refusal.rule
    return None


def test_requests_one_after_the_other_are_admitted(seeds: Seeds) -> None:
    guard, at = _guard(), 0
    for method in METHODS:
        request = ask_for(method, seeds.encrypted, at)
        at = request.operands[-1].end
        if method == "Perm":
            request = replace(request, permutation=Permutation(at, 4, seeds.encrypted[1]))
            at += 3
        assert not guard.admit(request).retry
    assert overlaps(guard.draws) == [] and guard.refused == 0


def test_the_other_partys_stream_cannot_be_asked_for(seeds: Seeds) -> None:
    """Trunc of [my seed] less [the other's] would be the other's stream."""
    guard = _guard()
    guard.admit(ask_for("Mul", seeds.encrypted))
    mine, theirs = seeds.encrypted
    a, b = ask_for("Trunc", (mine,), 100).operands
    _refused(guard, Request("Trunc", (a, replace(b, seeds=(theirs,))), 8, bits=1), "seeds")
    _refused(guard, Request("Trunc", (replace(a, seeds=()), replace(b, seeds=())), 8, bits=1), "seeds")


@pytest.mark.parametrize("pick", [(0, 0), (1, 1), (0,), (1,), (0, 1, 1), ()])
def test_all_parties_seeds_are_required_once(seeds: Seeds, pick: tuple[int, ...]) -> None:
    _refused(_guard(), ask_for("Mul", [seeds.encrypted[i] for i in pick]), "seeds")


def test_one_seed_encrypted_twice_is_not_two_seeds() -> None:
    twice = [encrypt(_KEY.public, bytes(16)) for _ in range(2)]
    _refused(_guard(), ask_for("Mul", twice), "seeds")


def test_a_seed_of_another_length_is_refused(seeds: Seeds) -> None:
    _refused(_guard(), ask_for("Mul", [seeds.encrypted[0], encrypt(_KEY.public, bytes(15))]), "seeds")


def test_seeds_have_one_order(seeds: Seeds) -> None:
    guard = _guard()
    guard.admit(ask_for("Mul", seeds.encrypted))
    _refused(guard, ask_for("Mul", seeds.encrypted[::-1], 100), "session")


def test_a_key_serves_one_session(seeds: Seeds) -> None:
    guard = _guard()
    guard.admit(ask_for("Mul", seeds.encrypted))
    _refused(guard, ask_for("Mul", Seeds(_KEY.pem).encrypted), "session")


def test_a_known_seed_is_not_registered_again(seeds: Seeds) -> None:
    guard = _guard(limits=Limits(stream_sets=2))
    guard.admit(ask_for("Mul", seeds.encrypted))
    again = [encrypt(_KEY.public, seeds.plain[0]), Seeds(_KEY.pem).encrypted[0]]
    _refused(guard, ask_for("Mul", again), "seeds")
    guard.admit(ask_for("Mul", Seeds(_KEY.pem).encrypted))


def test_ciphertexts_of_another_key_get_the_code_of_decryption(seeds: Seeds) -> None:
    with pytest.raises(Refusal) as caught:
        _guard().admit(ask_for("Mul", Seeds(KeyPair.generate().pem).encrypted))
    assert caught.value.decryption


@pytest.mark.parametrize("back", [1, 2, 5])
def test_ranges_that_overlap_are_refused(seeds: Seeds, back: int) -> None:
    guard = _guard()
    end = guard.admit(ask_for("Mul", seeds.encrypted)).request.operands[-1].end
    for method in ("And", "Trunc", "TruncPr", "RandBit", "Eqz", "MulPriv"):
        _refused(guard, ask_for(method, seeds.encrypted, end - back), "overlap")
    assert overlaps(guard.draws)


def test_operands_of_one_request_cannot_share_a_range(seeds: Seeds) -> None:
    a, _, c = ask_for("Mul", seeds.encrypted).operands
    _refused(_guard(), Request("Mul", (a, a, c), 8), "replay")
    _refused(_guard(), Request("Mul", (a, c, c), 8), "overlap")
    _refused(_guard(), Request("MulPriv", (a, a), 8), "overlap")


def test_an_identical_request_is_a_retry(seeds: Seeds) -> None:
    guard = _guard()
    request = ask_for("TruncPr", seeds.encrypted, bits=3)
    guard.admit(request)
    assert guard.admit(request).retry
    for other in (replace(request, bits=4), replace(request, field_size=16), replace(request, method="Mul", bits=0)):
        _refused(guard, other, "overlap" if other.method == "TruncPr" else "replay")


def test_a_factor_may_be_drawn_again_only_as_it_was(seeds: Seeds) -> None:
    guard = _guard()
    a, _, c = guard.admit(ask_for("Mul", seeds.encrypted)).request.operands
    _, fresh, masks = ask_for("Mul", seeds.encrypted, c.end).operands
    _refused(
        guard, Request("Mul", (replace(a, length=16), *(replace(o, length=16) for o in (fresh, masks))), 8), "replay"
    )
    _refused(guard, Request("Mul", (c, fresh, masks), 8), "replay")
    _refused(guard, Request("Mul", (replace(a, start=1), fresh, masks), 8), "replay")
    _refused(guard, Request("Mul", (a, fresh, masks), 16), "replay")
    _refused(guard, Request("Mul", (a, fresh, masks), 8, gfmp=True), "replay")
    assert not guard.admit(Request("Mul", (a, fresh, masks), 8)).retry
    assert [r.replay for r in guard.draws[-1].ranges] == [True, False, False]


def test_a_permutation_is_of_a_registered_seed_and_a_range_of_its_own(seeds: Seeds) -> None:
    guard = _guard()
    request = ask_for("Perm", seeds.encrypted)
    end = request.operands[-1].end
    strange = Seeds(_KEY.pem).encrypted[0]
    _refused(guard, replace(request, permutation=Permutation(end, 4, strange)), "seeds")
    _refused(guard, replace(request, permutation=Permutation(end - 1, 4, seeds.encrypted[0])), "overlap")
    assert guard.admit(replace(request, permutation=Permutation(end, 4, seeds.encrypted[1]))).owner == 1
    assert guard.draws[-1].ranges[-1] == DrawnRange((1,), end, end + 3)


def test_sizes_and_rates_are_bounded(seeds: Seeds) -> None:
    limits = Limits(answer_bytes=1000, products=100, session_bytes=1500, requests_per_second=50)
    guard = _guard(limits=limits)
    _refused(guard, ask_for("Mul", seeds.encrypted, elements=126), "size")
    _refused(guard, ask_for("Dot", seeds.encrypted, elements=17), "size")
    end = guard.admit(ask_for("Mul", seeds.encrypted, elements=125)).request.operands[-1].end
    _refused(guard, ask_for("Mul", seeds.encrypted, end, elements=125), "size")
    rules = {_rule(guard, ask_for("Mul", seeds.encrypted, elements=125)) for _ in range(1000)}
    assert rules == {None, "rate"}


def test_a_reservation_is_all_or_nothing(seeds: Seeds) -> None:
    guard = _guard()
    end = guard.admit(ask_for("Mul", seeds.encrypted)).request.operands[-1].end
    good, bad = ask_for("Mul", seeds.encrypted, end), ask_for("And", seeds.encrypted, end)
    with pytest.raises(Refusal, match="rule: overlap"):
        guard.reserve([good, bad])
    assert not guard.admit(bad).retry


def test_nothing_is_prepared_before_seeds_are_known() -> None:
    with pytest.raises(Refusal, match="rule: session"):
        _guard().reserve([])


_METHODS: list[Method] = ["Mul", "Square", "And", "Trunc", "Eqz", "RandBit", "MulPriv"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(_METHODS), st.lists(st.tuples(st.integers(0, 12), st.integers(1, 2)))), max_size=12
    )
)
def test_whatever_is_asked_no_two_admitted_draws_overlap(asked: list[tuple[Method, list[tuple[int, int]]]]) -> None:
    """Except for factors that are drawn again exactly, and identical requests."""
    guard, seeds = _guard(), _SEEDS
    for method, ranges in asked:
        count = len(ask_for(method, seeds.encrypted).operands)
        length = 16 * (ranges[0][1] if ranges else 1)
        starts = [start for start, _ in ranges[:count]] + [0] * (count - len(ranges))
        operands = tuple(Operand(start, length, seeds.encrypted) for start in starts)
        assert _rule(guard, Request(method, operands, 16)) in (None, "overlap", "replay")
    assert overlaps(draw for draw in guard.draws if draw.refused is None) == []


_SEEDS = Seeds(_KEY.pem)


def test_the_check_of_a_log_finds_overlaps_by_party() -> None:
    log = [
        Draw("Mul", (DrawnRange((0, 1), 0, 4), DrawnRange((0, 1), 4, 8))),
        Draw("Perm", (DrawnRange((1,), 6, 9),)),
        Draw("Mul", (DrawnRange((0, 1), 0, 4, replay=True), DrawnRange((0,), 8, 9))),
        Draw("Mul", (DrawnRange((0, 1), 0, 4),), retry=True),
    ]
    (found,) = overlaps(log)
    assert (found.party, found.first, found.second, found.start, found.end) == (1, 0, 1, 6, 8)
