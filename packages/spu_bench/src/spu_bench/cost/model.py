"""From what steps cost to seconds on a network.

The seconds of a Program are the sum over its steps of: computation, as on the loopback device; turns x (one-way delay
+ what waking up costs); (bytes on the critical path - what bursts let through at once) / rate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from spu_bench.cost.table import StepCost
from spu_bench.errors import SpuBenchError
from spu_bench.network import Network
from spu_bench.predicted_latency import OperationPart

_HEADERS = 52  # bytes of IPv4 and TCP with timestamps in each packet


@dataclass(frozen=True)
class LinkSeconds:
    """What a network adds to one step: its floor (delay and transfer), and what waking up takes."""

    floor_s: float = 0.0
    wake_s: float = 0.0


def link_seconds(cost: StepCost, network: Network, wake_s: float) -> LinkSeconds:
    """What `network` adds to a step; nothing where the network asks for nothing."""
    if not network.is_shaped or not cost.turns:
        return LinkSeconds()
    delay_s = network.one_way_ms / 1e3
    return LinkSeconds(cost.turns * delay_s + _transfer_s(cost, network, delay_s), cost.turns * wake_s)


def _transfer_s(cost: StepCost, network: Network, delay_s: float) -> float:
    """Seconds for the bytes on the critical path of a step.

    The parties' bytes go one after another, but for what both send at the same time: what the two sent beyond the
    critical path. A bucket lets up to `burst_bytes` of a message through at once, once a turn, as far as it has
    filled again since the turn before.
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
    """The share of a step's bytes that a bucket of `burst` bytes lets through at once."""
    volume, at_once = max(cost.sent_bytes), sum(min(size, burst) * count for size, count in cost.message_bytes)
    if not volume:
        return 0.0
    return min(at_once / volume, burst * cost.turns / cost.path_bytes, 1.0)


def check(network: Network) -> None:
    """Raise SpuBenchError for a network whose latency the model does not know."""
    if network.jitter_ms or network.loss_percent:
        raise SpuBenchError(
            f"The cost model knows no jitter and no loss, and {network.name!r} has them.",
            "predict it without, or measure it with `spu-bench run`.",
            "bad_input",
        )


def of_costs(costs: Sequence[tuple[StepCost, float]], network: Network, wake_s: float) -> dict[str, Any]:
    """The fields of a Prediction that follow from what its steps cost, each with how often it comes."""
    parts: dict[str, OperationPart] = {}
    total = Counter[str]()
    for cost, count in costs:
        part = parts.setdefault(cost.operation, OperationPart(name=cost.operation))
        link = link_seconds(cost, network, wake_s)
        part.calls += count
        part.turns += count * cost.turns
        part.sent_bytes = _sum(part.sent_bytes, cost.sent_bytes, count)
        part.sent_messages = _sum(part.sent_messages, cost.sent_messages, count)
        part.compute_s += count * cost.seconds
        part.network_s += count * (link.floor_s + link.wake_s)
        total.update({"floor_s": count * link.floor_s, "wake_s": count * link.wake_s})
    operations = sorted(parts.values(), key=lambda part: part.compute_s + part.network_s, reverse=True)
    compute_s = sum(part.compute_s for part in operations)
    return {
        "seconds": compute_s + total["floor_s"] + total["wake_s"],
        "compute_s": compute_s,
        "floor_s": total["floor_s"],
        "wake_s": total["wake_s"],
        "turns": sum(part.turns for part in operations),
        "sent_bytes": tuple(sum(part.sent_bytes[rank] for part in operations) for rank in range(2)),
        "sent_messages": tuple(sum(part.sent_messages[rank] for part in operations) for rank in range(2)),
        "operations": operations,
    }


def _sum(first: tuple[float, float], second: tuple[int, int], count: float) -> tuple[float, float]:
    return first[0] + count * second[0], first[1] + count * second[1]
