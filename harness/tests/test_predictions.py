"""The table of predictions follows from records that keep one, and from nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiment_files import cells_of

from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import Cell, ModelSpec
from mpcvit_harness.stored import StoredRun
from mpcvit_harness.tables import Context, make_table
from mpcvit_harness.tables.predicted_latency import predicted_cells
from spu_bench import Network, Prediction, RunRecord
from spu_bench.cost import PROFILE_NETWORK
from spu_bench.network import NETWORKS
from spu_bench.provenance import CodeVersion, machine
from spu_bench.record import Request
from spu_bench.samples import summarize

LINK = Network(name="link", rate_mbit=80.0, rtt_ms=20.0)


def measured(name: str, seconds: float, predicted: float | None) -> StoredRun:
    cell = Cell(experiment="prediction", name=name, model=ModelSpec(config="vit_4_4_28"), network=LINK)
    asked = {"protocol": "semi2k", "network": LINK, "executor": "netns", "runtime": "0.9.5", "options": {}}
    request = Request.model_validate({**asked, "repeats": 1, "warmup": 1, "timeout_s": 1.0})
    record = RunRecord(
        status="ok",
        request=request,
        statistics=summarize([seconds]),
        started_at="",
        duration_s=0,
        machine=machine(),
        code=CodeVersion(source=""),
    )
    if predicted is not None:
        parts = {"seconds": predicted, "compute_s": 1.0, "floor_s": predicted - 1.0, "wake_s": 0.0, "waited": 1.0}
        counts = {"turns": 1, "sent_bytes": (1, 1), "sent_messages": (1, 1), "operations": []}
        named = {"program": name, "fingerprint": "", "protocol": "semi2k", "network": LINK}
        record.prediction = Prediction.model_validate({**named, **parts, **counts})
    return StoredRun(CellRecord.of(cell, record), Path("results") / "here" / "prediction" / f"{name}.json")


def test_cells() -> None:
    """At least thirty cells: both protocols on five networks that are neither presets nor PROFILE_NETWORK."""
    cells = [cell for cell in cells_of("prediction") if cell.scale == "reduced"]
    networks = {cell.network for cell in cells if isinstance(cell.network, Network)}
    assert len(cells) >= 30 and len(networks) == 5
    assert {(cell.protocol, cell.network_name) for cell in cells} == {
        (protocol, network.name) for protocol in ("semi2k", "cheetah") for network in networks
    }
    known = {(network.rate_mbit, network.rtt_ms) for network in (PROFILE_NETWORK, *NETWORKS.values())}
    assert not known & {(network.rate_mbit, network.rtt_ms) for network in networks}


def test_errors() -> None:
    """A row per cell with its error; below, the errors' median and largest of each protocol; others are left out."""
    found = [measured("near", 10.0, 10.1), measured("far", 10.0, 9.0), measured("unasked", 10.0, None)]
    assert [cell.error for cell in predicted_cells(found)] == pytest.approx([0.01, -0.1])
    near, far, *note = make_table("predictions", Context(found)).markdown(Path("docs/cost-model.md")).splitlines()[2:]
    assert "| 10.10 | 10.00 | +1.0% | [record](../results/here/prediction/near.json) |" in near and "-10.0%" in far
    assert note[-1] == "Errors without their sign. semi2k, 2 cells: median 5.5%, largest 10.0%."
