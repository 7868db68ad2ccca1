"""The probe's TCP program, `serve` or `connect`. One file with the standard library only, so that it starts fast.

The client opens one connection for round trips, and one for a bulk transfer in both directions at once, as in a run.
Where that does not reach the requested rate, it makes one longer transfer in each direction. A rate is measured after
TCP has had time to fill the network.
"""

from __future__ import annotations

import argparse
import json
import math
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_MAGIC = b"spub"
_DONE, _ECHO, _UP, _DOWN, _BOTH = 0, 1, 2, 4, 6  # kinds of connection; the bulk ones: to the server, from it, both
_CHUNK = bytes(1 << 17)
_MOST_UNSENT = 1 << 18  # bytes that a sender gives TCP in advance, which a slow network must still send at the end
_ENOUGH = 0.98  # share of the requested rate
_request = struct.Struct("!4sBdd")
_answer = struct.Struct("!QQd")
TIMEOUT_S = 30.0


class ProbeError(Exception):
    """The other side of the probe does not answer, or is not a probe."""


def serve(bind: str, port: int, *, ready: Callable[[int], None], once: bool = False) -> None:
    """Answer probes at `bind`:`port` until interrupted, or until one client has finished.

    Calls `ready` with the port that it listens at; `port` 0 means any free one.
    """
    with socket.create_server((bind, port), backlog=8) as listener:
        ready(listener.getsockname()[1])
        while True:
            connection, _ = listener.accept()
            with connection:
                try:
                    if _answer_one(connection) == _DONE and once:
                        return
                except (OSError, ProbeError) as error:
                    print(f"probe: {error}", file=sys.stderr)


