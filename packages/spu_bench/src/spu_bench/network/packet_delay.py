"""The process that delays the packets that one party receives: it holds their verdicts in the netfilter queue.

`python -m spu_bench.network.packet_delay` runs in the party's network namespace until SIGTERM. It writes
a `ShaperCost` to a state file; the first version of that file says that it is ready.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import random
import select
import signal
import socket
import statistics
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from spu_bench.network.nfqueue import NetfilterQueue, Packet
from spu_bench.network.shaper_cost import ShaperCost
from spu_bench.network.shell import QUEUE_NUMBER

_REPORT_INTERVAL_NS = 500_000_000
_LEAD_STEP_NS = 20_000
_MOST_LEAD_NS = 1_000_000
_PR_SET_TIMERSLACK = 29


class ReleaseTimes:
    """When a packet is released: after earlier packets, its own transmission time, and the delay.

    One clock per sender charges size / rate, as netem does. The bucket of the sender's tbf passes a short message
    without limit; this charge makes up for it. Packets keep their order, also under jitter.
    """

    def __init__(self, rates_mbit: dict[bytes, float], delay_ms: float, jitter_ms: float, seed: int) -> None:
        self._ns_per_byte = {address: 8e3 / rate for address, rate in rates_mbit.items()}
        self._delay_ns, self._jitter_ns = delay_ms * 1e6, jitter_ms * 1e6
        self._random = random.Random(seed)
        self._wire_free: dict[bytes, float] = {}
        self._last = 0

    def due(self, packet: Packet) -> int:
        """Release time of a packet in ns of the monotonic clock, never before that of an earlier packet."""
        sent = max(float(packet.arrived_ns), self._wire_free.get(packet.source, 0.0))
        sent += packet.size * self._ns_per_byte.get(packet.source, 0.0)
        self._wire_free[packet.source] = sent
        delay = self._delay_ns
        if self._jitter_ns:
            delay = max(0.0, self._random.gauss(delay, self._jitter_ns))
        self._last = max(self._last, round(sent + delay))
        return self._last


class PacketDelay:
    """Holds packets and releases them on time.

    After each verdict it measures how late it was, and from then on starts earlier (`lead`). The lead moves by an
    eighth of each lateness, and by at most one step where the machine was busy and the lateness is far off.
    """

    def __init__(
        self,
        queue: NetfilterQueue,
        times: ReleaseTimes,
        loss_percent: float,
        state: Path,
        seed: int,
        parent: int | None = None,
    ) -> None:
        self._queue, self._times, self._state, self._parent = queue, times, state, parent
        self._loss, self._random = loss_percent / 100, random.Random(seed + 1)
        self._held: deque[tuple[int, int]] = deque()
        self._lead = 30_000
        self._late_us: deque[float] = deque(maxlen=2000)
        self._packets = self._dropped = 0
        self._priority = _take_priority()
        self._started_ns = self._window_ns = time.monotonic_ns()
        self._started_cpu_ns = self._window_cpu_ns = time.process_time_ns()
        self._peak_share = self._latest_us = 0.0

    def run(self) -> None:
        """Delay packets until the process gets a signal, or until `parent` ends where one was given."""
        next_report = 0
        while True:
            now = time.monotonic_ns()
            if now >= next_report:
                if self._parent is not None and os.getppid() != self._parent:
                    return
                self._report(now)
                next_report = now + _REPORT_INTERVAL_NS
            wake = next_report
            if self._held:
                self._release(now)
                if self._held:
                    wake = min(wake, self._held[0][0] - self._lead)
            timeout_s = max(0, wake - time.monotonic_ns()) / 1e9
            if select.select([self._queue.socket], [], [], timeout_s)[0]:
                self._take()

    def close(self) -> None:
        """Release all packets and write the last report."""
        if self._held:
            self._queue.accept_up_to(self._held[-1][1])
        self._report(time.monotonic_ns())

    def _take(self) -> None:
        for packet in self._queue.receive(64):
            self._packets += 1
            if self._loss and self._random.random() < self._loss:
                self._queue.drop(packet.number)
                self._dropped += 1
            else:
                self._held.append((self._times.due(packet), packet.number))

    def _release(self, now: int) -> None:
        first = self._held[0][0]
        last = -1
        while self._held and self._held[0][0] - self._lead <= now:
            last = self._held.popleft()[1]
        if last < 0:
            return
        self._queue.accept_up_to(last)
        late = time.monotonic_ns() - first
        self._late_us.append(late / 1e3)
        self._latest_us = max(self._latest_us, late / 1e3)
        step = min(max(-_LEAD_STEP_NS, late // 8), _LEAD_STEP_NS)
        self._lead = min(max(0, self._lead + step), _MOST_LEAD_NS)

    def _report(self, now: int) -> None:
        cpu = time.process_time_ns()
        if now - self._window_ns >= _REPORT_INTERVAL_NS:
            self._peak_share = max(self._peak_share, (cpu - self._window_cpu_ns) / (now - self._window_ns))
            self._window_ns, self._window_cpu_ns = now, cpu
        late = sorted(self._late_us)
        cost = ShaperCost(
            seconds=(now - self._started_ns) / 1e9,
            cpu_seconds=(cpu - self._started_cpu_ns) / 1e9,
            cpu_share_peak=self._peak_share,
            packets=self._packets,
            dropped=self._dropped,
            late_us_p50=statistics.median(late) if late else None,
            late_us_p99=late[int(len(late) * 0.99)] if late else None,
            late_us_max=self._latest_us,
            lead_us=self._lead / 1e3,
            priority=self._priority,
        )
        unfinished = self._state.with_suffix(".tmp")
        unfinished.write_text(cost.model_dump_json())
        unfinished.replace(self._state)


def _take_priority() -> str:
    """Ask the kernel for exact timers and the highest priority; return the priority that it grants."""
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        return "realtime"
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        return "nice -20"
    return "ordinary"


def _rate(text: str) -> tuple[bytes, float]:
    address, _, rate = text.partition("=")
    return socket.inet_aton(address), float(rate)


def main() -> None:
    """Parse the command line and delay packets."""
    parser = argparse.ArgumentParser(prog="python -m spu_bench.network.packet_delay", description=__doc__)
    parser.add_argument("--delay-ms", type=float, required=True, help="one-way delay")
    parser.add_argument("--jitter-ms", type=float, default=0.0, help="standard deviation of the delay")
    parser.add_argument("--loss-percent", type=float, default=0.0, help="share of packets to lose")
    parser.add_argument("--rate", type=_rate, action="append", default=[], help="ADDRESS=MBIT: rate of a sender")
    parser.add_argument("--state", type=Path, required=True, help="JSON file for the report")
    parser.add_argument("--seed", type=int, default=0, help="seed of jitter and loss")
    parser.add_argument("--end-with-parent", action="store_true", help="end when the parent process ends")
    given = parser.parse_args()
    queue = NetfilterQueue(QUEUE_NUMBER, length=2**17)
    times = ReleaseTimes(dict(given.rate), given.delay_ms, given.jitter_ms, given.seed)
    parent = os.getppid() if given.end_with_parent else None
    delay = PacketDelay(queue, times, given.loss_percent, given.state, given.seed, parent)
    for end in (signal.SIGTERM, signal.SIGINT):
        signal.signal(end, lambda *_: sys.exit(0))
    gc.freeze()
    gc.disable()
    try:
        delay.run()
    finally:
        delay.close()


if __name__ == "__main__":
    main()
