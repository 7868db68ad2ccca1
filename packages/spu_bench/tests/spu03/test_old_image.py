"""The image of the paper environment, with a host that has no Python 3.8 at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from images import image_of_this_source

from spu_bench import load_program, run


def test_a_program_in_containers_alone(
    engine: Any, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image has what this host lacks: the runs, and the count of the traffic."""
    monkeypatch.setenv("SPU_BENCH_IMAGE", image_of_this_source(engine, "0.3.1b0"))
    monkeypatch.setenv("SPU_BENCH_RUNTIMES", str(tmp_path))
    record = run(load_program(small), runtime="0.3.1b0", executor="docker")
    assert record.accuracy is not None and record.accuracy.max_abs_error < 1e-3
    assert record.executor is not None and record.executor.name == "docker"
    assert [party.versions["spu"] for party in record.parties] == ["0.3.1b0"] * 2
    assert [party.traffic_counted_by for party in record.parties] == ["relay"] * 2
    assert record.sent_bytes[0] == record.traffic()[1].received_bytes > 8 * (16 + 16 * 32)
