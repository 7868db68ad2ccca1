"""The parties' own connection: messages arrive whole, and whoever does not belong or leaves is noticed."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parties import free_port

from spu_bench import SpuBenchError
from spu_bench.party import exchange as exchange_module
from spu_bench.party.exchange import Exchange, agree, agree_on_batches, pack, unpack


@given(st.dictionaries(st.text(max_size=10), st.lists(st.binary(max_size=50), max_size=4), max_size=4))
def test_pack_round_trips(parts: dict[str, list[bytes]]) -> None:
    """Named byte strings come back as they were."""
    assert unpack(pack(parts)) == parts


def connect(parties: int, on_loss: Callable[[int, str], None]) -> list[Exchange]:
    endpoints = [("127.0.0.1", free_port()) for _ in range(parties)]
    made: dict[int, Exchange] = {}

    def join(rank: int) -> None:
        made[rank] = Exchange(rank, endpoints, timeout_s=5, on_loss=on_loss)

    threads = [threading.Thread(target=join, args=(rank,)) for rank in range(parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [made[rank] for rank in range(parties)]


def fail(peer: int, what: str) -> None:
    raise AssertionError(f"party {peer} was lost: {what}")


def in_threads(exchanges: list[Exchange], action: Callable[[Exchange], None]) -> list[BaseException | None]:
    """Run `action` for each party at once; what each of them raised."""
    raised: list[BaseException | None] = [None] * len(exchanges)

    def call(number: int) -> None:
        try:
            action(exchanges[number])
        except BaseException as error:  # handed to the test, which looks at it
            raised[number] = error

    threads = [threading.Thread(target=call, args=(number,)) for number in range(len(exchanges))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


@pytest.mark.parametrize("parties", [2, 3])
def test_messages_larger_than_any_buffer(parties: int) -> None:
    """All parties send many megabytes at once, and none blocks another."""
    exchanges = connect(parties, fail)
    for exchange in exchanges:
        exchange.allow(1 << 25)
    data = bytes(range(256)) * (1 << 16)
    seen: queue.Queue[bool] = queue.Queue()

    def swap(exchange: Exchange) -> None:
        for received in exchange.all_to_all(data).values():
            seen.put(received == data)
        exchange.barrier()
        exchange.close()

    assert in_threads(exchanges, swap) == [None] * parties
    assert [seen.get() for _ in range(seen.qsize())] == [True] * parties * (parties - 1)


def test_a_peer_that_leaves_is_reported() -> None:
    """A connection that ends without goodbye calls `on_loss`; one with goodbye does not."""
    lost: queue.Queue[tuple[int, str]] = queue.Queue()
    first, second = connect(2, lambda peer, what: lost.put((peer, what)))
    second._sockets[0].shutdown(socket.SHUT_RDWR)
    # both ends see it: the one that was left, and the one whose socket was cut
    assert {lost.get(timeout=5)[0], lost.get(timeout=5)[0]} == {0, 1}
    first.close()
    first, second = connect(2, lambda peer, what: lost.put((peer, what)))
    first.close()
    second.close()
    time.sleep(0.2)
    assert lost.empty()


def test_terms_that_differ_are_named() -> None:
    """Each party says what the other has, and neither calls it a loss."""
    exchanges = connect(2, fail)

    def settle(exchange: Exchange) -> None:
        agree(exchange, {"Program": "same", "link file": str(exchange.rank)})

    for error in in_threads(exchanges, settle):
        assert isinstance(error, SpuBenchError)
        assert "another link file" in error.problem and error.reason == "bad_input"


def test_strangers_are_turned_away() -> None:
    """A connection that is no party's does not take a party's place."""
    port, other = free_port(), free_port()
    endpoints = [("127.0.0.1", port), ("127.0.0.1", other)]
    made: queue.Queue[Exchange] = queue.Queue()
    threading.Thread(target=lambda: made.put(Exchange(0, endpoints, timeout_s=8, on_loss=fail))).start()
    for greeting in (b"G", b"\x00", b""):
        for _ in range(100):
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=1) as stranger:
                    stranger.sendall(greeting)
                break
            except ConnectionRefusedError:
                time.sleep(0.02)
    second = Exchange(1, endpoints, timeout_s=8, on_loss=fail)
    first = made.get(timeout=8)
    assert in_threads([first, second], Exchange.barrier) == [None, None]
    first.close()
    second.close()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_peer_that_never_comes(rank: int) -> None:
    """Whoever waits, or calls, gives up after the time it was given and names the other."""
    endpoints = [("127.0.0.1", free_port()), ("127.0.0.1", free_port())]
    with pytest.raises(SpuBenchError, match=f"Party {1 - rank} .* did not connect within 1 s") as caught:
        Exchange(rank, endpoints, timeout_s=1, on_loss=fail)
    assert caught.value.reason == "peer"


def test_a_port_in_use() -> None:
    """The port is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SpuBenchError, match=f"127.0.0.1:{port}: Address already in use") as caught:
            Exchange(0, [("127.0.0.1", port), ("127.0.0.1", free_port())], timeout_s=1, on_loss=fail)
    assert caught.value.reason == "environment"


