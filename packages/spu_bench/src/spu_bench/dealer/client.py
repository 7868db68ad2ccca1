"""What a party asks the dealer beside SPU: a session, its key, and whether the dealer is still there."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Callable
from typing import Literal

from spu_bench.dealer.sm2 import public_key
from spu_bench.dealer.tls import TlsFiles
from spu_bench.errors import SpuBenchError

Address = tuple[str, int]
SESSION, KEY, HEALTH = "/session", "/key", "/health"
_LARGEST = 1 << 16


def new_session(address: Address, tls: TlsFiles | None = None, *, timeout_s: float = 10.0) -> str:
    """Begin a session: the public key in PEM that all parties require. One party does it, the adjusting one.

    Raises SpuBenchError where the dealer serves other parties now, or does not answer.
    """
    return _key(_ask(address, tls, "POST", SESSION, timeout_s))


def current_key(address: Address, tls: TlsFiles | None = None, *, timeout_s: float = 10.0) -> str:
    """The public key of the dealer's session. The other parties compare it with the one that they were told."""
    return _key(_ask(address, tls, "GET", KEY, timeout_s))


def check(address: Address, tls: TlsFiles | None = None, *, timeout_s: float = 10.0) -> None:
    """Raise SpuBenchError unless the dealer answers."""
    _ask(address, tls, "GET", HEALTH, timeout_s)


class DealerWatch:
    """Asks the dealer every `every_s` seconds whether it is well; calls `on_gone` once, from a thread, when it is not.

    SPU itself waits without a time limit for an answer that has begun. A context manager.
    """

    def __init__(
        self,
        address: Address,
        on_gone: Callable[[SpuBenchError], None],
        tls: TlsFiles | None = None,
        *,
        every_s: float = 1.0,
        timeout_s: float = 5.0,
    ) -> None:
        self._address, self._tls, self._on_gone = address, tls, on_gone
        self._every_s, self._timeout_s = every_s, timeout_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="dealer watch", daemon=True)
        self._thread.start()

    def __enter__(self) -> DealerWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the watch; `on_gone` is not called any more."""
        self._ending.set()

    def _watch(self) -> None:
        while not self._ending.wait(self._every_s):
            try:
                check(self._address, self._tls, timeout_s=self._timeout_s)
            except SpuBenchError as error:
                if not self._ending.is_set():
                    self._on_gone(error)
                return


def connect(address: Address, tls: TlsFiles | None, timeout_s: float) -> http.client.HTTPConnection:
    """A connection to the dealer, not yet open."""
    if tls is None:
        return http.client.HTTPConnection(*address, timeout=timeout_s)
    return http.client.HTTPSConnection(*address, timeout=timeout_s, context=tls.client())


def gone(address: Address, error: Exception) -> SpuBenchError:
    """The failure of a dealer that does not answer."""
    return SpuBenchError(
        f"The dealer at {address[0]}:{address[1]} does not answer: {error}.", "see the dealer's log.", "peer"
    )


def _ask(address: Address, tls: TlsFiles | None, verb: Literal["GET", "POST"], path: str, timeout_s: float) -> bytes:
    connection = connect(address, tls, timeout_s)
    try:
        connection.request(verb, path)
        reply = connection.getresponse()
        data = reply.read(_LARGEST)
    except (OSError, http.client.HTTPException) as error:
        raise gone(address, error) from error
    finally:
        connection.close()
    if reply.status != http.client.OK:
        raise SpuBenchError(
            f"The dealer at {address[0]}:{address[1]} refuses: {data.decode(errors='replace')[:200]}.",
            "wait for its session to end, or use a dealer of your own.",
            "peer",
        )
    return data


def _key(data: bytes) -> str:
    try:
        pem = str(json.loads(data)["public_key"])
        public_key(pem)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SpuBenchError("The dealer's answer holds no public key.", "see the dealer's log.", "peer") from error
    return pem
