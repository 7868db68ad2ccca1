"""Statistics of measured seconds: order statistics, and the bootstrap interval of a median."""

from __future__ import annotations

import statistics

import numpy as np

from spu_bench.strict import Strict

RESAMPLES = 4999
"""Draws of the bootstrap."""

LEAST_SAMPLES = 6
"""With fewer samples not even their whole range contains the true median in 95 % of cases."""


class SampleStatistics(Strict):
    """Seconds of the measured inferences: order statistics, and a 95 % interval of the median from the bootstrap.

    The interval is None below LEAST_SAMPLES: `low` and `high` are all that so few samples say.
    """

    n: int
    median: float
    q1: float
    q3: float
    low: float
    high: float
    interval_95: tuple[float, float] | None


def summarize(samples_s: list[float]) -> SampleStatistics:
    """The statistics of one sample or more; the same samples always give the same statistics."""
    ordered = sorted(samples_s)
    n = len(ordered)
    quarters = statistics.quantiles(ordered, n=4, method="inclusive") if n > 1 else ordered * 3
    return SampleStatistics(
        n=n,
        median=statistics.median(ordered),
        q1=quarters[0],
        q3=quarters[2],
        low=ordered[0],
        high=ordered[-1],
        interval_95=median_interval(ordered) if n >= LEAST_SAMPLES else None,
    )


def median_interval(samples_s: list[float]) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the median (Efron and Tibshirani 1993, section 13.3)."""
    low, high = np.quantile(resampled_medians(samples_s), (0.025, 0.975), method="inverted_cdf")
    return float(low), float(high)


def resampled_medians(samples_s: list[float], seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Medians of RESAMPLES draws with replacement, each as large as the sample."""
    values = np.asarray(samples_s, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    medians: np.ndarray[tuple[int], np.dtype[np.float64]] = np.median(values[draws], axis=1)
    return medians
