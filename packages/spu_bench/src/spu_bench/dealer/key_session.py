"""One session of the dealer: a key, the guard of that key, and the answers to its requests."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence

from spu_bench.dealer.answers import Answerer, error_frame, frame
from spu_bench.dealer.connection import Reply
from spu_bench.dealer.guard import Admitted, Guard, Limits, Refusal, StreamSet
from spu_bench.dealer.recording import Recording
from spu_bench.dealer.requests import SERVICE, BadRequest, parse
from spu_bench.dealer.sm2 import KeyPair

_LOG = logging.getLogger(__name__)


class Session:
    """Answers the requests of one set of parties. The key and the seeds exist only here."""

    def __init__(
        self, world_size: int, limits: Limits, *, programs: Sequence[Recording] = (), kept_draws: int = 0
    ) -> None:
        self.key = KeyPair.generate()
        self.guard = Guard(world_size, self.key, limits, programs=programs, kept_draws=kept_draws)
        self._answerers: dict[tuple[bytes, ...], Answerer] = {}
        self._lock = threading.Lock()
        self._last: float | None = None
        self.bytes_in = 0
        self.bytes_out = 0

    @property
    def quiet_s(self) -> float | None:
        """Seconds since the last request; None before the first."""
        return None if self._last is None else time.monotonic() - self._last

    def reply(self, path: str, content_type: str, body: bytes) -> Reply:
        """The reply to one request of SPU's: an answer, or the frame of an error that names the broken rule."""
        made = self._answer(path.removeprefix(SERVICE), content_type, body)
        self._last = time.monotonic()
        self.bytes_in += len(body)
        self.bytes_out += len(made)
        return Reply(200, made)

    def _answer(self, method: str, content_type: str, body: bytes) -> bytes:
        try:
            request = parse(method, body, "json" if "json" in content_type else "protobuf")
            admitted = self.guard.admit(request)
            with self._lock:
                return frame(self._answerer(admitted.streams).answer(request, admitted.owner))
        except Refusal as refusal:
            _LOG.warning("%s", refusal)
            return error_frame(str(refusal), decryption=refusal.decryption)
        except BadRequest as error:
            _LOG.warning("bad request: %s", error)
            return error_frame(f"The dealer cannot read a request: {error}. Fix: use SPU 0.9.5.")
        except MemoryError:
            return error_frame("The dealer has too little memory for an answer. Fix: give it more, or lower the batch.")

    def _answerer(self, streams: StreamSet) -> Answerer:
        found = self._answerers.get(streams.encrypted)
        if found is None:
            found = self._answerers[streams.encrypted] = streams.answerer()
        return found

    def prepare(self, recording: Recording, inferences: int) -> Iterator[tuple[bytes, bytes]]:
        """The answers of the next inferences: (digest of the request, framed answer). Raises Refusal at once.

        All ranges count as drawn from now on: what the parties ask next must be exactly these requests.
        """
        streams = self.guard.registered()
        starts = (streams.cursor + recording.span * index for index in range(inferences))
        admitted = self.guard.reserve([r for start in starts for r in recording.at(start, streams.encrypted)])
        return self._prepared(admitted, streams)

    def _prepared(self, admitted: Iterator[Admitted], streams: StreamSet) -> Iterator[tuple[bytes, bytes]]:
        answerer = streams.answerer()  # a thread of its own
        for one in admitted:
            yield one.request.digest(), frame(answerer.answer(one.request, one.owner))
