"""A connection through a relay, for the tests of both relays."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar


class Relay(Protocol):
    """What both relays have."""

    def close(self) -> None: ...


R = TypeVar("R", bound=Relay)


@contextmanager
def relayed(make: Callable[[int], tuple[R, int]]) -> Iterator[tuple[R, socket.socket, socket.socket]]:
    """A relay, and the two ends of a connection through it.

    `make` makes the relay to the port that it gets, and returns it with the port to call.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay, port = make(server.getsockname()[1])
        caller = socket.create_connection(("127.0.0.1", port), timeout=10)
        called, _ = server.accept()
        called.settimeout(10)
        with caller, called:
            yield relay, caller, called
        relay.close()


def receive(end: socket.socket, size: int) -> bytes:
    """The next `size` bytes that come in."""
    data = b""
    while len(data) < size:
        data += end.recv(size - len(data))
    return data