def wait_for(port: int) -> socket.socket:
    """A stranger's connection to a port that is about to listen."""
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except ConnectionRefusedError:
            time.sleep(0.02)
    raise AssertionError("nobody listens")


def test_silent_strangers_keep_nobody_waiting() -> None:
    """Ninety connections that send nothing, one byte, or half a greeting stay open while the real peer comes."""
    port, other = free_port(), free_port()
    endpoints = [("127.0.0.1", port), ("127.0.0.1", other)]
    made: queue.Queue[Exchange] = queue.Queue()
    threading.Thread(target=lambda: made.put(Exchange(0, endpoints, timeout_s=20, on_loss=fail))).start()
    strangers = [wait_for(port) for _ in range(90)]
    for stranger, greeting in zip(strangers, [b"", b"\x01", b"spu-bench"] * 30):
        with contextlib.suppress(OSError):
            stranger.sendall(greeting)
    second = Exchange(1, endpoints, timeout_s=20, on_loss=fail)
    first = made.get(timeout=20)
    assert in_threads([first, second], Exchange.barrier) == [None, None]
    for exchange in (first, second):
        exchange.close()
    for stranger in strangers:
        stranger.close()


def test_a_stranger_in_the_place_of_the_called_party() -> None:
    """Who listens there and does not greet back is no party."""
    with socket.create_server(("127.0.0.1", 0)) as wrong:
        endpoints = [("127.0.0.1", int(wrong.getsockname()[1])), ("127.0.0.1", free_port())]
        with pytest.raises(SpuBenchError, match=r"Party 0 .* did not connect"):
            Exchange(1, endpoints, timeout_s=1, on_loss=fail)


@pytest.mark.parametrize(
    ("frame", "complaint"),
    [
        (b"d" + (1 << 33).to_bytes(8, "big"), "more than this session has"),
        (b"d" + (2 << 20).to_bytes(8, "big"), "more than this session has"),
        (b"x" + bytes(8), "another protocol"),
        (b"h" + (5).to_bytes(8, "big"), "another protocol"),
        (b"GET / HTTP/1.1\r\n", "another protocol"),
    ],
)
def test_frames_that_no_party_sends(frame: bytes, complaint: str) -> None:
    """They are refused by their head, before they take memory."""
    lost: queue.Queue[str] = queue.Queue()
    _, second = connect(2, lambda peer, what: lost.put(what))
    second._sockets[0].sendall(frame)
    assert complaint in lost.get(timeout=5)


def test_messages_that_nobody_reads_do_not_pile_up() -> None:
    """A peer that sends on and on is cut off."""
    lost: queue.Queue[str] = queue.Queue()
    _, second = connect(2, lambda peer, what: lost.put(what))
    for _ in range(4):
        second.send(0, bytes(1 << 20))
    assert "more than this session has" in lost.get(timeout=5)


def test_a_peer_that_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is noticed; heartbeats of a peer that computes for long are no silence."""
    monkeypatch.setattr(exchange_module, "_HEARTBEAT_S", 0.2)
    lost: queue.Queue[tuple[int, str]] = queue.Queue()
    first, second = connect(2, lambda peer, what: lost.put((peer, what)))
    for exchange in (first, second):
        exchange.be_patient(3.0)
    time.sleep(5)
    assert lost.empty()
    with second._sending[0]:  # no heartbeat comes out
        assert lost.get(timeout=10) == (1, "sent nothing for 3 s")


def test_a_goodbye_at_the_wrong_time() -> None:
    """Who waits for a message of a peer that has ended gets an error."""
    first, second = connect(2, fail)
    second.close()
    with pytest.raises(SpuBenchError, match="Party 1 ended the session") as caught:
        first.receive(1)
    assert caught.value.reason == "peer"
    first.close()


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"5", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000],
    ids=["empty", "half", "list", "number", "not UTF-8", "deep list", "deep object"],
)
def test_messages_that_cannot_be_read(data: bytes) -> None:
    """One line each: of terms, and of shares."""
    first, second = connect(2, fail)
    second.send(0, data)
    with pytest.raises(SpuBenchError, match=r"cannot be read|another Program") as caught:
        agree(first, {"Program": "mine"})
    assert caught.value.reason in ("peer", "bad_input")
    framed = len(data).to_bytes(4, "big") + data
    with pytest.raises(SpuBenchError, match="cannot be read"):
        unpack(framed)
    for exchange in (first, second):
        exchange.close()


@pytest.mark.parametrize("head", ['{"a": [-1]}', '{"a": [99999999999]}', '{"a": "b"}', '{"a": [1.5]}', '{"a": [[]]}'])
def test_shares_whose_sizes_are_wrong(head: str) -> None:
    data = head.encode()
    with pytest.raises(SpuBenchError, match="cannot be read"):
        unpack(len(data).to_bytes(4, "big") + data)


@pytest.mark.parametrize("said", [b"abc", b"", b"-1", b"0", b"1e9", b"10000000000", b"\xff", "\u0663".encode()])
def test_a_number_of_batches_that_is_none(said: bytes) -> None:
    first, second = connect(2, fail)
    second.send(0, said)
    with pytest.raises(SpuBenchError, match="Party 1 says that it brings") as caught:
        agree_on_batches(first, 1)
    assert caught.value.reason == "peer"
    for exchange in (first, second):
        exchange.close()
