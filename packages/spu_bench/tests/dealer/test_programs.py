"""A dealer that knows the session's Programs answers nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from asking import Client, Refused, Seeds, ask_for

from spu_bench.dealer import Dealer, DealerOptions, Recording
from spu_bench.dealer.requests import Method, Request
from spu_bench.dealer.sm2 import KeyPair
from spu_bench.errors import SpuBenchError

_SMALL: list[Method] = ["Mul"]
_LARGE: list[Method] = ["Mul", "And", "Trunc"]


def _asked(seeds: Seeds, methods: list[Method], start: int = 0) -> list[Request]:
    made: list[Request] = []
    for method in methods:
        made.append(ask_for(method, seeds.encrypted, made[-1].operands[-1].end if made else start))
    return made


def _recording(methods: list[Method], world_size: int = 2) -> Recording:
    return Recording.of(_asked(Seeds(KeyPair.generate().pem, world_size), methods))


@pytest.fixture
def dealer() -> Iterator[Dealer]:
    with Dealer(DealerOptions(programs=(_recording(_SMALL), _recording(_LARGE)))) as running:
        yield running


@pytest.mark.parametrize("order", [[_SMALL], [_LARGE, _LARGE], [_SMALL, _LARGE, _SMALL, _SMALL], [_LARGE, _SMALL]])
def test_programs_may_follow_each_other(dealer: Dealer, order: list[list[Method]]) -> None:
    seeds, client = Seeds(dealer.public_key), Client(dealer.port)
    for request in _asked(seeds, [method for methods in order for method in methods]):
        assert client.ask(request)


@pytest.mark.parametrize("methods", [["And"], ["Mul", "Trunc"], ["Mul", "And", "And"], ["Mul", "And", "Mul"]])
def test_anything_else_is_refused(dealer: Dealer, methods: list[Method]) -> None:
    seeds, client = Seeds(dealer.public_key), Client(dealer.port)
    *good, bad = _asked(seeds, methods)
    for request in good:
        assert client.ask(request) and client.ask(request)  # a retry is no step
    with pytest.raises(Refused, match="rule: program"):
        client.ask(bad)
    assert dealer.status.refused == 1


def test_a_gap_between_counters_is_refused(dealer: Dealer) -> None:
    seeds, client = Seeds(dealer.public_key), Client(dealer.port)
    first, second, _ = _asked(seeds, _LARGE)
    client.ask(first)
    with pytest.raises(Refused, match="rule: program"):
        client.ask(second.shifted(1))
    assert client.ask(second)


def test_recordings_of_other_parties_are_refused() -> None:
    with pytest.raises(SpuBenchError, match="other parties"):
        DealerOptions(world_size=2, programs=(_recording(_SMALL, 3),))
