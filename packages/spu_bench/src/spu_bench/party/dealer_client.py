"""One party's part of a dealer that is a third party: the session's key, the watch, and answers ahead of time.

The server (rank 0) asks the dealer. All parties watch it: they end when it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from spu_bench import dealer as dealing
from spu_bench.errors import SpuBenchError
from spu_bench.party import SERVER
from spu_bench.party.backend import Dealt
from spu_bench.party.exchange import Exchange
from spu_bench.party.task import DealerTask

_RETRY_S = 0.1


class DealerClient:
    """As backend.Dealer; `begin` comes first."""

    def __init__(self, dealer: DealerTask, connect_timeout_s: float) -> None:
        self._dealer = dealer
        self._connect_timeout_s = connect_timeout_s
        self._address = (dealer["address"], dealer["port"])
        self._tls = _tls(dealer)
        self._asks = False
        self._proxy: dealing.Proxy | None = None
        self._recorded: dealing.Recording | None = None
        self._records = False
        self._offline_s = 0.0
        self._prepared = 0

    def begin(self, exchange: Exchange, rank: int, end: Callable[[SpuBenchError], None]) -> dealing.RuntimeOptions:
        """Begin the dealer's session with the other parties; returns what this party's runtime has to know.

        Raises SpuBenchError where the dealer does not answer, or has another key than the one that the server names.
        """
        self._asks = rank == SERVER
        try:
            pem = self._new_session() if self._asks else ""
        except SpuBenchError:
            exchange.all_to_all(b"")  # the others see for themselves
            raise
        told = exchange.all_to_all(pem.encode())
        if not self._asks:
            pem = told[SERVER].decode()
            if not pem:
                dealing.check(self._address, self._tls)
            if dealing.current_key(self._address, self._tls) != pem:
                raise SpuBenchError(
                    "The dealer has another public key than the one that the server names.",
                    "give all parties the address of one dealer, which serves nobody else meanwhile.",
                    "peer",
                )
        # It lives as long as this process.
        dealing.DealerWatch(self._address, end, self._tls)
        address, tls = self._address, self._tls
        if self._asks and (key_file := self._dealer["key_file"]):
            key = read_key(Path(key_file))
            self._proxy = dealing.Proxy(dealing.ProxyOptions(*self._address, key, tls=self._tls))
            address, tls = ("127.0.0.1", self._proxy.port), None
        transport: dealing.Transport = "h2" if self._dealer["transport"] == "h2" else "http"
        return dealing.runtime_options(address, pem, adjust_rank=SERVER, transport=transport, tls=tls)

    def prepare(self) -> None:
        """Record the first inference; before each later one have the dealer send its answers."""
        if self._proxy is None:
            return
        if not self._records:
            self._records = True
            self._proxy.record()
            return
        if self._recorded is None:
            if not self._proxy.counts.passed:
                return  # no request is made by this Program
            self._recorded = self._proxy.recorded()
        made = self._proxy.prepare(self._recorded)
        self._offline_s += made.seconds
        self._prepared += made.requests

    def dealt(self) -> Dealt | None:
        """As backend.Dealer. Without a proxy the runtime asks the dealer itself, and nobody here counts."""
        if not self._asks:
            return None
        if self._proxy is None:
            return Dealt(0.0, 0, 0, 0, None, None)
        counts = self._proxy.counts
        return Dealt(
            self._offline_s, counts.offline_bytes, self._prepared, counts.prepared, counts.passed, counts.online_bytes
        )

    def _new_session(self) -> str:
        """Begin the session; a dealer that has just been started gets time to listen."""
        deadline = time.monotonic() + self._connect_timeout_s
        while True:
            try:
                return dealing.new_session(self._address, self._tls)
            except SpuBenchError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_RETRY_S)


def read_key(path: Path) -> bytes:
    """The key of prepared answers in a file that its owner alone can read. Raises SpuBenchError for another file."""
    try:
        mode, key = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise SpuBenchError(
            f"The key file {path} cannot be read: {error.strerror}.",
            f"make one: (umask 077; head -c 32 /dev/urandom > {path.name}).",
            "bad_input",
        ) from error
    if mode & 0o077:
        raise SpuBenchError(f"Others than its owner can read the key file {path}.", f"chmod 600 {path}", "bad_input")
    return key


def _tls(dealer: DealerTask) -> dealing.TlsFiles | None:
    certificate, private_key, ca = dealer["certificate"], dealer["private_key"], dealer["ca"]
    if certificate is None or private_key is None or ca is None:
        return None
    return dealing.TlsFiles(Path(certificate), Path(private_key), Path(ca))
