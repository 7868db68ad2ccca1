"""What the session loop needs from a runtime."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Protocol

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

    def connect(self) -> None:
        """Make the link to the other parties, who do the same now. Raises RuntimeError."""
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
