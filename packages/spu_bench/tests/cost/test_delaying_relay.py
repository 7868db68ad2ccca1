"""The relay delays, slows and counts, and changes nothing."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator

import pytest
from relayed import receive, relayed

from spu_bench.cost.delaying_relay import DelayingRelay, Message, flights


def message(body: bytes) -> bytes:
    return struct.pack(">4sII", b"PRPC", len(body), 0) + body


@pytest.fixture
def line() -> Iterator[tuple[DelayingRelay, socket.socket, socket.socket]]:
    """A relay, and the two ends of a connection through it."""

    def make(port: int) -> tuple[DelayingRelay, int]:
        relay = DelayingRelay(port)
        return relay, relay.port

    with relayed(make) as ends:
        yield ends


def test_what_passes_is_the_same_and_is_counted(line: tuple[DelayingRelay, socket.socket, socket.socket]) -> None:
    """Messages arrive as they were sent, in order, however they were cut; their sizes are known once."""
    relay, caller, called = line
    sent = b"".join(message(bytes([i]) * size) for i, size in enumerate((5, 0, 300_000, 70_000)))
    threading.Thread(target=lambda: [caller.sendall(sent[i : i + 7_001]) for i in range(0, len(sent), 7_001)]).start()
    assert receive(called, len(sent)) == sent
    taken = relay.take_messages()
    assert [each.size for each in taken] == [5, 0, 300_000, 70_000] and relay.take_messages() == []
    assert all(each.began_s <= each.whole_s for each in taken)
    called.sendall(b"any answer")
    assert receive(caller, 10) == b"any answer"


def test_what_follows_one_another_is_one_flight() -> None:
    """A pause between the end of one message and the beginning of the next parts them, however long each takes."""
    messages = [Message(5, 0.0, 1.0), Message(7, 1.004, 1.1), Message(11, 1.2, 1.2), Message(13, 1.205, 1.3)]
    assert flights(messages, 0.005) == [12, 11, 13] and flights(messages[::-1], 0.006) == [12, 24]
    assert flights([], 0.005) == []


def test_no_sooner_than_delay_and_rate_allow(line: tuple[DelayingRelay, socket.socket, socket.socket]) -> None:
    """A round trip takes two delays, and bytes take their time."""
    relay, caller, called = line
    relay.delay_s = 0.05
    started = time.monotonic()
    caller.sendall(message(b"there"))
    receive(called, 17)
    called.sendall(b"back")
    receive(caller, 4)
    assert time.monotonic() - started >= 0.1
    relay.delay_s, relay.rate = 0.0, 1e6
    started = time.monotonic()
    caller.sendall(message(bytes(100_000)))
    receive(called, 100_012)
    assert time.monotonic() - started >= 0.1
