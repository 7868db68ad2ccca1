"""SPU's log becomes typed statistics, block by block."""

from __future__ import annotations

import dataclasses

from spu_bench.party.spu_profile import parse_profiles

# two blocks as SPU 0.9.5 prints them (the second cut off), with lines of other origin between
LOG = """\
2026-01-01 00:00:00.000 [info] [thread_pool.cc:ThreadPool:30] Create a fixed thread pool with size 1
2026-01-01 00:00:00.001 [info] [api.cc:printProfilingData:163] [Profiling] SPU execution two_layer completed, input processing took 2.4e-06s, execution took 0.0123s, output processing took 8.1e-07s, total time 0.0123s.
2026-01-01 00:00:00.002 [info] [api.cc:printProfilingData:202] HLO profiling: total time 0.012
2026-01-01 00:00:00.002 [info] [api.cc:printProfilingData:205] - pphlo.maximum, executed 3 times, duration 0.0061s, send bytes 5500 recv bytes 5501, send actions 9, recv actions 10
2026-01-01 00:00:00.002 [info] [api.cc:printProfilingData:205] - pphlo.dot, executed 2 times, duration 5.1e-03s, send bytes 2452 recv bytes 2451, send actions 4, recv actions 3
2026-01-01 00:00:00.003 [info] [api.cc:printProfilingData:202] MPC profiling: total time 0.011
2026-01-01 00:00:00.003 [info] [api.cc:printProfilingData:205] - mmul_aa, executed 2 times, duration 0.001s, send bytes 7 recv bytes 8, send actions 1, recv actions 2
2026-01-01 00:00:00.004 [info] [api.cc:printProfilingData:217] Link details: total send bytes 7952, recv bytes 7953, send actions 13, recv actions 14
2026-01-01 00:00:01.001 [info] [api.cc:printProfilingData:163] [Profiling] SPU execution two_layer completed, input processing took 2.4e-06s, execution took 0.5s, output processing took 8.1e-07s, total time 0.5s.
2026-01-01 00:00:01.002 [info] [api.cc:printProfilingData:202] HLO profiling: total time 0.012
"""


def test_a_block_is_read_whole() -> None:
    """Operations with their layer, calls, seconds and traffic; the link's totals; the seconds of execution."""
    (profile,) = parse_profiles(LOG.splitlines())
    assert profile.execution_s == 0.0123
    assert [(o.layer, o.name, o.calls, o.seconds) for o in profile.operations] == [
        ("pphlo", "pphlo.maximum", 3, 0.0061),
        ("pphlo", "pphlo.dot", 2, 0.0051),
        ("mpc", "mmul_aa", 2, 0.001),
    ]
    largest = profile.operations[0]
    assert (largest.sent_bytes, largest.received_bytes) == (5500, 5501)
    assert (largest.sent_messages, largest.received_messages) == (9, 10)
    assert dataclasses.asdict(profile.link) == {
        "sent_bytes": 7952,
        "received_bytes": 7953,
        "sent_messages": 13,
        "received_messages": 14,
    }


def test_a_cut_block_is_no_profile() -> None:
    """What a dead party has printed last does not count."""
    assert parse_profiles(LOG.splitlines()[8:]) == []
    assert parse_profiles([]) == []


def test_the_statistics_do_not_overlap() -> None:
    """Operations of one layer add up to the link's totals, so that a share of the cost can be given to each."""
    (profile,) = parse_profiles(LOG.splitlines())
    operations = [o for o in profile.operations if o.layer == "pphlo"]
    assert sum(o.sent_bytes for o in operations) == profile.link.sent_bytes
    assert sum(o.sent_messages for o in operations) == profile.link.sent_messages
