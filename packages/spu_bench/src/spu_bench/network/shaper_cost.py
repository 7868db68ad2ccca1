"""What shaping costs, as the process that does it reports it."""

from __future__ import annotations

from typing import Literal

from spu_bench.strict import Strict

ShaperName = Literal["none", "netem", "nfqueue"]
"""The ways to shape a link; none where nothing is shaped."""


class ShaperCost(Strict):
    """What the process that delays packets at one party reports of itself.

    `cpu_share_peak` is the share of a core in the busiest half second. `late_us_*` say how late packets were released
    (median, 99th percentile and largest, in microseconds; None where no packet came), `lead_us` how early the process
    starts to release. `priority` is the scheduling priority that the kernel granted.
    """

    seconds: float
    cpu_seconds: float
    cpu_share_peak: float
    packets: int
    dropped: int
    late_us_p50: float | None
    late_us_p99: float | None
    late_us_max: float
    lead_us: float
    priority: str
