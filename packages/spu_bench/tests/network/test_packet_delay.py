"""When delayed packets are released, and how the kernel's messages are read."""

from __future__ import annotations

import struct
import time

from hypothesis import given
from hypothesis import strategies as st

from spu_bench.network.nfqueue import Packet, parse_packet
from spu_bench.network.packet_delay import ReleaseTimes

SENDER, OTHER = b"\x0a\x00\x00\x01", b"\x0a\x00\x00\x02"


def test_a_packet_waits_for_its_transmission_time_and_the_delay() -> None:
    times = ReleaseTimes({SENDER: 400.0}, delay_ms=20.0, jitter_ms=0.0, seed=0)
    # 50,000 bytes at 400 Mbit/s are 1 ms
    assert times.due(Packet(1, 0, 50_000, SENDER)) == 21_000_000
    assert times.due(Packet(2, 0, 50_000, SENDER)) == 22_000_000, "it waits for the earlier packet"
    assert times.due(Packet(3, 10_000_000, 50_000, SENDER)) == 31_000_000, "no earlier packet is left"


def test_senders_do_not_wait_for_each_other() -> None:
    times = ReleaseTimes({SENDER: 1.0, OTHER: 1000.0}, delay_ms=0.0, jitter_ms=0.0, seed=0)
    times.due(Packet(1, 0, 1000, OTHER))
    slow = times.due(Packet(2, 0, 1000, SENDER))
    assert slow == 8_000_000
    assert ReleaseTimes({}, 1.0, 0.0, 0).due(Packet(3, 0, 1_000_000, OTHER)) == 1_000_000, (
        "without a rate there is no transmission time"
    )


@given(
    arrivals=st.lists(st.tuples(st.integers(0, 10**8), st.integers(40, 65_550)), min_size=1, max_size=50),
    jitter=st.floats(0, 10),
)
def test_packets_keep_their_order_and_the_rate_is_never_exceeded(
    arrivals: list[tuple[int, int]], jitter: float
) -> None:
    times = ReleaseTimes({SENDER: 100.0}, delay_ms=10.0, jitter_ms=jitter, seed=1)
    arrivals = sorted(arrivals)
    due = [times.due(Packet(i, arrived, size, SENDER)) for i, (arrived, size) in enumerate(arrivals)]
    assert due == sorted(due)
    if not jitter:
        for (arrived, size), time_of in zip(arrivals, due, strict=True):
            assert time_of >= arrived + 10_000_000 + size * 80 - 1
        total = sum(size for _, size in arrivals)
        assert due[-1] >= arrivals[0][0] + total * 80 + 10_000_000 - 1


def test_jitter_has_the_requested_spread() -> None:
    times = ReleaseTimes({}, delay_ms=20.0, jitter_ms=2.0, seed=3)
    gaps = [times.due(Packet(i, i * 10**9, 100, SENDER)) - i * 10**9 for i in range(2000)]
    mean = sum(gaps) / len(gaps)
    spread = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert abs(mean - 20e6) < 0.2e6
    assert abs(spread - 2e6) < 0.2e6


def message(*, stamp_age_s: float | None) -> bytes:
    """One packet as the kernel's queue reports it."""
    attributes = struct.pack("=HH", 11, 1) + struct.pack("!IHB", 7, 0x0800, 0) + b"\0"
    if stamp_age_s is not None:
        at = time.time() - stamp_age_s
        attributes += struct.pack("=HH", 20, 4) + struct.pack("!QQ", int(at), int(at % 1 * 1e6))
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 1234, 0, 0, 64, 6, 0, SENDER, OTHER)
    attributes += struct.pack("=HH", 24, 10) + header
    return struct.pack("=IHHII", 20 + len(attributes), 3 << 8, 0, 0, 0) + struct.pack("!BBH", 2, 0, 0) + attributes


def test_a_message_of_the_queue_is_read() -> None:
    packet = parse_packet(message(stamp_age_s=0.005))
    assert packet is not None
    assert (packet.number, packet.size, packet.source) == (7, 1234 + 14, SENDER)
    assert 4e6 < time.monotonic_ns() - packet.arrived_ns < 50e6, "its age is from the kernel's stamp"


def test_an_implausible_stamp_is_ignored() -> None:
    for age in (None, -3600.0, 3600.0):
        packet = parse_packet(message(stamp_age_s=age))
        assert packet is not None
        assert time.monotonic_ns() - packet.arrived_ns < 50e6
