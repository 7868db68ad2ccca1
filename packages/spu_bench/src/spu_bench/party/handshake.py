"""How the parties' exchanges find one another: each greets the other with its rank before anything else.

Anyone may reach the port. A connection that does not greet in time is closed, and the others do not wait for it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Sequence

from spu_bench.errors import SpuBenchError
from spu_bench.party.task import Endpoint

_GREETING = b"spu-bench exchange 2 "
"""What both ends send first, followed by one byte: the sender's rank."""

_GREETING_S = 5.0
"""Time that a connection has for its greeting."""

_PENDING = 64
"""Connections that may be about to greet at a time; the oldest has to go for one more."""

_SILENCE_MS = 10_000  # after this time a peer whose host does not answer counts as lost


def connect_all(rank: int, endpoints: Sequence[Endpoint], timeout_s: float) -> dict[int, socket.socket]:
    """Accept every higher rank, call every lower one; raises SpuBenchError when one does not connect in time."""
    deadline = time.monotonic() + timeout_s
    with listen(endpoints[rank]) as listener:
        sockets = {peer: _call(rank, peer, endpoints[peer], deadline) for peer in range(rank)}
        missing = set(range(rank + 1, len(endpoints)))
        sockets.update(_accept_all(rank, listener, missing, deadline))
    if missing:
        for connection in sockets.values():
            connection.close()
        raise _not_connected(min(missing), endpoints[min(missing)], timeout_s)
    for connection in sockets.values():
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENCE_MS)
    return sockets


def _accept_all(rank: int, listener: socket.socket, missing: set[int], deadline: float) -> dict[int, socket.socket]:
    """Accept those of the ranks `missing` that greet before `deadline`, and take them out of that set.

    A port scanner or a health check may connect too. No connection keeps the others waiting.
    """
    length = len(_GREETING) + 1
    sockets: dict[int, socket.socket] = {}
    pending: dict[socket.socket, tuple[bytearray, float]] = {}
    listener.setblocking(False)
    try:
        while missing and time.monotonic() < deadline:
            until = min([deadline, *(end for _, end in pending.values())])
            wait_s = max(0.0, until - time.monotonic())
            for ready in select.select([listener, *pending], [], [], wait_s)[0]:
                if ready is listener:
                    if len(pending) == _PENDING:
                        oldest = next(iter(pending))
                        del pending[oldest]
                        oldest.close()
                    with contextlib.suppress(OSError):  # it has left again
                        connection, _ = listener.accept()
                        connection.setblocking(False)
                        pending[connection] = bytearray(), time.monotonic() + _GREETING_S
                    continue
                if ready not in pending:
                    continue
                greeting = pending[ready][0]
                try:
                    part = ready.recv(length - len(greeting))
                except OSError:
                    part = b""
                greeting += part
                if part and len(greeting) < length and _GREETING.startswith(greeting[: len(_GREETING)]):
                    continue
                del pending[ready]
                if len(greeting) == length and greeting.startswith(_GREETING) and greeting[-1] in missing:
                    with contextlib.suppress(OSError):
                        ready.setblocking(True)
                        ready.sendall(_GREETING + bytes([rank]))
                        missing.remove(greeting[-1])
                        sockets[greeting[-1]] = ready
                        continue
                ready.close()
            for connection in [each for each, (_, end) in pending.items() if end <= time.monotonic()]:
                del pending[connection]
                connection.close()
    finally:
        for connection in pending:
            connection.close()
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
        left_s = max(0.1, deadline - time.monotonic())
        try:
            connection = socket.create_connection(endpoint, timeout=left_s)
        except OSError:
            connection = None
        if connection is not None:
            try:
                connection.sendall(_GREETING + bytes([rank]))
                if _read_greeting(connection, deadline) == _GREETING + bytes([peer]):
                    return connection
            except OSError:
                pass
            connection.close()
        if time.monotonic() >= deadline:
            raise _not_connected(peer, endpoint, deadline - started)
        time.sleep(0.05)


def _read_greeting(connection: socket.socket, deadline: float) -> bytes:
    greeting = b""
    while len(greeting) <= len(_GREETING):
        connection.settimeout(max(0.1, deadline - time.monotonic()))
        part = connection.recv(len(_GREETING) + 1 - len(greeting))
        if not part:
            break
        greeting += part
    return greeting


def _not_connected(peer: int, endpoint: Endpoint, waited_s: float) -> SpuBenchError:
    return SpuBenchError(
        f"Party {peer} ({endpoint[0]}:{endpoint[1]}) did not connect within {waited_s:.0f} s.",
        "start it, check that its address and ports can be reached, or raise connect_timeout_s in the link file.",
        "peer",
    )
