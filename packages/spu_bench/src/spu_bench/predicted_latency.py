"""The predicted latency of a Program, as the cost model returns it and a record keeps it."""

from __future__ import annotations

from spu_bench.network import Network
from spu_bench.strict import Strict


class OperationPart(Strict):
    """One kind of operation in a prediction.

    `turns` are one-way delays on the critical path (under SEMI2K: rounds). `sent_bytes` and `sent_messages` are those
    of the server and the client. `compute_s` is its time on the loopback device, `network_s` what the network adds.
    """

    name: str
    calls: float = 0.0
    turns: float = 0.0
    sent_bytes: tuple[float, float] = (0.0, 0.0)
    sent_messages: tuple[float, float] = (0.0, 0.0)
    compute_s: float = 0.0
    network_s: float = 0.0


class Estimate(Strict):
    """Seconds and traffic of one inference.

    `seconds` = `compute_s` + `floor_s` + `wake_s`: the computation, as on the loopback device; the delay of all
    `turns` and the transfer of the bytes on the critical path; the wake-up time after each wait.
    """

    seconds: float
    compute_s: float
    floor_s: float
    wake_s: float
    turns: float
    sent_bytes: tuple[float, float]
    sent_messages: tuple[float, float]
    operations: list[OperationPart]


class Prediction(Estimate):
    """The predicted latency of one inference of a Program on a network, with its parts.

    `waited` is the time of a run divided by its CPU time when the steps were measured. Far above 1 the machine was
    busy, and the computation takes less time than predicted.
    """

    program: str
    fingerprint: str
    protocol: str
    network: Network
    waited: float
