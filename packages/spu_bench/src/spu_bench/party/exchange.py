"""The parties' own connection beside the runtime's link: it agrees on the run, moves shares, and notices lost peers.

SPU's link is for the protocol alone: hundreds of share messages sent over it before the runtime has started block it
until its receive timeout. Here every pair of parties has one TCP connection with framed messages. A thread for each
peer reads all the time, so that nobody blocks on a full buffer, and the end of a peer is seen at once, also while the
runtime computes. Every party sends a heartbeat, so that a peer that was stopped is noticed too.

Nothing that comes is trusted: messages have limits before they take memory.
"""

from __future__ import annotations

import json
import queue
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Optional

from spu_bench.errors import SpuBenchError
from spu_bench.party import CLIENT
from spu_bench.party.handshake import connect_all
from spu_bench.party.task import Endpoint

_FRAME = struct.Struct(">cQ")
_DATA, _BYE, _HEARTBEAT = b"d", b"b", b"h"
_HEARTBEAT_S = 2.0
SILENCE_S = 30.0
"""A peer of which nothing comes for so long counts as lost."""

_TERMS_BYTES = 1 << 20
"""The longest message before the parties have agreed."""

MAX_BATCHES = 1_000_000
"""How many batches of images a client may bring to one session."""


class Exchange:
    """One party's connections to all others.

    `endpoints` are the addresses at which the parties listen, in rank order. `on_loss(rank, what)` is called from
    another thread when a peer's connection ends without a goodbye, when nothing comes from it for `patience_s`, or when
    it sends what no party sends. Raises SpuBenchError where a peer does not connect within `timeout_s`, or where this
    party's port is in use.
    """

    def __init__(
        self, rank: int, endpoints: Sequence[Endpoint], *, timeout_s: float, on_loss: Callable[[int, str], None]
    ) -> None:
        self.rank = rank
        self.sent_bytes = 0
        self.patience_s = SILENCE_S
        self._on_loss = on_loss
        self._closing = False
        self._longest = _TERMS_BYTES
        self._inbox: dict[int, queue.Queue[Optional[bytes]]] = {}
        self._buffered: dict[int, int] = {}
        self._silent_s: dict[int, float] = {}
        self._sockets = connect_all(rank, endpoints, timeout_s)
        self._sending = {peer: threading.Lock() for peer in self._sockets}
        for peer, connection in self._sockets.items():
            self._inbox[peer] = queue.Queue()
            self._buffered[peer] = 0
            self._silent_s[peer] = 0.0
            threading.Thread(target=self._read, args=(peer, connection), daemon=True).start()
        for task in (self._send_heartbeats, self._watch_silence):
            threading.Thread(target=task, daemon=True).start()

    @property
    def peers(self) -> list[int]:
        """The other ranks, ascending."""
        return sorted(self._sockets)

    def allow(self, longest: int) -> None:
        """Take messages of up to `longest` bytes from now on; before, only what is needed to agree."""
        self._longest = max(longest, _TERMS_BYTES)

    def be_patient(self, seconds: float) -> None:
        """From now on a peer counts as lost after `seconds` of silence."""
        self.patience_s = seconds
        for peer in self._silent_s:
            self._silent_s[peer] = 0.0

    def send(self, peer: int, data: bytes) -> None:
        """Send one message to `peer`; a lost peer is reported by `on_loss`."""
        try:
            with self._sending[peer]:
                self._sockets[peer].sendall(_FRAME.pack(_DATA, len(data)) + data)
            self.sent_bytes += len(data)
        except OSError as error:
            self._lost(peer, str(error))

    def receive(self, peer: int) -> bytes:
        """Wait for the next message of `peer`; a lost peer is reported by `on_loss`.

        Raises SpuBenchError where the peer has ended the session.
        """
        data = self._inbox[peer].get()
        if data is None:
            raise SpuBenchError(
                f"Party {peer} ended the session before its end.", f"read the log of party {peer}.", "peer"
            )
        self._buffered[peer] -= len(data)
        return data

    def all_to_all(self, data: bytes) -> dict[int, bytes]:
        """Send `data` to every peer, and return what each of them sent."""
        for peer in self.peers:
            self.send(peer, data)
        return {peer: self.receive(peer) for peer in self.peers}

    def barrier(self) -> None:
        """Return when every party has called this."""
        self.all_to_all(b"")

    def close(self) -> None:
        """Send a goodbye and close; call it only after a barrier."""
        self._closing = True
        for peer, connection in self._sockets.items():
            try:
                with self._sending[peer]:
                    connection.sendall(_FRAME.pack(_BYE, 0))
                connection.shutdown(socket.SHUT_WR)
            except OSError:  # the peer has sent its goodbye first and has ended: nothing is lost
                continue

    def _read(self, peer: int, connection: socket.socket) -> None:
        try:
            while True:
                head = self._exactly(peer, connection, _FRAME.size)
                if len(head) < _FRAME.size:
                    return self._lost(peer, "closed the connection")
                kind, length = _FRAME.unpack(head)
                if kind == _HEARTBEAT and not length:
                    continue
                if kind == _BYE:
                    del self._silent_s[peer]
                    return self._inbox[peer].put(None)
                if kind != _DATA:
                    return self._lost(peer, "sent bytes of another protocol")
                # a peer is at most one inference ahead, so that no more than two large messages ever wait here
                if length > self._longest or self._buffered[peer] + length > 2 * self._longest:
                    return self._lost(peer, f"sent a message of {length} bytes, more than this session has")
                data = self._exactly(peer, connection, length)
                if len(data) < length:
                    return self._lost(peer, "closed the connection in the middle of a message")
                self._buffered[peer] += length
                self._inbox[peer].put(data)
        except OSError as error:
            return self._lost(peer, str(error))

    def _exactly(self, peer: int, connection: socket.socket, length: int) -> bytes:
        """`length` bytes, or those that came before the connection ended. They take memory as they come."""
        data = bytearray()
        while len(data) < length:
            part = connection.recv(min(length - len(data), 1 << 20))
            self._silent_s[peer] = 0.0
            if not part:
                break
            data += part
        return bytes(data)

    def _send_heartbeats(self) -> None:
        while not self._closing:
            for peer, connection in self._sockets.items():
                # who holds this lock sends data, which is as good
                if self._sending[peer].acquire(blocking=False):
                    try:
                        if not self._closing and select.select([], [connection], [], 0)[1]:
                            connection.sendall(_FRAME.pack(_HEARTBEAT, 0))
                    except OSError:  # the reader sees it too, and reports it
                        return
                    finally:
                        self._sending[peer].release()
            time.sleep(_HEARTBEAT_S)

    def _watch_silence(self) -> None:
        seen = time.monotonic()
        while not self._closing:
            time.sleep(1.0)
            # where this process itself did not run for a while, what the peers sent meanwhile has not been read yet
            passed = min(time.monotonic() - seen, 2.0)
            seen = time.monotonic()
            for peer in list(self._silent_s):
                self._silent_s[peer] += passed
                if self._silent_s[peer] > self.patience_s:
                    return self._lost(peer, f"sent nothing for {self.patience_s:.0f} s")

    def _lost(self, peer: int, what: str) -> None:
        if not self._closing:
            self._on_loss(peer, what)


