"""The predicted latency of a Program, as the cost model returns it and a record keeps it."""

from __future__ import annotations

from spu_bench.network import Network
from spu_bench.strict import Strict


class OperationPart(Strict):
    """One kind of operation in a prediction.

    `turns` are one-way delays on the critical path (under SEMI2K the rounds), `sent_bytes` those of the server and
    the client, `compute_s` its seconds on the loopback device, `network_s` those that the network adds.
    """

    name: str
    calls: float = 0.0
    turns: float = 0.0
    sent_bytes: tuple[float, float] = (0.0, 0.0)
    sent_messages: tuple[float, float] = (0.0, 0.0)
    compute_s: float = 0.0
    network_s: float = 0.0


class Prediction(Strict):
    """The predicted seconds of one inference over a network, with their parts.

    `seconds` = `compute_s` + `floor_s` + `wake_s`: computation as on the loopback device; what the network alone takes,
    its delay in each of the `turns` and its rate for the bytes on the critical path; what waking up after a wait
    takes. `waited` is the time over the CPU time of the runs in which steps were timed: far above 1, the machine was
    busy, and the computation takes less than predicted.
    """

    program: str
    fingerprint: str
    protocol: str
    network: Network
    seconds: float
    compute_s: float
    floor_s: float
    wake_s: float
    turns: float
    sent_bytes: tuple[float, float]
    sent_messages: tuple[float, float]
    waited: float
    operations: list[OperationPart]
