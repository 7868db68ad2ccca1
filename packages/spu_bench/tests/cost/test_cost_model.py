"""The formula, on costs whose seconds can be worked out by hand."""

from __future__ import annotations

import pytest

from spu_bench import Network, SpuBenchError
from spu_bench.cost.model import check, link_seconds, of_costs
from spu_bench.cost.table import StepCost
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


def test_delay_rate_and_waking() -> None:
    """Turns cost the delay, bytes the rate, and waking up comes on top; both parties' bytes pass at the same time."""
    link = link_seconds(lockstep(10, 50_000), LINK, 0.001)
    assert link.floor_s == pytest.approx(10 * 0.010 + 10 * 0.005 * HEADERS)
    assert link.wake_s == pytest.approx(10 * 0.001)


def test_the_slower_direction_counts() -> None:
    """Where both send at the same time, the slower direction is what they wait for."""
    slow = LINK.model_copy(update={"rate_back_mbit": 8.0})
    assert link_seconds(lockstep(1, 10_000), slow, 0).floor_s == pytest.approx(0.010 + 0.010 * HEADERS)


def test_taking_turns_adds_up() -> None:
    """Where one party sends after the other, the bytes of both count."""
    cost = lockstep(2, 10_000).model_copy(update={"path_bytes": 40_000})
    assert link_seconds(cost, LINK, 0).floor_s == pytest.approx(0.020 + 0.004 * HEADERS)


@pytest.mark.parametrize(("size", "charged"), [(50_000, 0), (100_000, 0), (300_000, 200_000)])
def test_a_burst_passes_at_once(size: int, charged: int) -> None:
    """The bucket takes its size off every message, if there is time enough to fill it again."""
    bucket = LINK.model_copy(update={"burst_bytes": 100_000})
    assert link_seconds(lockstep(4, size), bucket, 0).floor_s == pytest.approx(0.040 + 4 * charged / 10e6 * HEADERS)


def test_a_bucket_fills_at_the_rate() -> None:
    """Between two turns only as much comes into the bucket as the rate gives in that time."""
    bucket = LINK.model_copy(update={"burst_bytes": 1_000_000, "rtt_ms": 2.0})
    link = link_seconds(lockstep(100, 50_000, seconds=0.0), bucket, 0)
    assert link.floor_s == pytest.approx(100 * (0.001 + (50_000 - 10_000) / 10e6 * HEADERS))


def test_a_network_that_asks_for_nothing_adds_nothing() -> None:
    """Over the loopback device a step takes what it computes."""
    fields = of_costs([(lockstep(10, 50_000), 3.0)], LOOPBACK, 0.001)
    assert fields["seconds"] == fields["compute_s"] == 3.0 and fields["floor_s"] == fields["wake_s"] == 0.0


def test_parts_add_up() -> None:
    """Seconds are those of the parts, and the operations' parts those of the whole."""
    costs = [(lockstep(10, 50_000), 3.0), (lockstep(1, 10).model_copy(update={"operation": "pphlo.dot"}), 0.5)]
    fields = of_costs(costs, LINK, 0.001)
    assert fields["turns"] == 30.5 and fields["sent_bytes"] == (1_500_005.0, 1_500_005.0)
    assert fields["seconds"] == pytest.approx(fields["compute_s"] + fields["floor_s"] + fields["wake_s"])
    parts = fields["operations"]
    assert [part.name for part in parts] == ["pphlo.less", "pphlo.dot"] and parts[1].calls == 0.5
    assert sum(part.compute_s + part.network_s for part in parts) == pytest.approx(fields["seconds"])


@pytest.mark.parametrize("unknown", [{"jitter_ms": 1.0}, {"loss_percent": 0.1}])
def test_what_the_model_does_not_know(unknown: dict[str, float]) -> None:
    """A network with jitter or loss is refused, not guessed."""
    with pytest.raises(SpuBenchError, match="no jitter and no loss"):
        check(LINK.model_copy(update=unknown))