def pack(parts: Mapping[str, Sequence[bytes]]) -> bytes:
    """Named lists of byte strings as one message."""
    head = json.dumps({name: [len(blob) for blob in blobs] for name, blobs in parts.items()}).encode()
    return b"".join([struct.pack(">I", len(head)), head, *(blob for blobs in parts.values() for blob in blobs)])


def unpack(data: bytes) -> dict[str, list[bytes]]:
    """The inverse of `pack`. Raises SpuBenchError for anything else."""
    head_length = struct.unpack_from(">I", data)[0] if len(data) >= 4 else 0
    head = _parse(data[4 : 4 + head_length])
    sizes = [size for each in head.values() if isinstance(each, list) for size in each]
    if not all(isinstance(each, list) for each in head.values()) or not all(
        isinstance(size, int) and size >= 0 for size in sizes
    ):
        raise _unreadable()
    if 4 + head_length + sum(sizes) != len(data):
        raise _unreadable()
    position = 4 + head_length
    parts: dict[str, list[bytes]] = {}
    for name, lengths in head.items():
        parts[name] = []
        for length in lengths:
            parts[name].append(data[position : position + length])
            position += length
    return parts


def agree(exchange: Exchange, terms: Mapping[str, Any]) -> None:
    """Check that every party has the same `terms`; raises SpuBenchError that names the first that differs."""
    for peer, data in exchange.all_to_all(json.dumps(terms).encode()).items():
        theirs = _parse(data)
        for name, value in terms.items():
            if theirs.get(name) != value:
                exchange.close()  # with a goodbye, so that the peer reports this difference too, and not a lost peer
                raise SpuBenchError(
                    f"Party {peer} has another {name}: {ascii(theirs.get(name))[:200]}, here it is {value!r}.",
                    "give both parties the same link file and the same Program.",
                    "bad_input",
                )


def agree_on_batches(exchange: Exchange, batches: int) -> int:
    """Tell every party the number of batches that the client brings; raises SpuBenchError for more than MAX_BATCHES."""
    data = exchange.all_to_all(str(batches).encode()).get(CLIENT)
    if data is None:
        return batches
    if not data.isdigit() or len(data) > 7 or not 0 < int(data) <= MAX_BATCHES:
        raise SpuBenchError(
            f"Party {CLIENT} says that it brings {ascii(data[:20])[1:]} batches.",
            f"start it again, with at most {MAX_BATCHES} batches of images.",
            "peer",
        )
    return int(data)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _unreadable() from None
    if not isinstance(value, dict):
        raise _unreadable()
    return value


def _unreadable() -> SpuBenchError:
    return SpuBenchError(
        "A peer sent a message that cannot be read.",
        "run the same version of spu_bench at all parties, and let nobody else reach their ports.",
        "peer",
    )
