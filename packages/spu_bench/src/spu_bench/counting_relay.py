"""A relay that counts what passes over SPU's link, for a version of SPU that does not count.

It stands between parties on loopback, reads the frames of brpc's standard protocol, and passes every byte on.
SPU's link sends a message as one frame, or in chunks of which the first has offset 0 (yasl/link/transport/channel.proto
of SPU 0.3.1b0). A message counts once, whatever its chunks; the link's acknowledgements, which come in the same way, do
not count.
"""

from __future__ import annotations

import contextlib
import mmap
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from spu_bench import wire

_COUNTS = struct.Struct("<4q")
"""A counter file: bytes sent and received, messages sent and received, of one party."""
_ACKNOWLEDGEMENT = b"ACK\x01\0"


class CountingRelay:
    """Relays to the parties that listen on 127.0.0.1 at `ports`; `seen_at` are the ports to give to their peers.

    `counters` are the files, one for each party in rank order, that hold the counts at any time.
    """

    def __init__(self, ports: Sequence[int], counters: Sequence[Path]) -> None:
        self._ports = ports
        self._lock = threading.Lock()
        self._files = []
        for path in counters:
            path.write_bytes(bytes(_COUNTS.size))
            with open(path, "r+b") as stream:
                self._files.append(mmap.mmap(stream.fileno(), _COUNTS.size))
        self._listeners = [socket.create_server(("127.0.0.1", 0)) for _ in ports]
        self._open: list[socket.socket] = list(self._listeners)
        self.seen_at = [listener.getsockname()[1] for listener in self._listeners]
        for rank, listener in enumerate(self._listeners):
            threading.Thread(target=self._accept, args=(rank, listener), daemon=True).start()

    def close(self) -> None:
        """End all connections."""
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self, rank: int, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            try:
                party = socket.create_connection(("127.0.0.1", self._ports[rank]))
            except OSError:  # the party does not listen yet: its peer will call again
                caller.close()
                continue
            for each in (caller, party):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open += [caller, party]
            threading.Thread(target=self._carry_requests, args=(rank, caller, party), daemon=True).start()
            threading.Thread(target=_carry, args=(party, caller), daemon=True).start()

    def _carry_requests(self, receiver: int, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), source.makefile("rb") as stream:
            while True:
                head = _exactly(stream.read(wire.FRAME_HEAD.size), wire.FRAME_HEAD.size)
                try:
                    body_size, meta_size = wire.read_frame_head(head)
                except wire.WireError:  # of another protocol, which passes without being counted
                    sink.sendall(head + stream.read1())
                    continue
                body = _exactly(stream.read(body_size), body_size)
                self._count(receiver, memoryview(body)[meta_size:])
                sink.sendall(head + body)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _count(self, receiver: int, request: memoryview) -> None:
        sender, key, size, offset = read_push(request)
        if key == _ACKNOWLEDGEMENT:
            return
        with self._lock:
            for rank, at in ((sender, 0), (receiver, 1)):
                counts = list(_COUNTS.unpack(self._files[rank]))
                counts[at] += size
                counts[at + 2] += offset == 0
                _COUNTS.pack_into(self._files[rank], 0, *counts)


def read_push(request: memoryview) -> tuple[int, bytes, int, int]:
    """A PushRequest's sender and key, the bytes of payload that it carries, and their offset in the message."""
    sender = size = offset = 0
    key = b""
    for number, value in _values(request):
        if isinstance(value, int):
            sender = value if number == 1 else sender
        elif number == 2:
            key = bytes(value)
        elif number == 3:
            size = len(value)
        elif number == 5:
            offset = next((inner for at, inner in _values(value) if at == 2 and isinstance(inner, int)), 0)
    return sender, key, size, offset


def _values(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Numbers and values of the fields that are numbers or bytes."""
    for field in wire.fields(message):
        if field.kind == wire.BYTES:
            yield field.number, message[field.value : field.end]
        elif field.kind == wire.VARINT:
            yield field.number, wire.read_varint(message, field.value)[0]


def _exactly(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise EOFError
    return data


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
