"""The dealer's HTTP service: a listening socket, a thread a connection, TLS where files are given."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading

from spu_bench.dealer.connection import Broken, ConnectionLimits, Handler, serve
from spu_bench.dealer.tls import TlsFiles, names
from spu_bench.errors import SpuBenchError

_SEND_BUFFER = 4 << 20  # an answer is given to the kernel whole, while the party reads
_LOG = logging.getLogger(__name__)


class Service:
    """Serves `handler` on `host`:`port` (0: a free one) until it is stopped.

    tls: certificates; without them the service is plain HTTP, for loopback and tests. clients: names of which a
    client's certificate must have one; empty: every certificate of the CA will do. connections: how many at once.
    """

    def __init__(
        self,
        handler: Handler,
        host: str,
        port: int,
        *,
        tls: TlsFiles | None = None,
        clients: frozenset[str] = frozenset(),
        connections: int = 8,
        limits: ConnectionLimits | None = None,
    ) -> None:
        self._handler = handler
        self._context = tls.server() if tls else None
        self._clients = clients
        self._limits = limits or ConnectionLimits()
        self._places = threading.BoundedSemaphore(connections)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._stopping = False
        self.refused_connections = 0
        try:
            self._listener = socket.create_server((host, port), backlog=connections)
        except OSError as error:
            raise SpuBenchError(
                f"The dealer cannot listen on {host}:{port}: {error.strerror}.", "choose another port.", "environment"
            ) from error
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name="dealer", daemon=True)
        self._acceptor.start()

    def stop(self) -> None:
        """Close the listening socket and every connection."""
        with self._lock:
            self._stopping = True
            sockets = [self._listener, *self._open]
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(5)

    def _accept(self) -> None:
        while True:
            try:
                sock, address = self._listener.accept()
            except OSError:
                return
            if self._stopping or not self._places.acquire(blocking=False):
                self.refused_connections += 1
                sock.close()
                continue
            threading.Thread(target=self._connection, args=(sock, address[0]), daemon=True).start()

    def _connection(self, sock: socket.socket, address: str) -> None:
        try:
            self._opened(None, sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            self._serve(sock)
        except (Broken, OSError, ssl.SSLError) as error:
            self.refused_connections += 1
            _LOG.info("connection from %s closed: %s", address, error)
        except Exception:
            self.refused_connections += 1
            _LOG.exception("connection from %s failed", address)
        finally:
            with self._lock:
                self._open.discard(sock)
            with contextlib.suppress(OSError):
                sock.close()
            self._places.release()

    def _opened(self, before: socket.socket | None, sock: socket.socket) -> None:
        """Remember `sock`, so that `stop` can close it; in place of `before`, which TLS has taken over."""
        with self._lock:
            if before is not None:
                self._open.discard(before)
            self._open.add(sock)
            if self._stopping:
                raise Broken("the service stops")

    def _serve(self, sock: socket.socket) -> None:
        if self._context is None:
            serve(sock, self._handler, self._limits)
            return
        sock.settimeout(self._limits.request_s)
        with self._context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False) as encrypted:
            try:
                self._opened(sock, encrypted)
                encrypted.do_handshake()
                if self._clients and not self._clients & names(encrypted):
                    raise Broken("the certificate is of this CA, but not of a party that may ask")
                serve(encrypted, self._handler, self._limits)
            finally:
                with self._lock:
                    self._open.discard(encrypted)
