"""Answers ahead of time: the stream in which the dealer sends a proxy the answers of inferences to come.

The requests of every inference of one Program are the same, shifted by a constant, and hold no data. Once the seeds
are known the dealer can compute all answers before the client has an image. The proxy beside the adjusting party then
answers from memory: the online path has neither the dealer's round trip nor its bytes.

One HTTP/1.1 request (POST /ahead) asks for it, over mutual TLS where the dealer has certificates. The request and
every answer have a MAC (HMAC-SHA256) under a key of the session that only the dealer and the adjusting party hold, in
a stream that is fresh through a random number of each side: what is altered, left out, repeated or moved is found.

Request: MAC (32 bytes), then JSON {nonce, inferences, recording}. Reply: nonce (16), then records of digest of the
request (32), length (8, little-endian), data, MAC (32) over the place in the stream and all of it. The last record has
a digest of zeros and JSON {requests, bytes, seconds}; one that tells of an error, a digest of ones.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from spu_bench.dealer.key_session import Session
from spu_bench.dealer.recording import Recording
from spu_bench.errors import SpuBenchError

PATH = "/ahead"
KEY = 32
"""Bytes of the key, at least."""
_NONCE, _DIGEST, _MAC, _LENGTH = 16, 32, 32, 8
_END, _ERROR = bytes(_DIGEST), b"\xff" * _DIGEST


@dataclass(frozen=True)
class Prepared:
    """What was prepared: requests, bytes of the answers and seconds, all of it offline."""

    requests: int
    bytes: int
    seconds: float


class _Mac:
    """The MACs of one stream, by place."""

    def __init__(self, key: bytes, ours: bytes, theirs: bytes) -> None:
        if len(key) < KEY:
            raise SpuBenchError("The key of prepared answers is too short.", f"use {KEY} random bytes.", "bad_input")
        self._base = hmac.new(
            hmac.digest(key, b"spu_bench dealer ahead" + ours + theirs, "sha256"), digestmod=hashlib.sha256
        )
        self._place = 0

    def of(self, head: bytes, data: bytes) -> bytes:
        made = self._base.copy()
        made.update(self._place.to_bytes(8) + head)
        made.update(data)
        self._place += 1
        return made.digest()


def ask(key: bytes, recording: Recording, inferences: int) -> tuple[bytes, bytes]:
    """The body of a request for answers, and the nonce in it."""
    nonce = secrets.token_bytes(_NONCE)
    text = json.dumps({"nonce": nonce.hex(), "inferences": inferences, "recording": recording.to_json()}).encode()
    return hmac.digest(key, text, "sha256") + text, nonce


def stream(session: Session, key: bytes, body: bytes, *, most_bytes: int) -> Iterator[bytes]:
    """The reply to such a request, piece by piece. Raises SpuBenchError where it is refused as a whole."""
    text = body[_MAC:]
    if not hmac.compare_digest(hmac.digest(key, text, "sha256"), body[:_MAC]):
        raise SpuBenchError("A request for prepared answers has a wrong MAC.", "give both sides one key.", "bad_input")
    try:
        data: Any = json.loads(text)
        theirs, inferences = bytes.fromhex(data["nonce"]), int(data["inferences"])
        recording = Recording.from_json(data["recording"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SpuBenchError(
            "A request for prepared answers cannot be read.", "use one version.", "bad_input"
        ) from error
    if len(theirs) != _NONCE or not 1 <= inferences <= most_bytes // max(recording.answer_bytes, 1):
        raise SpuBenchError(
            f"{inferences} inferences of {recording.answer_bytes} bytes are too many to prepare at once.",
            "prepare fewer.",
            "bad_input",
        )
    return _stream(session, key, theirs, recording, inferences)


def _stream(session: Session, key: bytes, theirs: bytes, recording: Recording, inferences: int) -> Iterator[bytes]:
    began, count, total = time.perf_counter(), 0, 0
    ours = secrets.token_bytes(_NONCE)
    mac = _Mac(key, ours, theirs)
    yield ours
    try:
        for digest, answer in session.prepare(recording, inferences):
            count, total = count + 1, total + len(answer)
            yield _record(mac, digest, answer)
    except SpuBenchError as error:
        yield _record(mac, _ERROR, str(error).encode())
        return
    summary = {"requests": count, "bytes": total, "seconds": time.perf_counter() - began}
    yield _record(mac, _END, json.dumps(summary).encode())


def _record(mac: _Mac, digest: bytes, data: bytes) -> bytes:
    head = digest + len(data).to_bytes(_LENGTH, "little")
    return b"".join((head, data, mac.of(head, data)))


def receive(
    read: Callable[[int], bytes], key: bytes, nonce: bytes, keep: Callable[[bytes, bytes], None], *, most_bytes: int
) -> Prepared:
    """Read a reply with `read` (exactly so many bytes) and `keep` every answer under its digest.

    Raises SpuBenchError where a MAC is wrong or the stream ends early; what was kept before that is genuine.
    """
    mac = _Mac(key, _exactly(read, _NONCE), nonce)
    total = 0
    while True:
        head = _exactly(read, _DIGEST + _LENGTH)
        digest, length = head[:_DIGEST], int.from_bytes(head[_DIGEST:], "little")
        total += length
        if total > most_bytes:
            raise SpuBenchError("The dealer sends more than was requested.", "prepare fewer inferences.", "peer")
        data = _exactly(read, length)
        if not hmac.compare_digest(mac.of(head, data), _exactly(read, _MAC)):
            raise SpuBenchError(
                "A prepared answer was altered on its way.", "see who can reach the dealer's link.", "peer"
            )
        if digest == _END:
            summary = json.loads(data)
            return Prepared(int(summary["requests"]), int(summary["bytes"]), float(summary["seconds"]))
        if digest == _ERROR:
            raise SpuBenchError("The dealer prepared nothing.", data.decode(errors="replace"), "peer")
        keep(digest, data)


def _exactly(read: Callable[[int], bytes], count: int) -> bytes:
    data = read(count)
    if len(data) != count:
        raise SpuBenchError("The dealer stopped in the middle of its answers.", "see the dealer's log.", "peer")
    return data
