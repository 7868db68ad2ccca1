"""One connection of the dealer's HTTP service: HTTP/1.1 by h11, HTTP/2 by h2, whichever the client speaks first.

A connection is served by one thread, one request after the other: SPU sends the next request after the answer. The
whole answer exists before its header is sent, because SPU waits without a time limit for an answer that has begun.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import h11

_RECEIVE = 1 << 16
_SEND = 1 << 20
_PREFACE = b"PRI"


class Broken(Exception):
    """The client does not speak HTTP as it must, or is too slow. The connection is closed."""


@dataclass(frozen=True)
class ConnectionLimits:
    """Bounds of one connection: bytes of a body, seconds for one request to arrive whole, seconds without any.

    long_bodies: paths whose bodies may have `long_body_bytes`.
    """

    body_bytes: int = 1 << 16
    long_body_bytes: int = 64 << 20
    long_bodies: frozenset[str] = frozenset()
    header_bytes: int = 1 << 14
    request_s: float = 10.0
    idle_s: float = 3600.0
    send_s: float = 60.0


@dataclass(frozen=True)
class Message:
    """A request as it came: method, path, content type, body."""

    verb: str
    path: str
    content_type: str
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What goes back. `body` is whole, or the pieces of a stream (HTTP/1.1 only)."""

    status: int
    body: bytes | Iterator[bytes]


Handler = Callable[[Message], Reply]


class _Wire:
    """A socket with deadlines."""

    def __init__(self, sock: socket.socket, limits: ConnectionLimits) -> None:
        self._socket = sock
        self._limits = limits
        # of the request that is arriving; a client connects when it has one, so that silence gets no place for long
        self._deadline: float | None = time.monotonic() + limits.request_s

    def begin(self) -> None:
        """No request is arriving: wait as long as an idle connection may."""
        self._deadline = None

    def receive(self) -> bytes:
        """The next bytes; none at the end. Raises Broken when the request has had its time."""
        left = self._limits.idle_s if self._deadline is None else self._deadline - time.monotonic()
        if left <= 0:
            raise Broken("the request did not arrive in time")
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(_RECEIVE)
        except TimeoutError as error:
            raise Broken("nothing came in time") from error
        if self._deadline is None:
            self._deadline = time.monotonic() + self._limits.request_s
        return data

    def send(self, *pieces: bytes | memoryview) -> None:
        self._socket.settimeout(self._limits.send_s)
        if sum(map(len, pieces)) <= _SEND:
            self._socket.sendall(b"".join(pieces))
            return
        for piece in pieces:
            self._socket.sendall(piece)


def serve(sock: socket.socket, handler: Handler, limits: ConnectionLimits) -> None:
    """Answer the requests of one connection until the client closes it. Raises Broken, OSError."""
    wire = _Wire(sock, limits)
    data = b""
    while len(data) < len(_PREFACE):
        piece = wire.receive()
        if not piece:
            return
        data += piece
    if data.startswith(_PREFACE):
        _Http2(wire, handler, limits).run(data)
    else:
        _http1(wire, handler, limits, data)


def _http1(wire: _Wire, handler: Handler, limits: ConnectionLimits, data: bytes) -> None:
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
    http.receive_data(data)
    while True:
        try:
            message = _read_http1(http, wire, limits)
            if message is None:
                return
            _write_http1(http, wire, handler(message))
            if http.our_state is h11.MUST_CLOSE:
                return
            wire.begin()
            http.start_next_cycle()
        except h11.ProtocolError as error:
            raise Broken(f"not HTTP/1.1: {error}") from error


def _read_http1(http: h11.Connection, wire: _Wire, limits: ConnectionLimits) -> Message | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(wire.receive())
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            assert head is not None
            most = limits.long_body_bytes if head.target.decode() in limits.long_bodies else limits.body_bytes
            if len(body) > most:
                raise Broken("the body is too large")
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            kind = next((value for name, value in head.headers if name == b"content-type"), b"")
            return Message(head.method.decode(), head.target.decode(), kind.decode("latin-1"), bytes(body))
        else:
            return None  # closed


