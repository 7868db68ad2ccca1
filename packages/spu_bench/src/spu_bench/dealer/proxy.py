"""The proxy beside the adjusting party: answers SPU's requests from what the dealer prepared, and passes on the rest.

SPU is configured with the proxy's address in place of the dealer's. A prepared answer is given for a request that is
identical in every field, once. Everything else goes to the dealer, whose guard decides about it.

The proxy sees what the adjusting party sees anyway: requests (with encrypted seeds) and answers. It has no key of SM2.
"""

from __future__ import annotations

import http.client
import io
import threading
import time
from dataclasses import dataclass, field

from spu_bench.dealer import ahead, client
from spu_bench.dealer.ahead import Prepared
from spu_bench.dealer.answers import error_frame
from spu_bench.dealer.connection import Message, Reply
from spu_bench.dealer.recording import Recording
from spu_bench.dealer.requests import SERVICE, BadRequest, Request, parse
from spu_bench.dealer.service import Service
from spu_bench.dealer.tls import TlsFiles
from spu_bench.errors import SpuBenchError


@dataclass(frozen=True)
class ProxyOptions:
    """dealer_host, dealer_port: where the dealer is. tls: the files for the dealer; key: of prepared answers.

    host, port: where SPU finds the proxy: loopback, since the link from SPU to it is plain. memory_bytes: how much may
    be held prepared. timeout_s: how long the dealer may take for one answer or piece.
    """

    dealer_host: str
    dealer_port: int
    key: bytes = field(repr=False)
    tls: TlsFiles | None = None
    host: str = "127.0.0.1"
    port: int = 0
    memory_bytes: int = 4 << 30
    timeout_s: float = 30.0


@dataclass
class Counts:
    """Requests answered from memory and by the dealer, and bytes by phase."""

    prepared: int = 0
    passed: int = 0
    offline_bytes: int = 0
    online_bytes: int = 0
    """Bytes to and from the dealer for what was passed on."""


class Proxy:
    """Start it before the party that adjusts; `prepare` before an image comes. A context manager."""

    def __init__(self, options: ProxyOptions) -> None:
        self._options = options
        self._address = (options.dealer_host, options.dealer_port)
        self._answers: dict[bytes, bytes] = {}
        self._held = 0
        self._recorded: list[Request] | None = None
        self._lock = threading.Lock()
        self._passing = threading.Lock()
        self._dealer: http.client.HTTPConnection | None = None
        self.counts = Counts()
        self._service = Service(self._handle, options.host, options.port)
        self.port = self._service.port

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Close everything and forget the prepared answers."""
        self._service.stop()
        self._answers.clear()
        if self._dealer is not None:
            self._dealer.close()

    def record(self) -> None:
        """Begin to record the requests of one inference."""
        with self._lock:
            self._recorded = []

    def recorded(self) -> Recording:
        """What was asked since `record`. Raises SpuBenchError where it cannot be prepared."""
        with self._lock:
            asked, self._recorded = self._recorded or [], None
        return Recording.of(asked)

    def prepare(self, recording: Recording, inferences: int = 1) -> Prepared:
        """Have the dealer send the answers of the next inferences; returns when all are here.

        The parties' seeds have to be known to the dealer: they are after the first request of the session. Raises
        SpuBenchError where the dealer refuses or an answer was altered.
        """
        began = time.perf_counter()
        body, nonce = ahead.ask(self._options.key, recording, inferences)
        room = self._options.memory_bytes - self._held
        connection = self._connect()
        try:
            connection.request("POST", ahead.PATH, body, {"Content-Type": "application/octet-stream"})
            reply = connection.getresponse()
            if reply.status != http.client.OK:
                raise SpuBenchError("The dealer prepares nothing.", reply.read(4096).decode(errors="replace"), "peer")
            buffered = io.BufferedReader(reply, 1 << 20)
            made = ahead.receive(buffered.read, self._options.key, nonce, self._keep, most_bytes=room)
        except (OSError, http.client.HTTPException) as error:
            raise client.gone(self._address, error) from error
        finally:
            connection.close()
        self.counts.offline_bytes += made.bytes + len(body)
        return Prepared(made.requests, made.bytes, time.perf_counter() - began)

    def check(self) -> None:
        """Raise SpuBenchError unless the dealer answers."""
        client.check(self._address, self._options.tls, timeout_s=self._options.timeout_s)

    @property
    def held(self) -> int:
        """Prepared answers that were not asked for yet."""
        return len(self._answers)

    def _keep(self, digest: bytes, answer: bytes) -> None:
        with self._lock:
            self._answers[digest] = answer
            self._held += len(answer)

    def _handle(self, message: Message) -> Reply:
        if not (message.verb == "POST" and message.path.startswith(SERVICE)):
            return Reply(404, b"")
        form = "json" if "json" in message.content_type else "protobuf"
        try:
            request = parse(message.path.removeprefix(SERVICE), message.body, form)  # type: ignore[arg-type]
        except BadRequest as error:
            return Reply(200, error_frame(f"The proxy cannot read a request: {error}. Fix: use SPU 0.9.5."))
        digest = request.digest()
        with self._lock:
            if self._recorded is not None:
                self._recorded.append(request)
            answer = self._answers.pop(digest, None)
            if answer is not None:
                self._held -= len(answer)
        if answer is not None:
            self.counts.prepared += 1
            return Reply(200, answer)
        return Reply(200, self._pass(message))

    def _pass(self, message: Message) -> bytes:
        """Ask the dealer, once more where a kept connection turns out to be closed."""
        with self._passing:
            for first in (self._dealer is not None, False):
                if self._dealer is None:
                    self._dealer = self._connect()
                try:
                    self._dealer.request("POST", message.path, message.body, {"Content-Type": message.content_type})
                    answer = self._dealer.getresponse().read()
                except (OSError, http.client.HTTPException) as error:
                    self._dealer.close()
                    self._dealer = None
                    if not first or isinstance(error, TimeoutError):
                        return error_frame(str(client.gone(self._address, error)))
                else:
                    self.counts.passed += 1
                    self.counts.online_bytes += len(message.body) + len(answer)
                    return answer
        raise AssertionError

    def _connect(self) -> http.client.HTTPConnection:
        return client.connect(self._address, self._options.tls, self._options.timeout_s)
