"""The parties' own connection: messages arrive whole, and whoever does not belong or leaves is noticed."""

from __future__ import annotations

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
from spu_bench.party.exchange import Exchange, agree, pack, unpack


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
