"""The watch of the machine while the parties run: other load, clock frequency, swap, stolen time.

Counters are read at the start and at the end, and only the frequency in between: watching costs next to nothing.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Literal, NamedTuple, Self

import psutil
from pydantic import Field

from spu_bench.strict import Strict

INTERVAL_S = 1.0
"""Seconds between two readings of the frequency."""

OTHER_CORES = 0.10
"""Cores that other processes keep busy; above each of these limits the record gets a remark (docs/method.md)."""

FREQUENCY_DROP = 0.10
"""Share of its frequency that the processor lost."""

STEAL_SHARE = 0.01
"""Share of the time that the hypervisor took."""

SWAP_BYTES = 2**20
"""Bytes of swap that came into use."""


class Remark(Strict):
    """Why a latency may not be the best of this machine: the kind of disturbance, and what was seen."""

    kind: Literal["other_load", "frequency", "steal", "swap"]
    text: str


class Frequency(Strict):
    """Mean frequency of the cores in MHz: the lowest, the average and the highest sample."""

    low: float
    mean: float
    high: float


class MachineWatch(Strict):
    """What was seen of the machine during `seconds`, from the start of the parties to their end.

    `other_cores` is the mean number of this process's cores that other processes kept busy, without interrupts;
    `own_cores` the number that the run kept busy. `steal_share` is the share of these cores' time that a hypervisor
    gave to others. Swapped bytes are those of the whole machine. `frequency_mhz` is None where the machine does not
    report it. `watching_cpu_s` is the CPU time that the watch took.
    """

    seconds: float
    own_cores: float
    other_cores: float
    steal_share: float
    swap_in_bytes: int
    swap_out_bytes: int
    frequency_mhz: Frequency | None
    watching_cpu_s: float
    remarks: list[Remark] = Field(default_factory=list)


class _Counters(NamedTuple):
    at: float
    busy_s: float
    steal_s: float
    own_s: float
    swap_in: int
    swap_out: int


class Watch:
    """A context in which the machine is watched; `report` returns afterwards what was seen."""

    def __enter__(self) -> Self:
        self._frequencies: list[float] = []
        self._cpu_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._cores = sorted(os.sched_getaffinity(0))
        self._before = _counters(self._cores)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._after = _counters(self._cores)
        self._stop.set()
        self._thread.join()

    def report(self, elsewhere_s: float = 0.0) -> MachineWatch:
        """What was seen. `elsewhere_s` is the CPU time of the run's processes that are not children of this one."""
        before, after = self._before, self._after
        seconds = after.at - before.at
        own_s = after.own_s - before.own_s + elsewhere_s
        seen = self._frequencies
        watch = MachineWatch(
            seconds=seconds,
            own_cores=own_s / seconds,
            other_cores=max(0.0, after.busy_s - before.busy_s - own_s) / seconds,
            steal_share=(after.steal_s - before.steal_s) / (seconds * len(self._cores)),
            swap_in_bytes=after.swap_in - before.swap_in,
            swap_out_bytes=after.swap_out - before.swap_out,
            frequency_mhz=Frequency(low=min(seen), mean=sum(seen) / len(seen), high=max(seen)) if seen else None,
            watching_cpu_s=self._cpu_s,
        )
        watch.remarks = remarks(watch)
        return watch

    def _sample(self) -> None:
        while True:
            frequency = psutil.cpu_freq()
            if frequency is not None and frequency.current:
                self._frequencies.append(frequency.current)
            self._cpu_s = time.thread_time()
            if self._stop.wait(INTERVAL_S):
                return


def remarks(watch: MachineWatch) -> list[Remark]:
    """What of `watch` may have disturbed a latency."""
    found = []
    if watch.other_cores > OTHER_CORES:
        found.append(Remark(kind="other_load", text=f"other processes kept {watch.other_cores:.2f} cores busy"))
    frequency = watch.frequency_mhz
    if frequency is not None and frequency.low < frequency.high * (1 - FREQUENCY_DROP):
        text = f"the cores' frequency went from {frequency.high:.0f} down to {frequency.low:.0f} MHz"
        found.append(Remark(kind="frequency", text=text))
    if watch.steal_share > STEAL_SHARE:
        found.append(Remark(kind="steal", text=f"the hypervisor took {watch.steal_share:.1%} of the cores' time"))
    if watch.swap_in_bytes + watch.swap_out_bytes > SWAP_BYTES:
        moved = f"{watch.swap_in_bytes / 2**20:.0f} MiB in and {watch.swap_out_bytes / 2**20:.0f} MiB out"
        found.append(Remark(kind="swap", text=f"the machine swapped {moved}"))
    return found


def _counters(cores: list[int]) -> _Counters:
    times = psutil.cpu_times(percpu=True)
    own = [times[core] for core in cores]
    swap = psutil.swap_memory()
    return _Counters(
        at=time.perf_counter(),
        busy_s=sum(each.user + each.nice + each.system for each in own),
        steal_s=sum(each.steal for each in own),
        own_s=_own_s(),
        swap_in=swap.sin,
        swap_out=swap.sout,
    )


def _own_s() -> float:
    """CPU time of this process and of all its descendants, ended ones included."""
    total = sum(os.times()[:4])
    for child in psutil.Process().children(recursive=True):
        try:
            total += sum(child.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total
