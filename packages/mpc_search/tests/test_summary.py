"""Means, contrasts and correlations of records with known answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import config, mpc_search

from mpc_search import SearchError
from mpc_search.provenance import Code, Machine
from mpc_search.record import Score, TrainingRecord
from mpc_search.summary import alpha_correlations, contrast, contrasts, load_records, seed_summaries

MACHINE = Machine(cpu="", cores=1, memory_bytes=1, kernel="", system="", load_1min=0.0, devices=[])


def record(name: str, seed: int, accuracy: float, alpha: list[list[float]] | None = None) -> TrainingRecord:
    return TrainingRecord(
        experiment="e",
        name=f"{name}-s{seed}",
        stage="retrain" if alpha is None else "search",
        status="ok",
        config=config(),
        seed=seed,
        data=[],
        test=Score(images=100, accuracy=accuracy, loss=1.0, classes=[], confusion=[]),
        alpha=alpha,
        machine=MACHINE,
        versions={},
        code=Code(source=""),
        started_at="",
    )


RECORDS = [
    *(record("relu_softmax", seed, 0.8 + 0.01 * seed) for seed in range(3)),
    *(record("scale", seed, 0.7 + 0.02 * seed) for seed in range(2)),
    record("mpcvit-0.5-none", 0, 0.75),
    record("mpcvit-0.5-both", 0, 0.78),
    record("random-0.5", 0, 0.76),
    record("search-1e-05", 0, 0.7, [[1.0, 2.0], [3.0, 4.0]]),
    record("search-0.001", 0, 0.7, [[10.0, 20.0], [40.0, 30.0]]),
    record("search-layer", 0, 0.7, [[1.0], [2.0]]),
    record("search-flat", 0, 0.7, [[1.0, 1.0], [1.0, 1.0]]),
]


def test_means_and_contrasts() -> None:
    """Means and deviations over seeds, and differences for the seeds that both have; other contrasts are left out."""
    known = seed_summaries(RECORDS)
    assert known["relu_softmax"].mean == pytest.approx(0.81) and known["relu_softmax"].deviation == pytest.approx(0.01)
    found = {(c.better, c.worse): c for c in contrasts(known)}
    assert found["relu_softmax", "scale"].differences == pytest.approx((0.1, 0.09))
    assert found["mpcvit-0.5-both", "mpcvit-0.5-none"].mean == pytest.approx(0.03)
    assert found["mpcvit-0.5-none", "random-0.5"].mean == pytest.approx(-0.01)
    assert len(found) == 3 and contrast(known, "teacher", "scale") is None


def test_alpha_correlations() -> None:
    """One swapped pair of four gives 0.8. Searches of other shapes or with equal alphas are left out."""
    assert alpha_correlations(RECORDS) == {("search-0.001-s0", "search-1e-05-s0"): pytest.approx(0.8)}


def test_command(tmp_path: Path) -> None:
    """It reads files. Failed runs do not count, and a folder without records is refused."""
    with pytest.raises(SearchError, match="no training records"):
        load_records(tmp_path)
    for one in RECORDS:
        one.save(tmp_path / f"{one.name}.training.json")
    failed = RECORDS[0].model_copy(update={"status": "failed", "name": "broken-s0"})
    failed.save(tmp_path / "broken-s0.training.json")
    done = mpc_search("summary", str(tmp_path))
    assert done.returncode == 0 and "relu_softmax - scale: +9.50" in done.stdout and "broken" not in done.stdout
