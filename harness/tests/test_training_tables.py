"""Tables of trainings, on stored records with chosen numbers."""

from __future__ import annotations

from pathlib import Path

from experiment_files import ANY_RECORD, PutRecord, PutTraining

from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.tables import Context, make_table
from spu_bench.record import TrainingOrigin


def test_seconds_stand_beside_the_accuracy_of_the_same_weights(
    tmp_path: Path, put: PutRecord, put_training: PutTraining
) -> None:
    """Over seeds that were measured; a model trained again since, under the same name, is another one.

    Two rules that come to the same plan train the same weights, and keep their names.
    """
    program = CellRecord.load(ANY_RECORD).program
    assert program is not None

    def measured(run: str, seed: int, seconds: float, heads: str = "batched", of: str | None = None) -> None:
        training = TrainingOrigin(fingerprint=of or f"{run}-{seed}", test_accuracy=0.9, test_images=10)
        made = program.model_copy(update={"training": training})
        labels = {"run": f"{run}-s{seed}", "form": heads}
        put("budgets", f"{heads}-{run}-s{seed}", seconds, program=made, labels=labels)

    for run, seed, percent in (("slow", 0, 80.0), ("slow", 1, 82.0), ("slow", 2, 50.0), ("fast", 0, 70.0)):
        put_training("sweep", run, seed, percent, fingerprint=f"{run}-{seed}")
    put_training("sweep", "same", 0, 70.0, fingerprint="fast-0")
    measured("slow", 0, 3.0)
    measured("slow", 1, 5.0)
    measured("slow", 2, 9.0, of="an earlier training")
    measured("fast", 0, 2.0)
    measured("same", 0, 2.5, of="fast-0")
    measured("fast", 0, 8.0, heads="per_head")

    found = make_table("budgets", Context.load(tmp_path, tmp_path / "results"))
    rows = [[entry.text for entry in row] for row in found.rows]
    assert [row[:4] for row in rows] == [
        ["batched", "fast", "2.00", "70.00"],
        ["batched", "same", "2.50", "70.00"],
        ["batched", "slow", "4.00 ± 1.41", "81.00 ± 1.41"],
        ["per head", "fast", "8.00", "70.00"],
    ]
    paths = [href.path for href in found.rows[2][-1].hrefs]
    assert [path.split("/")[2] for path in paths] == ["budgets", "sweep"] * 2
