"""The dealer over HTTP without SPU: answers, limits, strangers, certificates."""

from __future__ import annotations

import http.client
import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import numpy as np
import pytest
from asking import Client, Refused, Seeds, as_json, ask_for
from certificates import Authority

from spu_bench.dealer import ConnectionLimits, Dealer, DealerOptions, TlsFiles, runtime_options
from spu_bench.dealer.requests import SERVICE, Request, serialize
from spu_bench.dealer.streams import Stream
from spu_bench.errors import SpuBenchError

_QUICK = ConnectionLimits(request_s=0.5, idle_s=5.0)


@pytest.fixture
def dealer() -> Iterator[Dealer]:
    with Dealer(DealerOptions(connection=_QUICK, kept_draws=100)) as running:
        yield running


@pytest.fixture
def seeds(dealer: Dealer) -> Seeds:
    return Seeds(dealer.public_key)


def _expected(seeds: Seeds, request: Request) -> bytes:
    """The answer to Mul in FM64, from the seeds."""
    draws = [
        [np.frombuffer(Stream(seed).ring(o.start, o.length), np.uint64) for seed in seeds.plain]
        for o in request.operands
    ]
    a, b, c = (np.sum(np.stack(parts), axis=0, dtype=np.uint64) for parts in draws)
    return bytes((a * b - c).tobytes())


def test_http_1_answers_json_and_protobuf_on_one_connection(dealer: Dealer, seeds: Seeds) -> None:
    client = Client(dealer.port)
    first = ask_for("Mul", seeds.encrypted, elements=1000)
    second = ask_for("Mul", seeds.encrypted, first.operands[-1].end)
    assert client.post("Mul", as_json(first), "application/json") == _expected(seeds, first)
    assert client.ask(second) == _expected(seeds, second)
    assert dealer.status.requests == 2 and dealer.status.refused == 0


def _h2_ask(port: int, bodies: list[bytes]) -> list[bytes]:
    """Ask for Mul over HTTP/2, with a small window, so that the dealer has to wait for it."""
    http2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    http2.initiate_connection()
    found = []
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        for body in bodies:
            stream = http2.get_next_available_stream_id()
            names = (":method", ":path", ":scheme", ":authority", "content-type")
            values = ("POST", SERVICE + "Mul", "http", "dealer", "application/proto")
            http2.send_headers(stream, list(zip(names, values, strict=True)))
            http2.send_data(stream, body, end_stream=True)
            sock.sendall(http2.data_to_send())
            data, ended = bytearray(), False
            while not ended:
                for event in http2.receive_data(sock.recv(1 << 16)):
                    if isinstance(event, h2.events.DataReceived):
                        data += event.data or b""
                        http2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
                    ended = ended or isinstance(event, h2.events.StreamEnded)
                sock.sendall(http2.data_to_send())
            found.append(bytes(data[9:]))
    return found


def test_http_2_answers_beyond_its_window(dealer: Dealer, seeds: Seeds) -> None:
    first = ask_for("Mul", seeds.encrypted, elements=100_000)  # 800 KB; the window has 64 KB
    second = ask_for("Mul", seeds.encrypted, first.operands[-1].end)
    answers = _h2_ask(dealer.port, [serialize(first), serialize(second)])
    assert answers == [_expected(seeds, first), _expected(seeds, second)]


def test_random_bits_are_bits_and_the_same_when_asked_again(dealer: Dealer, seeds: Seeds) -> None:
    client = Client(dealer.port)
    request = ask_for("RandBit", seeds.encrypted, elements=500)
    answer = client.ask(request)
    drawn = sum(np.frombuffer(Stream(s).ring(0, 4000), np.uint64) for s in seeds.plain)
    bits = np.frombuffer(answer, np.uint64) + drawn
    assert set(bits.tolist()) == {0, 1}
    assert client.ask(request) == answer


def test_a_refusal_is_an_error_frame_that_names_the_rule(dealer: Dealer, seeds: Seeds) -> None:
    client = Client(dealer.port)
    client.ask(ask_for("Mul", seeds.encrypted))
    with pytest.raises(Refused, match="rule: overlap") as caught:
        client.ask(ask_for("Trunc", seeds.encrypted, 1))
    assert caught.value.code == 1
    with pytest.raises(Refused, match="cannot read") as caught:
        client.post("Mul", b"{", "application/json")
    assert dealer.draws[-1].refused == "overlap" and dealer.status.refused == 1


def test_a_seed_for_another_key_has_the_code_of_decryption(dealer: Dealer, seeds: Seeds) -> None:
    dealer.renew()
    with pytest.raises(Refused) as caught:
        Client(dealer.port).ask(ask_for("Mul", seeds.encrypted))
    assert caught.value.code == 2