def connect(host: str, port: int, requested: tuple[float, float] = (math.inf, math.inf)) -> dict[str, float]:
    """Measure the network to a server; returns the fields of `spu_bench.network.probe.NetworkProbe`, without ranks.

    Where the `requested` rates, from the server and to it, are reached at once, the short transfer is enough; 0 means
    no requested rate. Raises ProbeError.
    """
    started = time.monotonic()
    try:
        rtts = _round_trips(host, port)
        rtt = sorted(rtts)[len(rtts) // 2]
        here, there = _transfer(host, port, _BOTH, max(0.2, 10 * rtt), max(0.15, 3 * rtt))
        total = here.all + there.all
        if here.mbit < _ENOUGH * requested[0] or there.mbit < _ENOUGH * requested[1]:
            # the queue of one direction may have delayed the acknowledgements of the other
            warm, measured = max(0.3, 12 * rtt), max(0.5, 8 * rtt)
            here, there = _transfer(host, port, _DOWN, warm, measured)[0], _transfer(host, port, _UP, warm, measured)[1]
            total += here.all + there.all
        if not (here.mbit and there.mbit):
            raise ProbeError("the transfer ended before it was measured")
        _open(host, port, _DONE).close()
    except OSError as error:
        raise ProbeError(f"no probe answers at {host}:{port}: {error}") from error
    rtts_ms = sorted(1e3 * each for each in rtts)
    return {
        "rtt_ms": rtts_ms[len(rtts_ms) // 2],
        "rtt_min_ms": rtts_ms[0],
        "rtt_p99_ms": rtts_ms[min(len(rtts_ms) - 1, int(len(rtts_ms) * 0.99))],
        "pings": len(rtts_ms),
        "rate_mbit": here.mbit,
        "rate_back_mbit": there.mbit,
        "bytes": total,
        "seconds": time.monotonic() - started,
    }


def _answer_one(connection: socket.socket) -> int:
    connection.settimeout(TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    kind, warm, measured = _read_request(connection)
    if kind == _ECHO:
        while ping := connection.recv(64):
            connection.sendall(ping)
    elif kind & _BOTH:
        _bulk(connection, warm, measured, sends=bool(kind & _DOWN))
    return kind


def _round_trips(host: str, port: int) -> list[float]:
    """Round trips of one byte, in seconds: up to 1,000 of them or 0.3 s, at least 8."""
    rtts: list[float] = []
    with _open(host, port, _ECHO) as connection:
        connection.sendall(b"w")
        connection.recv(1)
        until = time.monotonic() + 0.3
        while len(rtts) < 8 or (len(rtts) < 1000 and time.monotonic() < until):
            sent = time.perf_counter()
            connection.sendall(b"p")
            if not connection.recv(1):
                raise ProbeError("the server of the probe closed the connection")
            rtts.append(time.perf_counter() - sent)
    return rtts


def _open(host: str, port: int, kind: int, warm: float = 0.0, measured: float = 0.0) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(_request.pack(_MAGIC, kind, warm, measured))
    return connection


class Received(NamedTuple):
    """Bytes received in the measured window, all bytes received, and the seconds of the window."""

    counted: int
    all: int
    seconds: float

    @property
    def mbit(self) -> float:
        """The payload rate in Mbit/s; 0 if the transfer ended before the window began."""
        return self.counted * 8e-6 / self.seconds if self.seconds > 0 else 0.0


def _transfer(host: str, port: int, kind: int, warm: float, measured: float) -> tuple[Received, Received]:
    """What this side received, and what the server received."""
    with _open(host, port, kind, warm, measured) as connection:
        return _bulk(connection, warm, measured, sends=bool(kind & _UP))


def _bulk(connection: socket.socket, warm: float, measured: float, sends: bool) -> tuple[Received, Received]:
    """Receive, and send at the same time if `sends`; returns what this side and what the other side received."""
    drain = _Drain(connection, warm, measured)
    sender = threading.Thread(target=_fill, args=(connection, drain, sends), daemon=True)
    sender.start()
    drain.run()
    sender.join(TIMEOUT_S)
    if len(drain.tail) < _answer.size:
        raise ProbeError("the other side of the probe closed the connection")
    return drain.received, Received(*_answer.unpack(drain.tail))


def _fill(connection: socket.socket, drain: _Drain, sends: bool) -> None:
    """Send until the received data has been measured, then send the result."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MOST_UNSENT)
    try:
        while sends and not drain.over.is_set():
            connection.sendall(_CHUNK)
        drain.over.wait(TIMEOUT_S)
        connection.sendall(_answer.pack(*drain.received))
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        drain.over.set()  # the connection has ended, which the receiver sees too


class _Drain:
    """Reads a connection to its end; sets `over` and `received` when the measured window, or the stream, is over."""

    def __init__(self, connection: socket.socket, warm: float, measured: float) -> None:
        self._connection, self._warm, self._measured = connection, warm, measured
        self.received = Received(0, 0, 0.0)
        self.tail = b""
        self.over = threading.Event()

    def run(self) -> None:
        buffer = bytearray(1 << 20)
        total = counted = 0
        begin = first = last = 0.0
        try:
            while got := self._connection.recv_into(buffer):
                now = time.perf_counter()
                total += got
                self.tail = (self.tail + buffer[max(0, got - _answer.size) : got])[-_answer.size :]
                begin = begin or now
                if self.over.is_set():
                    continue
                if not first:
                    first = last = now if now - begin >= self._warm else 0.0
                elif now - first <= self._measured:
                    counted, last = counted + got, now
                else:
                    self.received = Received(counted, total, last - first)
                    self.over.set()
        finally:
            if not self.over.is_set():
                self.received = Received(counted, total, last - first)
                self.over.set()


def _read_request(connection: socket.socket) -> tuple[int, float, float]:
    magic, kind, warm, measured = _request.unpack(_exactly(connection, _request.size))
    if magic != _MAGIC or not (0 <= warm <= 600 and 0 <= measured <= 600):
        raise ProbeError("a connection was not from a probe")
    return kind, warm, measured


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (more := connection.recv(size - len(data))):
            raise ProbeError("the other side of the probe closed the connection")
        data += more
    return data


def _write(path: Path, content: dict[str, float]) -> None:
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(content))
    unfinished.replace(path)


def main() -> None:
    """Parse the command line; serve one client, or be the client. Both write their result to a file."""
    parser = argparse.ArgumentParser(prog="probe_protocol", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    server = verbs.add_parser("serve", help="answer one client")
    server.add_argument("--bind", required=True)
    client = verbs.add_parser("connect", help="measure the network to a server")
    client.add_argument("--host", required=True)
    client.add_argument("--port", type=int, required=True)
    client.add_argument("--requested", type=float, nargs=2, default=(math.inf,) * 2, help="Mbit/s: from, to the server")
    for verb in (server, client):
        verb.add_argument("--out", type=Path, required=True, help="JSON file for the port or the result")
    given = parser.parse_args()
    try:
        if given.verb == "serve":
            serve(given.bind, 0, ready=lambda port: _write(given.out, {"port": port}), once=True)
        else:
            _write(given.out, connect(given.host, given.port, tuple(given.requested)))
    except (OSError, ProbeError) as error:
        sys.exit(f"probe: {error}")


if __name__ == "__main__":
    main()
