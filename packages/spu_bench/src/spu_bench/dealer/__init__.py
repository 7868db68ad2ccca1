"""A trusted third party that deals SEMI2K's correlated randomness to unmodified SPU 0.9.5 parties.

    with Dealer(DealerOptions(world_size=2)) as dealer:
        options = runtime_options(("127.0.0.1", dealer.port), dealer.public_key)  # for every party

Who sees what:

- The dealer: the parties' seeds and the shapes of the operations (from which the Program's structure follows). It is
  never sent an input, a weight, a share or an opened value. With what crosses the link between the parties it could
  open everything: it must not be run by a party, nor see that link.
- The adjusting party: the dealer's corrections, which are uniformly random to it. Encrypted seeds of the others.
- The other parties: nothing from the dealer. They send it nothing either, except their encrypted seed, by way of the
  adjusting party.
- The proxy (`Proxy`) beside the adjusting party: what the adjusting party sees.

A dealer that lies gives wrong results, not an error: SEMI2K trusts it to follow the protocol, as it trusts the parties.
"""

from spu_bench.dealer.ahead import Prepared
from spu_bench.dealer.client import DealerWatch, check, current_key, new_session
from spu_bench.dealer.connection import ConnectionLimits
from spu_bench.dealer.draws import Draw, DrawnRange, Overlap, overlaps
from spu_bench.dealer.guard import Limits, Refusal
from spu_bench.dealer.proxy import Counts, Proxy, ProxyOptions
from spu_bench.dealer.recording import Recording
from spu_bench.dealer.server import Dealer, DealerOptions, RuntimeOptions, Status, Transport, runtime_options
from spu_bench.dealer.tls import TlsFiles

__all__ = [
    "ConnectionLimits",
    "Counts",
    "Dealer",
    "DealerOptions",
    "DealerWatch",
    "Draw",
    "DrawnRange",
    "Limits",
    "Overlap",
    "Prepared",
    "Proxy",
    "ProxyOptions",
    "Recording",
    "Refusal",
    "RuntimeOptions",
    "Status",
    "TlsFiles",
    "Transport",
    "check",
    "current_key",
    "new_session",
    "overlaps",
    "runtime_options",
]