@pytest.mark.parametrize(
    ("verb", "path", "status"),
    [
        ("GET", "/health", 200), ("GET", "/", 404), ("GET", SERVICE + "Mul", 404), ("POST", "/ahead", 404),
        ("POST", "/../etc", 404), ("PUT", SERVICE + "Mul", 404),
    ],
)  # fmt: skip
def test_other_paths(dealer: Dealer, verb: str, path: str, status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", dealer.port, timeout=20)
    connection.request(verb, path)
    assert connection.getresponse().status == status


_HEAD = b"POST " + SERVICE.encode() + b"Mul HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 100,
        b"GET / HTTP/9\r\n\r\n",
        b"\r\n" * 50,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 40_000 + b"\r\n\r\n",
        _HEAD + b"Content-Length: 100000\r\n\r\n" + b"x" * 100_000,
        _HEAD + b"Content-Length: -1\r\n\r\n",
        _HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n",
        _HEAD + b"Content-Length: 50\r\n\r\nslow",
        b"",
        b"P",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"PRI garbage" + b"\x00" * 50,
    ],
)
def test_a_stranger_is_closed_and_the_party_is_served(dealer: Dealer, seeds: Seeds, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", dealer.port), timeout=20) as stranger:
        stranger.sendall(data)
        request = ask_for("Mul", seeds.encrypted)
        assert Client(dealer.port).ask(request) == _expected(seeds, request)
        try:
            while stranger.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass  # closed with bytes unread


def test_connections_are_bounded_and_free_again() -> None:
    with Dealer(DealerOptions(connections=2, connection=_QUICK)) as dealer:
        silent = [socket.create_connection(("127.0.0.1", dealer.port), timeout=20) for _ in range(3)]
        assert silent[2].recv(1) == b""
        for sock in silent:
            sock.close()
        seeds = Seeds(dealer.public_key)
        for _ in range(100):
            try:
                assert Client(dealer.port).ask(ask_for("Mul", seeds.encrypted))
                return
            except (OSError, http.client.HTTPException):
                threading.Event().wait(0.05)
        pytest.fail("no place became free")


def test_requests_at_once_get_their_own_answers(dealer: Dealer, seeds: Seeds) -> None:
    """The streams are shared by all connections."""
    starts = itertools.count(0, 4000)
    requests = [ask_for("Mul", seeds.encrypted, next(starts), elements=2000) for _ in range(40)]
    Client(dealer.port).ask(requests[-1].shifted(10**6))
    dealer.renew()
    seeds = Seeds(dealer.public_key)
    requests = [r.shifted(0, seeds.encrypted) for r in requests]
    first = Client(dealer.port)
    for request in requests:
        first.ask(request)
    wrong: list[int] = []

    def again(part: list[Request]) -> None:
        client = Client(dealer.port)
        wrong.extend(r.start for r in part if client.ask(r) != _expected(seeds, r))

    threads = [threading.Thread(target=again, args=(requests[i::3],)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def _until(condition: Callable[[], bool]) -> None:
    for _ in range(400):
        if condition():
            return
        threading.Event().wait(0.05)
    pytest.fail("it did not come about in 20 s")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


class TestTls:
    def _health(self, dealer: Dealer, files: TlsFiles | None, ca: Path | None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", dealer.port, timeout=20)
        if ca is not None:
            context = ssl.create_default_context(cafile=str(ca))
            if files is not None:
                context.load_cert_chain(files.certificate, files.private_key)
            connection = http.client.HTTPSConnection("127.0.0.1", dealer.port, timeout=20, context=context)
        connection.request("GET", "/health")
        return connection.getresponse().status

    def test_a_client_of_the_ca_is_served(self, authority: Authority) -> None:
        with Dealer(DealerOptions(tls=authority.files("dealer"))) as dealer:
            assert self._health(dealer, authority.files("party"), authority.file) == 200

    @pytest.mark.parametrize("who", ["foreign", "expired", "none", "other name", "plain"])
    def test_any_other_client_is_not(self, authority: Authority, tmp_path: Path, who: str) -> None:
        options = DealerOptions(tls=authority.files("dealer"), clients=frozenset({"party"}), connection=_QUICK)
        files = {
            "foreign": Authority(tmp_path / "foreign").files("party"),
            "expired": authority.files("party", expired=True),
            "other name": authority.files("stranger"),
        }.get(who)
        with Dealer(options) as dealer:
            ca = None if who == "plain" else authority.file
            with pytest.raises((ssl.SSLError, OSError, http.client.HTTPException)):
                self._health(dealer, files, ca)
            assert dealer.status.requests == 0
            _until(lambda: not dealer._service._open)  # nothing is kept of a connection that failed

    def test_stop_closes_an_open_connection(self, authority: Authority) -> None:
        files = authority.files("party")
        with Dealer(DealerOptions(tls=authority.files("dealer"))) as dealer:
            context = files.client()
            plain = socket.create_connection(("127.0.0.1", dealer.port), timeout=20)
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
                sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert sock.recv(100).startswith(b"HTTP/1.1 200")
                dealer.stop()
                while sock.recv(1 << 16):
                    pass

    def test_files_that_do_not_belong_together(self, authority: Authority, tmp_path: Path) -> None:
        good = authority.files("dealer")
        for files in (replace(good, private_key=authority.file), replace(good, ca=tmp_path / "missing")):
            with pytest.raises(SpuBenchError, match="TLS files"):
                Dealer(DealerOptions(tls=files))


@pytest.mark.parametrize(
    "options", [{"host": "0.0.0.0"}, {"host": "10.0.0.1"}, {"world_size": 1}, {"world_size": 4}, {"key": b"short"}]
)
def test_options_that_are_not_safe_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(SpuBenchError, match="Fix: "):
        DealerOptions(**options)  # type: ignore[arg-type]


def test_a_port_in_use_is_named(dealer: Dealer) -> None:
    with pytest.raises(SpuBenchError, match=str(dealer.port)):
        Dealer(DealerOptions(port=dealer.port))


def test_depth_0_is_refused() -> None:
    with pytest.raises(SpuBenchError, match="verify_depth"):
        runtime_options(("127.0.0.1", 1), "", verify_depth=0)


def test_the_keys_differ_by_session(dealer: Dealer) -> None:
    before = dealer.public_key
    assert dealer.renew() != before and dealer.status.requests == 0
