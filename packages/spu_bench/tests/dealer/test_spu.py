"""The dealer with real parties of SPU: every method, both rings, two and three parties, both transports, the proxy."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from cached import cached
from certificates import Authority
from spu_parties import Failed, Parties

from spu_bench.dealer import (
    Dealer,
    DealerOptions,
    Proxy,
    ProxyOptions,
    Recording,
    TlsFiles,
    Transport,
    overlaps,
    runtime_options,
)
from spu_bench.dealer.requests import METHODS

_DRAWS = np.random.default_rng(7)
_X = _DRAWS.normal(size=(5, 12)).astype(np.float32)
_W = _DRAWS.normal(size=(12, 5)).astype(np.float32)
_ORDER = _DRAWS.permutation(6).astype(np.int32)


def _mixed(x: jax.Array, w: jax.Array, _order: jax.Array) -> jax.Array:
    """A matrix product, squares, products, comparisons, equality and an exponential."""
    hidden = jnp.maximum(x @ w, 0.1)
    return jnp.where(hidden == 0.1, hidden * hidden, jnp.exp(-hidden)) * hidden


def _sorted(_x: jax.Array, _w: jax.Array, order: jax.Array) -> jax.Array:
    return jax.lax.sort(order)


def _layer(x: jax.Array, w: jax.Array, _order: jax.Array) -> jax.Array:
    return jnp.maximum(x @ w, 0.1)


def _with_opened_weights(x: jax.Array, w: jax.Array, _order: jax.Array) -> jax.Array:
    return jnp.maximum(x @ cached(w), 0.1)


def _with_opened_weights_left(x: jax.Array, w: jax.Array, _order: jax.Array) -> jax.Array:
    return jnp.maximum(cached(w).T @ x.T, 0.1)


_LOCAL: dict[str, object] = {"trunc_allow_msb_error": True}
_PRIME: dict[str, object] = {"field": "FM128", "fxp_exp_mode": "EXP_PRIME", "experimental_enable_exp_prime": True}
_EXACT = {"Mul", "Square", "Dot", "And", "RandBit", "Eqz"}
_Function = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


@pytest.mark.parametrize(
    ("function", "parties", "options", "transport", "methods"),
    [
        (_mixed, 2, {}, "http", _EXACT | {"MulPriv"}),
        (_mixed, 2, {"field": "FM128"}, "h2", _EXACT | {"MulPriv"}),
        (_mixed, 3, {}, "h2", _EXACT | {"TruncPr"}),
        (_mixed, 3, {"field": "FM128"}, "http", _EXACT | {"TruncPr"}),
        (_mixed, 2, _LOCAL, "h2", _EXACT),
        (_mixed, 3, _LOCAL, "http", _EXACT | {"Trunc"}),
        (_mixed, 2, {"experimental_enable_colocated_optimization": True}, "http", _EXACT | {"MulPriv"}),
        (_mixed, 2, _PRIME, "h2", _EXACT - {"Square"} | {"MulPriv"}),  # MulPriv over a prime field
        (_sorted, 2, {}, "http", {"Perm", "Mul", "And", "RandBit"}),
        (_sorted, 3, {"field": "FM128"}, "h2", {"Perm", "Mul", "And", "RandBit"}),
    ],
)
def test_results_are_right(
    tmp_path: Path,
    function: _Function,
    parties: int,
    options: Mapping[str, object],
    transport: Transport,
    methods: set[str],
) -> None:
    with Dealer(DealerOptions(world_size=parties, kept_draws=100_000)) as dealer:
        mine = {**_options(dealer, transport=transport), **options}
        with Parties(tmp_path, {"f": function}, [_X, _W, _ORDER], [mine] * parties) as running:
            running.run("f")
            _right(running.result(), function)
        asked = Counter(draw.method for draw in dealer.draws)
        assert set(asked) == methods and sum(asked.values()) == dealer.status.requests
        assert dealer.status.refused == 0
        assert overlaps(dealer.draws) == []


def test_the_cases_above_exercise_every_method() -> None:
    assert set(METHODS) == _EXACT | {"MulPriv", "Trunc", "TruncPr", "Perm"}


@pytest.mark.parametrize("function", [_with_opened_weights, _with_opened_weights_left])
def test_weights_that_are_opened_once_are_refused(tmp_path: Path, function: _Function) -> None:
    """SPU draws the mask of a cached factor without moving its counter; the next draw would give the mask away."""
    with Dealer(DealerOptions(kept_draws=1000)) as dealer:
        parties = Parties(tmp_path, {"f": function}, [_X, _W, _ORDER], [_options(dealer)] * 2)
        with (
            parties as running,
            pytest.raises(Failed, match=r"rule: (overlap|replay).*Fix: export the Program without"),
        ):
            running.run("f")
        assert overlaps(dealer.draws)
        assert dealer.draws[-1].refused in ("overlap", "replay") and dealer.draws[-1].method == "Dot"


def test_the_adjusting_party_may_be_any(tmp_path: Path) -> None:
    with Dealer() as dealer:
        options = runtime_options(("127.0.0.1", dealer.port), dealer.public_key, adjust_rank=1)
        with Parties(tmp_path, {"f": _layer}, [_X, _W, _ORDER], [dict(options)] * 2) as running:
            running.run("f")
            _right(running.result(), _layer)


@pytest.mark.parametrize("transport", ["http", "h2"])
@pytest.mark.parametrize("who", ["party", "foreign", "other name"])
def test_mutual_tls(tmp_path: Path, transport: Transport, who: str) -> None:
    authority = Authority(tmp_path / "ca")
    signer = Authority(tmp_path / "foreign") if who == "foreign" else authority
    files = signer.files("party" if who != "other name" else "stranger")
    files = TlsFiles(files.certificate, files.private_key, authority.file)
    with Dealer(DealerOptions(tls=authority.files("dealer"), clients=frozenset({"party"}))) as dealer:
        mine = _options(dealer, transport=transport, tls=files)
        with Parties(tmp_path, {"f": _layer}, [_X, _W, _ORDER], [mine] * 2) as running:
            if who == "party":
                running.run("f")
                _right(running.result(), _layer)
            else:
                with pytest.raises(Failed):
                    running.run("f")
                assert dealer.status.requests == 0


def test_a_party_refuses_a_dealer_of_another_ca(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other")
    server = other.files("dealer")
    with Dealer(DealerOptions(tls=TlsFiles(server.certificate, server.private_key, authority.file))) as dealer:
        mine = _options(dealer, tls=authority.files("party"))
        with Parties(tmp_path, {"f": _layer}, [_X, _W, _ORDER], [mine] * 2) as running:
            with pytest.raises(Failed):
                running.run("f")
            assert dealer.status.requests == 0


def test_a_dealer_that_stops_ends_both_parties(tmp_path: Path) -> None:
    with Dealer() as dealer, Parties(tmp_path, {"f": _layer}, [_X, _W, _ORDER], [_options(dealer)] * 2) as running:
        running.run("f")
        dealer.stop()
        with pytest.raises(Failed, match="RpcCall failed"):
            running.run("f")


@pytest.mark.parametrize("parties", [2, 3])
def test_prepared_answers_serve_whole_inferences(tmp_path: Path, parties: int) -> None:
    """The sequence of one inference, recorded and read again, prepares the next ones; they ask the dealer nothing."""
    key = os.urandom(32)
    authority = Authority(tmp_path / "ca")
    options = DealerOptions(world_size=parties, key=key, tls=authority.files("dealer"), kept_draws=100_000)
    with (
        Dealer(options) as dealer,
        Proxy(ProxyOptions("127.0.0.1", dealer.port, key, tls=authority.files("party"))) as proxy,
    ):
        mine = dict(runtime_options(("127.0.0.1", proxy.port), dealer.public_key))
        with Parties(tmp_path, {"f": _mixed}, [_X, _W, _ORDER], [mine] * parties) as running:
            proxy.record()
            running.run("f")
            recording = Recording.from_json(proxy.recorded().to_json())
            count = len(recording.requests)
            prepared = proxy.prepare(recording, 2)
            assert prepared.requests == 2 * count and proxy.counts.passed == count
            running.run("f")
            running.run("f")
            assert (proxy.counts.passed, proxy.counts.prepared, proxy.held) == (count, 2 * count, 0)
            running.run("f")  # nothing is prepared any more: passed on
            assert proxy.counts.passed == 2 * count
            _right(running.result(), _mixed)
        assert overlaps(dealer.draws) == [] and dealer.status.refused == 0


def test_a_recording_serves_another_session(tmp_path: Path) -> None:
    """With other seeds: something small makes the seeds known, then a whole inference is prepared."""
    key = os.urandom(32)
    functions = {"f": _mixed, "small": _small}
    recording = None
    for session in ("first", "second"):
        folder = tmp_path / session
        folder.mkdir()
        with (
            Dealer(DealerOptions(key=key)) as dealer,
            Proxy(ProxyOptions("127.0.0.1", dealer.port, key)) as proxy,
            Parties(folder, functions, [_X, _W, _ORDER], [_through(proxy, dealer)] * 2) as running,
        ):
            running.run("small")
            if recording is None:
                proxy.record()
                running.run("f")
                recording = proxy.recorded()
                continue
            passed = proxy.counts.passed
            proxy.prepare(recording)
            running.run("f")
            assert proxy.counts.passed == passed and proxy.counts.prepared == len(recording.requests)
            _right(running.result(), _mixed)


def test_another_program_than_was_prepared_is_refused(tmp_path: Path) -> None:
    key = os.urandom(32)
    with Dealer(DealerOptions(key=key)) as dealer, Proxy(ProxyOptions("127.0.0.1", dealer.port, key)) as proxy:
        functions = {"f": _mixed, "small": _small}
        with Parties(tmp_path, functions, [_X, _W, _ORDER], [_through(proxy, dealer)] * 2) as running:
            proxy.record()
            running.run("f")
            proxy.prepare(proxy.recorded())
            with pytest.raises(Failed, match=r"rule: (overlap|replay)"):
                running.run("small")


def _small(x: jax.Array, _w: jax.Array, _order: jax.Array) -> jax.Array:
    return x[0, :2] * x[1, :2]


def _options(dealer: Dealer, *, transport: Transport = "http", tls: TlsFiles | None = None) -> dict[str, object]:
    return dict(runtime_options(("127.0.0.1", dealer.port), dealer.public_key, transport=transport, tls=tls))


def _through(proxy: Proxy, dealer: Dealer) -> dict[str, object]:
    return dict(runtime_options(("127.0.0.1", proxy.port), dealer.public_key))


def _right(found: npt.NDArray[Any], function: _Function) -> None:
    expected = np.asarray(function(jnp.asarray(_X), jnp.asarray(_W), jnp.asarray(_ORDER)))
    np.testing.assert_allclose(found, expected, atol=0.02)