def _write_http1(http: h11.Connection, wire: _Wire, reply: Reply) -> None:
    whole = isinstance(reply.body, bytes)
    length = [("Content-Length", str(len(reply.body)))] if isinstance(reply.body, bytes) else []
    kind = ("Content-Type", "application/octet-stream")
    head = http.send(h11.Response(status_code=reply.status, headers=[kind, *length])) or b""
    if whole:
        assert isinstance(reply.body, bytes)
        http.send_with_data_passthrough(h11.Data(data=reply.body))
        http.send(h11.EndOfMessage())
        wire.send(head, reply.body)
        return
    wire.send(head)
    for piece in reply.body:
        wire.send(*(http.send_with_data_passthrough(h11.Data(data=piece)) or []))  # type: ignore[arg-type]
    wire.send(http.send(h11.EndOfMessage()) or b"")


class _Http2:
    def __init__(self, wire: _Wire, handler: Handler, limits: ConnectionLimits) -> None:
        self._wire, self._handler, self._limits = wire, handler, limits
        self._http = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8", validate_inbound_headers=True)
        )
        self._arriving: dict[int, tuple[dict[str, str], bytearray]] = {}
        self._ready: list[tuple[int, Message]] = []
        self._closed = False

    def run(self, data: bytes) -> None:
        http = self._http
        http.local_settings.max_header_list_size = self._limits.header_bytes
        http.local_settings.max_concurrent_streams = 4
        http.initiate_connection()
        self._flush()
        try:
            self._feed(data)
            while not self._closed:
                if not self._ready:
                    if not self._arriving:
                        self._wire.begin()
                    self._feed(self._wire.receive())
                    continue
                stream, message = self._ready.pop(0)
                self._reply(stream, self._handler(message))
        except h2.exceptions.H2Error as error:
            self._flush()
            raise Broken(f"not HTTP/2: {error}") from error

    def _flush(self) -> None:
        if data := self._http.data_to_send():
            self._wire.send(data)

    def _feed(self, data: bytes) -> None:
        if not data:
            self._closed = True
            return
        for event in self._http.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self._arriving[event.stream_id] = dict(event.headers or ()), bytearray()  # type: ignore[arg-type]
            elif isinstance(event, h2.events.DataReceived):
                self._http.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
                if (arriving := self._arriving.get(event.stream_id)) is not None:
                    arriving[1].extend(event.data or b"")
                    if len(arriving[1]) > self._limits.body_bytes:
                        raise Broken("the body is too large")
            elif isinstance(event, h2.events.StreamEnded) and event.stream_id in self._arriving:
                head, body = self._arriving.pop(event.stream_id)
                verb, path = head.get(":method", ""), head.get(":path", "")
                message = Message(verb, path, head.get("content-type", ""), bytes(body))
                self._ready.append((event.stream_id, message))
            elif isinstance(event, h2.events.StreamReset):
                self._arriving.pop(event.stream_id, None)
                self._ready = [(stream, message) for stream, message in self._ready if stream != event.stream_id]
            elif isinstance(event, h2.events.ConnectionTerminated):
                self._closed = True
        self._flush()

    def _reply(self, stream: int, reply: Reply) -> None:
        if not isinstance(reply.body, bytes):
            reply = Reply(505, b"this path requires HTTP/1.1")
        assert isinstance(reply.body, bytes)
        body = memoryview(reply.body)
        http = self._http
        http.send_headers(
            stream,
            [(":status", str(reply.status)), ("content-type", "application/octet-stream")],
            end_stream=not body,
        )
        while body:
            size = min(http.local_flow_control_window(stream), http.max_outbound_frame_size, len(body))
            if size <= 0:
                self._flush()
                self._feed(self._wire.receive())
                if self._closed:
                    return
                continue
            http.send_data(stream, bytes(body[:size]), end_stream=size == len(body))
            body = body[size:]
        self._flush()
