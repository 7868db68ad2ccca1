"""The counting relay: it passes every byte, and counts messages and payload of whoever sends them."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from relayed import receive, relayed

from spu_bench import wire
from spu_bench.counting_relay import CountingRelay, read_push

SERVER, CLIENT = 0, 1


def push(sender: int, key: bytes, payload: bytes, offset: int = 0) -> bytes:
    """A PushRequest of the link's channel (yasl/link/transport/channel.proto)."""
    chunk = wire.bytes_field(5, b"\x10" + wire.write_varint(offset)) if offset else b""
    return b"\x08" + wire.write_varint(sender) + wire.bytes_field(2, key) + wire.bytes_field(3, payload) + chunk


def frame(request: bytes, meta: bytes = b"meta") -> bytes:
    """A frame of brpc's standard protocol."""
    return struct.pack(">4sII", b"PRPC", len(meta) + len(request), len(meta)) + meta + request


@pytest.fixture
def line(tmp_path: Path) -> Iterator[tuple[socket.socket, socket.socket, list[Path]]]:
    """A connection from the client to the server through a relay, and the parties' counters."""
    counters = [tmp_path / "server", tmp_path / "client"]

    def make(port: int) -> tuple[CountingRelay, int]:
        relay = CountingRelay([port, 1], counters)
        return relay, relay.seen_at[SERVER]

    with relayed(make) as (_, caller, called):
        yield caller, called, counters


def counts(counters: list[Path]) -> list[tuple[int, ...]]:
    return [struct.unpack("<4q", path.read_bytes()) for path in counters]


def test_messages_and_payload_are_counted(line: tuple[socket.socket, socket.socket, list[Path]]) -> None:
    """A message in two chunks counts once, an acknowledgement not at all."""
    caller, called, counters = line
    frames = [
        frame(push(CLIENT, b"k1", bytes(300))),
        frame(push(CLIENT, b"k2", bytes(70))),
        frame(push(CLIENT, b"k2", bytes(30), offset=70)),
        frame(push(CLIENT, b"ACK\x01\0", b"1")),
    ]
    caller.sendall(b"".join(frames))
    assert receive(called, sum(map(len, frames))) == b"".join(frames)
    assert counts(counters) == [(0, 400, 0, 2), (400, 0, 2, 0)]
    called.sendall(b"answer")
    assert receive(caller, 6) == b"answer"


def test_another_protocol_passes_uncounted(line: tuple[socket.socket, socket.socket, list[Path]]) -> None:
    """So that the run ends, and says that nothing was counted."""
    caller, called, counters = line
    sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(range(200))
    caller.sendall(sent)
    assert receive(called, len(sent)) == sent
    assert counts(counters) == [(0, 0, 0, 0)] * 2


def test_a_push_request_is_read() -> None:
    request = memoryview(push(1, b"key", bytes(7), offset=300))
    assert read_push(request) == (1, b"key", 7, 300)
