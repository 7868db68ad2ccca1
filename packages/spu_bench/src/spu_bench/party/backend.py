"""What the session loop needs from a runtime."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Optional, Protocol

from spu_bench.errors import SpuBenchError
from spu_bench.party import Holder
from spu_bench.party.exchange import Exchange
from spu_bench.party.spu_profile import OperationStats, Traffic

Arrays = Dict[str, Any]
"""numpy arrays by name."""


@dataclass(frozen=True)
class Statistics:
    """What the link carried in all runs so far (None: nobody counts), and the operations of the last run."""

    link: Optional[Traffic]
    operations: list[OperationStats] = field(default_factory=list)


@dataclass(frozen=True)
class Dealt:
    """What a dealer that is a third party has given so far, at the party that asks it.

    Offline: seconds, bytes and answers of what was prepared before an inference; `from_memory` of these were used.
    Online: requests that went to the dealer while a Program ran, and their bytes; None where nobody counts.
    """

    offline_s: float
    offline_bytes: int
    prepared: int
    from_memory: int
    online_requests: Optional[int]
    online_bytes: Optional[int]

    def __sub__(self, before: Dealt) -> Dealt:
        return Dealt(
            self.offline_s - before.offline_s,
            self.offline_bytes - before.offline_bytes,
            self.prepared - before.prepared,
            self.from_memory - before.from_memory,
            None if self.online_requests is None else self.online_requests - (before.online_requests or 0),
            None if self.online_bytes is None else self.online_bytes - (before.online_bytes or 0),
        )


class Dealer(Protocol):
    """The session's part of a dealer that is a third party (party.dealer_client), at one party."""

    def prepare(self) -> None:
        """Have the answers of the next inference here, before its inputs are shared. Raises SpuBenchError."""
        ...

    def dealt(self) -> Optional[Dealt]:
        """What it gave so far; None at a party that does not ask it."""
        ...


class Backend(Protocol):
    """A runtime in one party's process.

    The methods are called in the order in which they stand here; from `share` on, once more for each inference. The
    backend raises SpuBenchError for input that it refuses. The session loop turns any RuntimeError into one.
    """

    @property
    def software(self) -> Mapping[str, str]:
        """Versions that all parties of a session must have in common, by name."""
        ...

    def compile(self) -> None:
        """Compile the Program. Raises RuntimeError or ValueError."""
        ...

    def connect(self, exchange: Exchange, end: Callable[[SpuBenchError], None]) -> None:
        """Make the link to the other parties, who do the same now. Raises RuntimeError.

        `end` ends this process with an error; any thread can call it.
        """
        ...

    @property
    def dealer(self) -> Optional[Dealer]:
        """The third party that deals, after `connect`; None where there is none."""
        ...

    def share(self, exchange: Exchange, holder: Holder, arrays: Optional[Arrays]) -> None:
        """Give the arrays of `holder` to the runtime as shares; a party that does not hold them has None."""
        ...

    def compute(self) -> None:
        """Run the Program on the arrays that were shared. Raises RuntimeError."""
        ...

    def reveal(self, exchange: Exchange) -> Arrays:
        """The outputs by name at the client, nothing at any other party."""
        ...

    def statistics(self) -> Statistics:
        """What was counted until now; called before and after each inference, outside of what is timed."""
        ...
