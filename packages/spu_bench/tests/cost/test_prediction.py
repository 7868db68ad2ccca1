"""The formula, on costs whose seconds can be calculated by hand."""

from __future__ import annotations

import pytest

from spu_bench import Network, SpuBenchError
from spu_bench.cost.machine_costs import StepCost
from spu_bench.cost.prediction import check, estimate, network_seconds
from spu_bench.network import LOOPBACK

HEADERS = 65535 / (65535 - 52)
LINK = Network(name="link", rate_mbit=80.0, rtt_ms=20.0)  # 10 MB/s, 10 ms each way


def lockstep(turns: int, size: int, seconds: float = 1.0) -> StepCost:
    """A step whose parties both send a message of `size` bytes in each of its turns."""
    return StepCost(
        operation="pphlo.less",
        seconds=seconds,
        turns=turns,
        path_bytes=turns * size,
        sent_bytes=(turns * size, turns * size),
        sent_messages=(turns, turns),
        message_bytes=((size, turns),),
        storage=(),
    )


def test_delay_rate_and_wake_time() -> None:
    """Turns cost the delay and the wake-up time, bytes the rate; both parties send at the same time."""
    link = network_seconds(lockstep(10, 50_000), LINK, 0.001)
    assert link.floor_s == pytest.approx(10 * 0.010 + 10 * 0.005 * HEADERS)
    assert link.wake_s == pytest.approx(10 * 0.001)


def test_the_slower_direction_counts() -> None:
    """Where both send at the same time, they wait for the slower direction."""
    slow = LINK.model_copy(update={"rate_back_mbit": 8.0})
    assert network_seconds(lockstep(1, 10_000), slow, 0).floor_s == pytest.approx(0.010 + 0.010 * HEADERS)


def test_sending_one_after_the_other_adds_up() -> None:
    """Where one party sends after the other, the bytes of both count."""
    cost = lockstep(2, 10_000).model_copy(update={"path_bytes": 40_000})
    assert network_seconds(cost, LINK, 0).floor_s == pytest.approx(0.020 + 0.004 * HEADERS)


@pytest.mark.parametrize(("size", "charged"), [(50_000, 0), (100_000, 0), (300_000, 200_000)])
def test_a_burst_passes_without_limit(size: int, charged: int) -> None:
    """Each message is shorter by the bucket, if there is enough time to refill it."""
    bucket = LINK.model_copy(update={"burst_bytes": 100_000})
    assert network_seconds(lockstep(4, size), bucket, 0).floor_s == pytest.approx(0.040 + 4 * charged / 10e6 * HEADERS)


def test_a_bucket_is_refilled_at_the_rate() -> None:
    """Between two turns the bucket gets what the rate allows in that time."""
    bucket = LINK.model_copy(update={"burst_bytes": 1_000_000, "rtt_ms": 2.0})
    link = network_seconds(lockstep(100, 50_000, seconds=0.0), bucket, 0)
    assert link.floor_s == pytest.approx(100 * (0.001 + (50_000 - 10_000) / 10e6 * HEADERS))


def test_a_network_that_is_not_shaped_adds_nothing() -> None:
    """On the loopback device a step takes its computation."""
    found = estimate([(lockstep(10, 50_000), 3.0)], LOOPBACK, 0.001)
    assert found.seconds == found.compute_s == 3.0 and found.floor_s == found.wake_s == 0.0


def test_parts_add_up() -> None:
    """The seconds are the sum of the parts, and of the operations."""
    costs = [(lockstep(10, 50_000), 3.0), (lockstep(1, 10).model_copy(update={"operation": "pphlo.dot"}), 0.5)]
    found = estimate(costs, LINK, 0.001)
    assert found.turns == 30.5 and found.sent_bytes == (1_500_005.0, 1_500_005.0)
    assert found.seconds == pytest.approx(found.compute_s + found.floor_s + found.wake_s)
    parts = found.operations
    assert [part.name for part in parts] == ["pphlo.less", "pphlo.dot"] and parts[1].calls == 0.5
    assert sum(part.compute_s + part.network_s for part in parts) == pytest.approx(found.seconds)


@pytest.mark.parametrize("unknown", [{"jitter_ms": 1.0}, {"loss_percent": 0.1}])
def test_jitter_and_loss_are_refused(unknown: dict[str, float]) -> None:
    """The model does not support them."""
    with pytest.raises(SpuBenchError, match="does not support jitter and loss"):
        check(LINK.model_copy(update=unknown))
