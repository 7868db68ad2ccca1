"""A relay between two parties on this machine that delays and slows what passes, to measure how a step responds.

It needs no rights, unlike the shapers of spu_bench.network, and is exact enough for slopes: two delays are compared,
or two rates, so that what the relay itself costs cancels out. It is not a link to measure a latency on.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from spu_bench import wire
from spu_bench.errors import SpuBenchError

_CHUNK = 1 << 18


@dataclass(frozen=True)
class Message:
    """A message that passed a relay: bytes of its body, and when it began and ended (monotonic clock, s)."""

    size: int
    began_s: float
    whole_s: float


def flights(messages: Iterable[Message], pause_s: float) -> list[int]:
    """Bytes of messages in one direction that follow one another with less than `pause_s` between any two."""
    sizes: list[int] = []
    last_s = float("-inf")
    for message in sorted(messages, key=lambda message: message.began_s):
        if message.began_s - last_s < pause_s:
            sizes[-1] += message.size
        else:
            sizes.append(message.size)
        last_s = max(last_s, message.whole_s)
    return sizes


class DelayingRelay:
    """Passes every connection to `port` on to `target`; both directions wait `delay_s` and pass at `rate` bytes/s.

    Both settings may be changed at any time; a `rate` of None does not limit.
    """

    def __init__(self, target: int) -> None:
        self.delay_s = 0.0
        self.rate: float | None = None
        self._messages: list[Message] = []
        self._target = target
        self._free_at = {True: 0.0, False: 0.0}
        self._connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def take_messages(self) -> list[Message]:
        """The messages that went to the target since the last call."""
        taken, self._messages[:] = list(self._messages), []
        return taken

    def close(self) -> None:
        """Stop listening and end every connection."""
        for connection in (self._listener, *self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return
            try:
                called = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # the party there does not listen yet: its peer will call again
                caller.close()
                continue
            self._connections += [caller, called]
            for source, sink, there in ((caller, called, True), (called, caller, False)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                held: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
                threading.Thread(target=self._read, args=(source, held, there), daemon=True).start()
                threading.Thread(target=self._write, args=(sink, held), daemon=True).start()

    def _read(self, source: socket.socket, held: queue.SimpleQueue[tuple[float, bytes]], there: bool) -> None:
        frames = _Frames(self._messages) if there else None
        while True:
            try:
                data = source.recv(_CHUNK)
            except OSError:
                data = b""
            came = due = time.monotonic()
            if self.rate:
                self._free_at[there] = due = max(due, self._free_at[there]) + len(data) / self.rate
            held.put((due + self.delay_s, data))
            if not data:
                return
            if frames is not None:
                frames.feed(data, came)

    def _write(self, sink: socket.socket, held: queue.SimpleQueue[tuple[float, bytes]]) -> None:
        while True:
            due, data = held.get()
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            try:
                if not data:
                    return sink.shutdown(socket.SHUT_WR)
                sink.sendall(data)
            except OSError:
                return None


def _body_size(head: bytes) -> int:
    try:
        return wire.read_frame_head(head)[0]
    except wire.WireError as error:
        raise SpuBenchError(
            f"The link sends bytes that are {error}.", "leave brpc_channel_protocol at its default.", "bad_input"
        ) from None


class _Frames:
    """Finds the messages in one connection's stream of bytes, and puts them into `found`."""

    def __init__(self, found: list[Message]) -> None:
        self._found = found
        self._head = b""
        self._left = self._size = 0
        self._began_s = 0.0

    def feed(self, data: bytes, now: float) -> None:
        position = 0
        while position < len(data):
            if self._left:
                taken = min(self._left, len(data) - position)
                self._left -= taken
                position += taken
                if not self._left:
                    self._found.append(Message(self._size, self._began_s, now))
                continue
            self._began_s = self._began_s if self._head else now
            taken = min(wire.FRAME_HEAD.size - len(self._head), len(data) - position)
            self._head += data[position : position + taken]
            position += taken
            if len(self._head) == wire.FRAME_HEAD.size:
                self._size = _body_size(self._head)
                self._head, self._left = b"", self._size
                if not self._left:
                    self._found.append(Message(0, self._began_s, now))
