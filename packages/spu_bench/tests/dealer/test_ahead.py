"""Answers ahead of time, without SPU: the same answers as online, authenticated, and only for the same requests."""

from __future__ import annotations

import http.client
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from asking import Client, Refused, Seeds, ask_for
from certificates import Authority

from spu_bench.dealer import Dealer, DealerOptions, Proxy, ProxyOptions, Recording, TlsFiles, ahead, overlaps
from spu_bench.dealer.requests import Method, Request
from spu_bench.errors import SpuBenchError

_KEY = os.urandom(32)
_METHODS: list[Method] = ["Mul", "TruncPr", "And", "Dot", "RandBit", "Eqz", "Mul"]


def _inference(seeds: Seeds, start: int) -> list[Request]:
    made = []
    for method in _METHODS:
        more = {"bits": 4} if method == "TruncPr" else {}
        made.append(ask_for(method, seeds.encrypted, start, **more))
        start = made[-1].operands[-1].end
    return made


@pytest.fixture
def dealer() -> Iterator[Dealer]:
    with Dealer(DealerOptions(key=_KEY, kept_draws=1000)) as running:
        yield running


@pytest.fixture
def proxy(dealer: Dealer) -> Iterator[Proxy]:
    with Proxy(ProxyOptions("127.0.0.1", dealer.port, _KEY)) as running:
        yield running


@pytest.fixture
def seeds(dealer: Dealer) -> Seeds:
    return Seeds(dealer.public_key)


def _record(proxy: Proxy, client: Client, seeds: Seeds) -> Recording:
    proxy.record()
    for request in _inference(seeds, 0):
        client.ask(request)
    return proxy.recorded()


def test_prepared_answers_are_those_of_the_dealer(dealer: Dealer, proxy: Proxy, seeds: Seeds) -> None:
    client, direct = Client(proxy.port), Client(dealer.port)
    recording = _record(proxy, client, seeds)
    prepared = proxy.prepare(recording, 3)
    assert prepared.requests == proxy.held == 3 * len(_METHODS)
    assert prepared.bytes == 3 * (recording.answer_bytes + 9 * (len(_METHODS) + 1))  # TruncPr has two frames
    for index in range(1, 4):
        for request in _inference(seeds, index * recording.span):
            assert client.ask(request) == direct.ask(request)  # the dealer answers a retry
    assert (proxy.counts.prepared, proxy.counts.passed, proxy.held) == (3 * len(_METHODS), len(_METHODS), 0)
    assert overlaps(dealer.draws) == [] and dealer.status.refused == 0
    client.ask(_inference(seeds, 4 * recording.span)[0])  # what was not prepared is passed on
    assert proxy.counts.passed == len(_METHODS) + 1


def test_another_request_over_a_prepared_range_is_refused(dealer: Dealer, proxy: Proxy, seeds: Seeds) -> None:
    client = Client(proxy.port)
    recording = _record(proxy, client, seeds)
    proxy.prepare(recording)
    with pytest.raises(Refused, match="rule: overlap"):
        client.ask(ask_for("Trunc", seeds.encrypted, recording.span))
    assert dealer.status.refused == 1


def test_nothing_is_prepared_before_the_first_request(dealer: Dealer, proxy: Proxy) -> None:
    strange = Recording.of(_inference(Seeds(dealer.public_key), 0))
    with pytest.raises(SpuBenchError, match="rule: session"):
        proxy.prepare(strange)
    assert proxy.held == 0


def test_too_much_is_not_prepared(dealer: Dealer, seeds: Seeds) -> None:
    with Proxy(ProxyOptions("127.0.0.1", dealer.port, _KEY, memory_bytes=100)) as proxy:
        recording = _record(proxy, Client(proxy.port), seeds)
        with pytest.raises(SpuBenchError, match="more than was requested"):
            proxy.prepare(recording)
        with pytest.raises(SpuBenchError, match="too many to prepare"):
            proxy.prepare(recording, 10**9)


def test_another_key_gets_nothing(dealer: Dealer, proxy: Proxy, seeds: Seeds) -> None:
    recording = _record(proxy, Client(proxy.port), seeds)
    with Proxy(ProxyOptions("127.0.0.1", dealer.port, os.urandom(32))) as other:
        with pytest.raises(SpuBenchError, match="wrong MAC"):
            other.prepare(recording)
        assert other.held == 0


