"""Private inferences over shaped networks, in namespaces and in containers, with two and three parties."""

from __future__ import annotations

from pathlib import Path

import pytest
from cells import ATTEMPTS
from requirements_of_tests import lacks_commands, lacks_root, require

from spu_bench import RunFailed, RunRecord, load_program, run


def run_until_valid(program: Path, **asked: str) -> RunRecord:
    """A run over a valid network, with several attempts on a busy machine."""
    for attempt in range(ATTEMPTS):
        try:
            return run(load_program(program), repeats=2, warmup=1, timeout_s=120, **asked)  # type: ignore[arg-type]
        except RunFailed as error:
            if error.reason != "link" or attempt == ATTEMPTS - 1:
                raise
    raise AssertionError


@pytest.mark.parametrize("executor", ["netns", "docker"])
@pytest.mark.parametrize(("protocol", "network", "parties"), [("semi2k", "wan", 2), ("aby3", "lan", 3)])
def test_a_private_inference_over_a_probed_network(
    small: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    executor: str,
    protocol: str,
    network: str,
    parties: int,
) -> None:
    """The logits are those in plaintext, the network was probed before and after, and rounds take their time."""
    if executor == "docker":
        monkeypatch.setenv("SPU_BENCH_IMAGE", request.getfixturevalue("image"))
    else:
        require(lacks_commands("ip", "tc", "iptables") or lacks_root())
    record = run_until_valid(small, protocol=protocol, network=network, executor=executor)
    assert len(record.parties) == parties
    assert record.accuracy is not None and record.accuracy.max_abs_error < 1e-3
    pairs = parties * (parties - 1) // 2
    assert len(record.link_before) == len(record.link_after) == pairs
    assert record.executor is not None and record.executor.name == executor
    assert record.executor.shaper in ("netem", "nfqueue")
    if protocol == "semi2k":
        assert min(record.samples_s) > 0.9 * record.rounds * record.request.network.one_way_ms / 1e3
