"""The parties' own connection beside the runtime's link: it agrees on the run, moves shares, and notices lost peers.

SPU's link is for the protocol alone: hundreds of share messages sent over it before the runtime has started block it
until its receive timeout. Here every pair of parties has one TCP connection with framed messages. A thread for each
peer reads all the time, so that nobody blocks on a full buffer, and the end of a peer is seen at once, also while the
runtime computes.
"""

from __future__ import annotations

import json
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Tuple

from spu_bench.errors import SpuBenchError

_FRAME = struct.Struct(">cQ")
_DATA, _BYE = b"d", b"b"
_LONGEST_FRAME = 1 << 33
_SILENCE_MS = 10_000  # after this time a peer whose host does not answer counts as lost

Endpoint = Tuple[str, int]


class Exchange:
    """One party's connections to all others.

    `endpoints` are the addresses at which the parties listen, in rank order. `on_loss(rank, what)` is called from a
    reader thread when a peer's connection ends without a goodbye. Raises SpuBenchError where a peer does not connect
    within `timeout_s`, or where this party's port is in use.
    """

    def __init__(
        self, rank: int, endpoints: Sequence[Endpoint], *, timeout_s: float, on_loss: Callable[[int, str], None]
    ) -> None:
        self.rank = rank
        self.sent_bytes = 0
        self._on_loss = on_loss
        self._closing = False
        self._inbox: dict[int, queue.Queue[bytes]] = {}
        self._sockets = _connect_all(rank, endpoints, timeout_s)
        for peer, connection in self._sockets.items():
            self._inbox[peer] = queue.Queue()
            threading.Thread(target=self._read, args=(peer, connection), daemon=True).start()

    @property
    def peers(self) -> list[int]:
        """The other ranks, ascending."""
        return sorted(self._sockets)

    def send(self, peer: int, data: bytes) -> None:
        """Send one message to `peer`; a lost peer is reported by `on_loss`."""
        try:
            self._sockets[peer].sendall(_FRAME.pack(_DATA, len(data)) + data)
            self.sent_bytes += len(data)
        except OSError as error:
            self._lost(peer, str(error))

    def receive(self, peer: int) -> bytes:
        """Wait for the next message of `peer`; a lost peer is reported by `on_loss`."""
        return self._inbox[peer].get()

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
        for connection in self._sockets.values():
            try:
                connection.sendall(_FRAME.pack(_BYE, 0))
                connection.shutdown(socket.SHUT_WR)
            except OSError:  # the peer has sent its goodbye first and has ended: nothing is lost
                continue

    def _read(self, peer: int, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as stream:
                while True:
                    head = stream.read(_FRAME.size)
                    if len(head) < _FRAME.size:
                        return self._lost(peer, "closed the connection")
                    kind, length = _FRAME.unpack(head)
                    if kind == _BYE:
                        return None
                    if kind != _DATA or length > _LONGEST_FRAME:
                        return self._lost(peer, "sent bytes of another protocol")
                    data = stream.read(length)
                    if len(data) < length:
                        return self._lost(peer, "closed the connection in the middle of a message")
                    self._inbox[peer].put(data)
        except OSError as error:
            return self._lost(peer, str(error))

    def _lost(self, peer: int, what: str) -> None:
        if not self._closing:
            self._on_loss(peer, what)


def _connect_all(rank: int, endpoints: Sequence[Endpoint], timeout_s: float) -> dict[int, socket.socket]:
    """Accept every higher rank, call every lower one; raises SpuBenchError when one does not connect in time."""
    deadline = time.monotonic() + timeout_s
    with listen(endpoints[rank]) as listener:
        sockets = {peer: _call(rank, peer, endpoints[peer], deadline) for peer in range(rank)}
        while len(sockets) < len(endpoints) - 1:
            listener.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection, _ = listener.accept()
            except socket.timeout:
                missing = [peer for peer in range(len(endpoints)) if peer != rank and peer not in sockets]
                raise _not_connected(missing[0], endpoints[missing[0]], timeout_s) from None
            connection.settimeout(5.0)
            try:
                greeting = connection.recv(1)
            except OSError:
                greeting = b""
            # a port scanner or a health check may connect too: a connection that does not send a rank is not a party
            if len(greeting) == 1 and rank < greeting[0] < len(endpoints) and greeting[0] not in sockets:
                sockets[greeting[0]] = connection
            else:
                connection.close()
    for connection in sockets.values():
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)
    return sockets


def listen(endpoint: Endpoint) -> socket.socket:
    """A listening socket; raises SpuBenchError where the port is in use or the address is not this host's."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(endpoint)
        listener.listen()
    except OSError as error:
        listener.close()
        raise SpuBenchError(
            f"Cannot listen on {endpoint[0]}:{endpoint[1]}: {error.strerror}.",
            "stop what uses the port, or give another address or port in the link file.",
            "environment",
        ) from error
    return listener


def _call(rank: int, peer: int, endpoint: Endpoint, deadline: float) -> socket.socket:
    started = time.monotonic()
    while True:
        try:
            connection = socket.create_connection(endpoint, timeout=max(0.1, deadline - time.monotonic()))
            connection.sendall(bytes([rank]))
            return connection
        except OSError:
            if time.monotonic() >= deadline:
                raise _not_connected(peer, endpoint, deadline - started) from None
            time.sleep(0.05)


def _not_connected(peer: int, endpoint: Endpoint, waited_s: float) -> SpuBenchError:
    return SpuBenchError(
        f"Party {peer} ({endpoint[0]}:{endpoint[1]}) did not connect within {waited_s:.0f} s.",
        "start it, check that its address and ports can be reached, or raise connect_timeout_s in the link file.",
        "peer",
    )


def pack(parts: Mapping[str, Sequence[bytes]]) -> bytes:
    """Named lists of byte strings as one message."""
    head = json.dumps({name: [len(blob) for blob in blobs] for name, blobs in parts.items()}).encode()
    return b"".join([struct.pack(">I", len(head)), head, *(blob for blobs in parts.values() for blob in blobs)])


def unpack(data: bytes) -> dict[str, list[bytes]]:
    """The inverse of `pack`."""
    (head_length,) = struct.unpack_from(">I", data)
    head: dict[str, list[int]] = json.loads(data[4 : 4 + head_length])
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
        theirs = json.loads(data)
        for name, value in terms.items():
            if theirs.get(name) != value:
                exchange.close()  # with a goodbye, so that the peer reports this difference too, and not a lost peer
                raise SpuBenchError(
                    f"Party {peer} has another {name}: {theirs.get(name)!r}, here it is {value!r}.",
                    "give both parties the same link file and the same Program.",
                    "bad_input",
                )
