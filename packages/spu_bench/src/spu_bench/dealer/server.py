"""The dealer itself: options, start and stop, and what the parties have to be told."""

from __future__ import annotations

import ipaddress
import json
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

from spu_bench.dealer import ahead, client
from spu_bench.dealer.connection import ConnectionLimits, Message, Reply
from spu_bench.dealer.draws import Draw
from spu_bench.dealer.guard import Limits
from spu_bench.dealer.key_session import Session
from spu_bench.dealer.recording import Recording
from spu_bench.dealer.requests import SERVICE
from spu_bench.dealer.service import Service
from spu_bench.dealer.tls import TlsFiles
from spu_bench.errors import SpuBenchError

Transport = Literal["http", "h2"]


@dataclass(frozen=True)
class DealerOptions:
    """How a dealer runs.

    world_size: parties. host, port: where it listens (0: a free port). tls: certificates; without them only a loopback
    address is served, unless `insecure`. clients: names (of certificates) that may ask; empty: all of the CA.
    programs: recordings of all that the session will run; where given, nothing else is answered.
    key: of prepared answers (32 random bytes, shared with the adjusting party); without it nothing is prepared.
    ahead_bytes: most bytes that are prepared at once. session_idle_s: a party may begin a new session (which ends the
    present one) only after so many seconds without a request. kept_draws: how many requests the log of draws keeps.
    """

    world_size: int = 2
    host: str = "127.0.0.1"
    port: int = 0
    tls: TlsFiles | None = None
    insecure: bool = False
    clients: frozenset[str] = frozenset()
    key: bytes | None = field(default=None, repr=False)
    programs: tuple[Recording, ...] = ()
    limits: Limits = field(default_factory=Limits)
    connection: ConnectionLimits = field(default_factory=ConnectionLimits)
    connections: int = 8
    ahead_bytes: int = 4 << 30
    session_idle_s: float = 30.0
    kept_draws: int = 0

    def __post_init__(self) -> None:
        if self.world_size not in (2, 3):
            raise SpuBenchError(f"A dealer cannot serve {self.world_size} parties.", "use two or three.", "bad_input")
        if any(program.world_size != self.world_size for program in self.programs):
            raise SpuBenchError("A Program was recorded with other parties.", "record it again.", "bad_input")
        if self.tls is None and not self.insecure and not _loopback(self.host):
            raise SpuBenchError(
                f"A dealer without TLS would listen on {self.host}.", "give it certificates.", "bad_input"
            )
        if self.key is not None and len(self.key) < ahead.KEY:
            raise SpuBenchError(
                "The key of prepared answers is too short.", f"use {ahead.KEY} random bytes.", "bad_input"
            )


@dataclass(frozen=True)
class Status:
    """What a dealer has done in the current session. Bytes are of bodies, without headers and TLS."""

    requests: int
    refused: int
    bytes_in: int
    bytes_out: int
    refused_connections: int


class Dealer:
    """A running dealer. A context manager; `renew` begins a new session, with a new key."""

    def __init__(self, options: DealerOptions | None = None) -> None:
        self.options = options or DealerOptions()
        self._session = self._new()
        self._ending = threading.Event()
        self._lock = threading.Lock()
        o = self.options
        self._service = Service(
            self._handle,
            o.host,
            o.port,
            tls=o.tls,
            clients=o.clients,
            connections=o.connections,
            limits=replace(o.connection, long_bodies=frozenset({ahead.PATH} if o.key else ())),
        )

    def __enter__(self) -> Dealer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._service.port

    @property
    def public_key(self) -> str:
        """The session's SM2 public key in PEM. All parties require it."""
        return self._session.key.pem

    @property
    def draws(self) -> list[Draw]:
        """The log of draws of this session, the last `kept_draws` requests."""
        return list(self._session.guard.draws)

    @property
    def status(self) -> Status:
        """What it has done in this session."""
        session = self._session
        return Status(
            session.guard.requests,
            session.guard.refused,
            session.bytes_in,
            session.bytes_out,
            self._service.refused_connections,
        )

    def renew(self) -> str:
        """End the session: forget its key and seeds. Returns the public key of the new one."""
        self._session = self._new()
        return self.public_key

    def stop(self) -> None:
        """Close all connections and forget key and seeds."""
        self._service.stop()
        self._session = self._new()
        self._ending.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is stopped; True where it was."""
        return self._ending.wait(timeout_s)

    def _new(self) -> Session:
        o = self.options
        return Session(o.world_size, o.limits, programs=o.programs, kept_draws=o.kept_draws)

    def _begin(self) -> Reply:
        """A new session, unless the present one is in use."""
        with self._lock:
            quiet_s = self._session.quiet_s
            if quiet_s is not None and quiet_s < self.options.session_idle_s:
                return Reply(409, b"it serves other parties")
            return Reply(200, json.dumps({"public_key": self.renew()}).encode())

    def _handle(self, message: Message) -> Reply:
        session = self._session
        if message.verb == "POST" and message.path.startswith(SERVICE):
            return session.reply(message.path, message.content_type, message.body)
        if message.verb == "GET" and message.path in (client.HEALTH, client.KEY):
            return Reply(200, json.dumps({"public_key": session.key.pem}).encode())
        if message.verb == "POST" and message.path == client.SESSION:
            return self._begin()
        if message.verb == "POST" and message.path == ahead.PATH and self.options.key is not None:
            try:
                pieces = ahead.stream(session, self.options.key, message.body, most_bytes=self.options.ahead_bytes)
            except SpuBenchError as error:
                return Reply(403, str(error).encode())
            return Reply(200, pieces)
        return Reply(404, b"")


class SslConfig(TypedDict):
    """SPU's ClientSSLConfig."""

    certificate: str
    private_key: str
    ca_file_path: str
    verify_depth: int


class TtpBeaverConfig(TypedDict):
    """SPU's TTPBeaverConfig."""

    server_host: str
    adjust_rank: int
    asym_crypto_schema: Literal["SM2"]
    server_public_key: str
    transport_protocol: Transport
    ssl_config: NotRequired[SslConfig]


class RuntimeOptions(TypedDict):
    """The fields of SPU's RuntimeConfig that name a dealer."""

    beaver_type: Literal["TrustedThirdParty"]
    ttp_beaver_config: TtpBeaverConfig


def runtime_options(
    address: tuple[str, int],
    public_key: str,
    *,
    adjust_rank: int = 0,
    transport: Transport = "http",
    tls: TlsFiles | None = None,
    verify_depth: int = 1,
) -> RuntimeOptions:
    """The runtime options with which a party uses the dealer (or the proxy) at `address`.

    All parties require the same public key and adjust_rank; only the adjusting party connects. tls: the party's own
    certificate, key and the CA. Raises SpuBenchError for verify_depth 0, with which SPU accepts any certificate.
    """
    if verify_depth < 1:
        raise SpuBenchError(
            "With verify_depth 0 SPU accepts any certificate of the dealer.", "use 1 or more.", "bad_input"
        )
    host, port = address
    config: TtpBeaverConfig = {
        "server_host": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        "adjust_rank": adjust_rank,
        "asym_crypto_schema": "SM2",
        "server_public_key": public_key,
        "transport_protocol": transport,
    }
    if tls is not None:
        config["ssl_config"] = {
            "certificate": str(Path(tls.certificate).absolute()),
            "private_key": str(Path(tls.private_key).absolute()),
            "ca_file_path": str(Path(tls.ca).absolute()),
            "verify_depth": verify_depth,
        }
    return {"beaver_type": "TrustedThirdParty", "ttp_beaver_config": config}


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
