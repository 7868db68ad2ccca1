"""The latency of a Program on a network, from what its steps cost.

They are a sum over the steps. Each step has its computation, as on the loopback device, turns x (one-way delay +
wake-up time), and (bytes on the critical path - bytes that pass in bursts) / rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from spu_bench.cost.machine_costs import StepCost
from spu_bench.errors import SpuBenchError
from spu_bench.network import Network
from spu_bench.predicted_latency import Estimate, OperationPart

_HEADERS = 52  # bytes of IPv4 and TCP with timestamps in each packet


@dataclass(frozen=True)
class NetworkSeconds:
    """What a network adds to one step: `floor_s` for delay and transfer, `wake_s` for wake-up time."""

    floor_s: float = 0.0
    wake_s: float = 0.0


def network_seconds(cost: StepCost, network: Network, wake_s: float) -> NetworkSeconds:
    """What `network` adds to a step; nothing for a network that is not shaped."""
    if not network.is_shaped or not cost.turns:
        return NetworkSeconds()
    delay_s = network.one_way_ms / 1e3
    return NetworkSeconds(cost.turns * delay_s + _transfer_s(cost, network, delay_s), cost.turns * wake_s)


def _transfer_s(cost: StepCost, network: Network, delay_s: float) -> float:
    """Seconds for the bytes on the critical path of a step.

    The parties send one after the other, except for the bytes beyond the critical path, which both send at the same
    time. A bucket passes up to `burst_bytes` of a message without limit, once a turn, as far as it has been refilled
    since the turn before.
    """
    rates = [None if mbit is None else mbit * 1e6 / 8 for mbit in (network.rate_mbit, network.rate_back_mbit)]
    known = [rate for rate in rates if rate is not None]
    if not known:
        return 0.0
    both = max(0, sum(cost.sent_bytes) - cost.path_bytes)
    alone = sum(sent / rate for sent, rate in zip(cost.sent_bytes, rates) if rate)
    seconds = alone - (both / max(known) if len(known) == 2 else 0.0)
    saved = 0.0
    if network.burst_bytes is not None:
        refill = min(known) * (delay_s + cost.seconds / cost.turns)
        saved = _saved(cost, min(network.burst_bytes, refill))
    whole_packet = min(network.mtu, 65_535)
    return seconds * (1 - saved) * whole_packet / (whole_packet - _HEADERS)


def _saved(cost: StepCost, burst: float) -> float:
    """The part of a step's bytes that a bucket of `burst` bytes passes without limit."""
    volume, at_once = max(cost.sent_bytes), sum(min(size, burst) * count for size, count in cost.message_bytes)
    if not volume:
        return 0.0
    return min(at_once / volume, burst * cost.turns / cost.path_bytes, 1.0)


def check(network: Network) -> None:
    """Raise SpuBenchError for a network that the cost model does not support."""
    if network.jitter_ms or network.loss_percent:
        raise SpuBenchError(
            f"The cost model does not support jitter and loss, which the network {network.name!r} has.",
            "remove them from the network, or measure the latency with `spu-bench run`.",
            "bad_input",
        )


def estimate(costs: Sequence[tuple[StepCost, float]], network: Network, wake_s: float) -> Estimate:
    """The estimate for steps with these costs and numbers of occurrences, on `network` with a wake-up time `wake_s`."""
    parts: dict[str, OperationPart] = {}
    total = Counter[str]()
    for cost, count in costs:
        part = parts.setdefault(cost.operation, OperationPart(name=cost.operation))
        added = network_seconds(cost, network, wake_s)
        part.calls += count
        part.turns += count * cost.turns
        part.sent_bytes = _sum(part.sent_bytes, cost.sent_bytes, count)
        part.sent_messages = _sum(part.sent_messages, cost.sent_messages, count)
        part.compute_s += count * cost.seconds
        part.network_s += count * (added.floor_s + added.wake_s)
        total.update({"floor_s": count * added.floor_s, "wake_s": count * added.wake_s})
    operations = sorted(parts.values(), key=lambda part: part.compute_s + part.network_s, reverse=True)
    compute_s = sum(part.compute_s for part in operations)
    return Estimate(
        seconds=compute_s + total["floor_s"] + total["wake_s"],
        compute_s=compute_s,
        floor_s=total["floor_s"],
        wake_s=total["wake_s"],
        turns=sum(part.turns for part in operations),
        sent_bytes=_total([part.sent_bytes for part in operations]),
        sent_messages=_total([part.sent_messages for part in operations]),
        operations=operations,
    )


def _total(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(server for server, _ in pairs), sum(client for _, client in pairs)


def _sum(first: tuple[float, float], second: tuple[int, int], count: float) -> tuple[float, float]:
    return first[0] + count * second[0], first[1] + count * second[1]
