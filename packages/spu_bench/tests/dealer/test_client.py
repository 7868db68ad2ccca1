"""Sessions, keys and the watch, over HTTP."""

from __future__ import annotations

import queue
import socket
from pathlib import Path

import pytest
from asking import Client, Refused, Seeds, ask_for
from certificates import Authority

from spu_bench.dealer import Dealer, DealerOptions, DealerWatch, check, current_key, new_session
from spu_bench.errors import SpuBenchError


def test_a_session_has_a_key_of_its_own() -> None:
    with Dealer(DealerOptions(session_idle_s=0.0)) as dealer:
        where = ("127.0.0.1", dealer.port)
        before = current_key(where)
        seeds = Seeds(before)
        Client(dealer.port).ask(ask_for("Mul", seeds.encrypted))
        fresh = new_session(where)
        assert fresh != before and current_key(where) == fresh == dealer.public_key
        with pytest.raises(Refused) as caught:  # seeds of the session before
            Client(dealer.port).ask(ask_for("Mul", seeds.encrypted))
        assert caught.value.code == 2


def test_a_session_in_use_is_not_ended() -> None:
    with Dealer() as dealer:
        where = ("127.0.0.1", dealer.port)
        seeds = Seeds(new_session(where))
        assert Seeds(new_session(where)).plain  # nothing was asked: another may begin
        seeds = Seeds(dealer.public_key)
        Client(dealer.port).ask(ask_for("Mul", seeds.encrypted))
        with pytest.raises(SpuBenchError, match="serves other parties"):
            new_session(where)
        assert Client(dealer.port).ask(ask_for("Mul", seeds.encrypted))


def test_over_tls_the_dealers_name_is_checked(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    party = authority.files("party")
    with Dealer(DealerOptions(tls=authority.files("dealer"))) as dealer:
        assert current_key(("127.0.0.1", dealer.port), party) == dealer.public_key
        check(("127.0.0.1", dealer.port), party)
        with pytest.raises(SpuBenchError, match="does not answer"):
            check(("localhost", dealer.port), party)  # the certificate is for 127.0.0.1
        with pytest.raises(SpuBenchError, match="does not answer"):
            check(("127.0.0.1", dealer.port))


@pytest.mark.parametrize("reply", [b"{}", b"[]", b"x", b'{"public_key": "x"}', b"[" * 50_000])
def test_an_answer_without_a_key_is_an_error(reply: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spu_bench.dealer.client._ask", lambda *_: reply)
    with pytest.raises(SpuBenchError, match="no public key"):
        current_key(("127.0.0.1", 1))


def test_the_watch_tells_of_a_dealer_that_stops() -> None:
    told: queue.Queue[SpuBenchError] = queue.Queue()
    with Dealer() as dealer, DealerWatch(("127.0.0.1", dealer.port), told.put, every_s=0.02):
        with pytest.raises(queue.Empty):
            told.get(timeout=0.3)
        dealer.stop()
        error = told.get(timeout=20)
    assert error.reason == "peer" and str(dealer.port) in str(error)


def test_the_watch_tells_of_a_dealer_that_stalls() -> None:
    told: queue.Queue[SpuBenchError] = queue.Queue()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = ("127.0.0.1", silent.getsockname()[1])
        with DealerWatch(where, told.put, every_s=0.02, timeout_s=0.2):
            assert "timed out" in str(told.get(timeout=20))


def test_a_stopped_watch_is_silent() -> None:
    told: queue.Queue[SpuBenchError] = queue.Queue()
    with Dealer() as dealer:
        watch = DealerWatch(("127.0.0.1", dealer.port), told.put, every_s=0.2)
        watch.stop()
    with pytest.raises(queue.Empty):
        told.get(timeout=0.5)