def _altered(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _swapped(data: bytes) -> bytes:
    """The first two records, which have one length, in the other order."""
    length = 32 + 8 + 9 + 32 + 32
    first, second = data[16 : 16 + length], data[16 + length : 16 + 2 * length]
    return data[:16] + second + first + data[16 + 2 * length :]


@pytest.mark.parametrize(
    "change",
    [
        _altered(0), _altered(16), _altered(70), _altered(100), _altered(-1), _swapped, lambda d: d[:-1],
        lambda d: d[:20], lambda d: d[:16] + d[16 + 113 :], lambda d: b"", lambda d: d[:50] + b"\xff" * 8 + d[58:],
    ],
)  # fmt: skip
def test_what_was_altered_on_the_way_is_found(change: Callable[[bytes], bytes]) -> None:
    with Dealer(DealerOptions(key=_KEY)) as dealer:
        seeds = Seeds(dealer.public_key)
        requests = [ask_for("Mul", seeds.encrypted, 6 * i) for i in range(3)]
        Client(dealer.port).ask(requests[0])
        body, nonce = ahead.ask(_KEY, Recording.of(requests), 1)
        connection = http.client.HTTPConnection("127.0.0.1", dealer.port, timeout=20)
        connection.request("POST", ahead.PATH, body)
        data = connection.getresponse().read()
    kept: dict[bytes, bytes] = {}
    _receive(data, nonce, kept)
    assert len(kept) == 3
    with pytest.raises(SpuBenchError):
        _receive(change(data), nonce, {})
    with pytest.raises(SpuBenchError):  # the reply to an earlier question
        _receive(data, os.urandom(16), {})


def _receive(data: bytes, nonce: bytes, kept: dict[bytes, bytes]) -> None:
    place = 0

    def read(count: int) -> bytes:
        nonlocal place
        place += count
        return data[place - count : place]

    ahead.receive(read, _KEY, nonce, kept.__setitem__, most_bytes=1 << 20)


def test_a_dealer_that_is_gone_ends_a_request_at_once(dealer: Dealer, proxy: Proxy, seeds: Seeds) -> None:
    client = Client(proxy.port)
    recording = _record(proxy, client, seeds)
    proxy.prepare(recording)
    dealer.stop()
    for request in _inference(seeds, recording.span):  # what is here is answered anyway
        assert client.ask(request)
    with pytest.raises(Refused, match=f"127.0.0.1:{dealer.port} does not answer"):
        client.ask(_inference(seeds, 2 * recording.span)[0])
    with pytest.raises(SpuBenchError, match="does not answer"):
        proxy.prepare(recording)
    with pytest.raises(SpuBenchError, match="does not answer"):
        proxy.check()


def test_a_dealer_that_stalls_ends_a_request_in_time(seeds: Seeds) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        taken: list[socket.socket] = []
        thread = threading.Thread(target=lambda: taken.append(silent.accept()[0]))
        thread.start()
        options = ProxyOptions("127.0.0.1", silent.getsockname()[1], _KEY, timeout_s=0.3)
        with Proxy(options) as proxy, pytest.raises(Refused, match="does not answer: timed out"):
            Client(proxy.port).ask(_inference(seeds, 0)[0])
        thread.join()
        taken[0].close()


def test_over_mutual_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    foreign = Authority(tmp_path / "foreign").files("proxy")
    options = DealerOptions(key=_KEY, tls=authority.files("dealer"), clients=frozenset({"proxy"}))
    with Dealer(options) as dealer:
        where = ("127.0.0.1", dealer.port, _KEY)
        with Proxy(ProxyOptions(*where, tls=authority.files("proxy"))) as proxy:
            proxy.check()
            seeds = Seeds(dealer.public_key)
            recording = _record(proxy, Client(proxy.port), seeds)
            assert proxy.prepare(recording).requests == len(_METHODS)
        strangers = [
            foreign,
            TlsFiles(foreign.certificate, foreign.private_key, authority.file),
            authority.files("other"),
        ]
        for files in [*strangers, None]:
            with Proxy(ProxyOptions(*where, tls=files)) as proxy, pytest.raises(SpuBenchError, match="does not answer"):
                proxy.check()
