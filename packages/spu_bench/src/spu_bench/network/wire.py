"""The probe's own small TCP program: `python -m spu_bench.network.wire serve|connect`, standard library only.

One connection per exchange: round trips, a bulk transfer to the server, one from it. A transfer's rate counts from
the moment TCP has had time to fill the link.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MAGIC = b"spub"
_ECHO, _TO_SERVER, _FROM_SERVER = 0, 1, 2
_CHUNK = bytes(1 << 18)
_MOST_UNSENT = 1 << 20  # bytes: what a sender may hand to TCP ahead, which a slow link would have to drain at the end
_request = struct.Struct("!4sBdd")
_answer = struct.Struct("!QQd")
TIMEOUT_S = 30.0


class WireError(Exception):
    """The other side of the probe is not there, or is not a probe."""


def serve(bind: str, port: int, *, ready: Callable[[int], None], clients: int | None = None) -> None:
    """Answer probes at `bind`:`port` (0: any free port, told to `ready`); for ever, or for one client's exchanges."""
    with socket.create_server((bind, port), backlog=8) as listener:
        ready(listener.getsockname()[1])
        served = 0
        while clients is None or served < clients:
            connection, _ = listener.accept()
            with connection:
                try:
                    _answer_one(connection)
                except (OSError, WireError) as error:
                    print(f"probe: {error}", file=sys.stderr)
            served += 1


EXCHANGES = 3
"""Connections that one client makes: round trips, bulk to the server, bulk from it."""


def connect(host: str, port: int) -> dict[str, Any]:
    """Measure the link to a server: round trips in ms, payload rates both ways in Mbit/s.

    Raises WireError.
    """
    started = time.monotonic()
    try:
        rtts = _round_trips(host, port)
        rtt = sorted(rtts)[len(rtts) // 2]
        # TCP's slow start needs about ten round trips; then several more give a steady rate.
        warm, measured = max(0.3, 12 * rtt), max(0.5, 8 * rtt)
        to_server = _upload(host, port, warm, measured)
        from_server = _download(host, port, warm, measured)
    except OSError as error:
        raise WireError(f"no probe answers at {host}:{port}: {error}") from error
    rtts_ms = sorted(1e3 * each for each in rtts)
    return {
        "rtt_ms": rtts_ms[len(rtts_ms) // 2],
        "rtt_min_ms": rtts_ms[0],
        "rtt_p99_ms": rtts_ms[min(len(rtts_ms) - 1, int(len(rtts_ms) * 0.99))],
        "pings": len(rtts_ms),
        "rate_mbit": from_server[0],
        "rate_back_mbit": to_server[0],
        "bytes": from_server[1] + to_server[1],
        "seconds": time.monotonic() - started,
    }


def _answer_one(connection: socket.socket) -> None:
    connection.settimeout(TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    kind, warm, measured = _read_request(connection)
    if kind == _ECHO:
        while ping := connection.recv(64):
            connection.sendall(ping)
    elif kind == _TO_SERVER:
        connection.sendall(_answer.pack(*_drain(connection, warm, measured)))
    elif kind == _FROM_SERVER:
        _fill(connection, warm + measured)


def _round_trips(host: str, port: int) -> list[float]:
    """Round trips of one byte, in seconds: up to 1,000 of them or one second, at least 10."""
    rtts: list[float] = []
    with _open(host, port, _ECHO) as connection:
        connection.sendall(b"w")
        connection.recv(1)
        until = time.monotonic() + 1.0
        while len(rtts) < 10 or (len(rtts) < 1000 and time.monotonic() < until):
            sent = time.perf_counter()
            connection.sendall(b"p")
            if not connection.recv(1):
                raise WireError("the probe's server went away")
            rtts.append(time.perf_counter() - sent)
    return rtts


def _upload(host: str, port: int, warm: float, measured: float) -> tuple[float, int]:
    with _open(host, port, _TO_SERVER, warm, measured) as connection:
        _fill(connection, warm + measured)
        connection.shutdown(socket.SHUT_WR)
        counted, total, seconds = _answer.unpack(_exactly(connection, _answer.size))
    return _mbit(counted, seconds), total


def _download(host: str, port: int, warm: float, measured: float) -> tuple[float, int]:
    with _open(host, port, _FROM_SERVER, warm, measured) as connection:
        counted, total, seconds = _drain(connection, warm, measured)
    return _mbit(counted, seconds), total


def _open(host: str, port: int, kind: int, warm: float = 0.0, measured: float = 0.0) -> socket.socket:
    connection = socket.create_connection((host, port), timeout=TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(_request.pack(_MAGIC, kind, warm, measured))
    return connection


def _fill(connection: socket.socket, seconds: float) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MOST_UNSENT)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        connection.sendall(_CHUNK)


def _drain(connection: socket.socket, warm: float, measured: float) -> tuple[int, int, float]:
    """Read to the end; give the bytes within the measured window, all bytes, and the window's seconds."""
    buffer = bytearray(1 << 20)
    total = counted = 0
    begin = first = last = 0.0
    while got := connection.recv_into(buffer):
        now = time.perf_counter()
        total += got
        begin = begin or now
        if not first:
            first = last = now if now - begin >= warm else 0.0
        elif now - first <= measured:
            counted, last = counted + got, now
    return counted, total, last - first


def _mbit(counted: int, seconds: float) -> float:
    if not counted or seconds <= 0:
        raise WireError("the transfer ended before it could be measured")
    return counted * 8e-6 / seconds


def _read_request(connection: socket.socket) -> tuple[int, float, float]:
    magic, kind, warm, measured = _request.unpack(_exactly(connection, _request.size))
    if magic != _MAGIC or not (0 <= warm <= 600 and 0 <= measured <= 600):
        raise WireError("someone else than a probe connected")
    return kind, warm, measured


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (more := connection.recv(size - len(data))):
            raise WireError("the other side of the probe went away")
        data += more
    return data


def _write(path: Path, content: dict[str, Any]) -> None:
    scratch = path.with_suffix(".tmp")
    scratch.write_text(json.dumps(content))
    scratch.replace(path)


def main() -> None:
    """Parse the command line; serve one client, or be it and leave what was seen in a file."""
    parser = argparse.ArgumentParser(prog="python -m spu_bench.network.wire", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    server = verbs.add_parser("serve", help="answer one client")
    server.add_argument("--bind", required=True)
    client = verbs.add_parser("connect", help="measure the link to a server")
    client.add_argument("--host", required=True)
    client.add_argument("--port", type=int, required=True)
    for verb in (server, client):
        verb.add_argument("--out", type=Path, required=True, help="JSON file: the server's port, the client's figures")
    given = parser.parse_args()
    try:
        if given.verb == "serve":
            serve(given.bind, 0, ready=lambda port: _write(given.out, {"port": port}), clients=EXCHANGES)
        else:
            _write(given.out, connect(given.host, given.port))
    except (OSError, WireError) as error:
        sys.exit(f"probe: {error}")


if __name__ == "__main__":
    main()
