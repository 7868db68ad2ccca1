"""Tables made from the records of trainings: accuracy over seeds, run by run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mpc_search.record import TrainingRecord
from mpc_search.summary import points
from mpcvit_harness.measured import CLASSIFIERS, Trained
from mpcvit_harness.tables import markdown


def accuracies(sweep: str) -> Callable[[Sequence[Trained], Path], str]:
    """A table of the trained models of `sweep`, the most accurate first, with every seed's record."""

    def table(trainings: Sequence[Trained], page: Path) -> str:
        of = [t for t in trainings if t.record.experiment == sweep and t.record.stage in CLASSIFIERS]
        rows = []
        for point in sorted(points(t.record for t in of).values(), key=lambda point: -point.mean):
            mine = sorted(
                (t for t in of if t.record.name == f"{point.name}-s{t.record.seed}"), key=lambda t: t.record.seed
            )
            rows.append(
                (
                    f"`{point.name}`",
                    f"{100 * point.mean:.2f}" + (f" ± {100 * point.deviation:.2f}" if len(mine) > 1 else ""),
                    ", ".join(dict.fromkeys(_heads(t.record) for t in mine)),
                    ", ".join(t.link(page, f"{100 * point.accuracies[t.record.seed]:.2f}") for t in mine),
                )
            )
        head = ("run", "test accuracy, %: mean ± s.d.", "ReLU-Softmax heads of each layer", "seeds")
        return markdown(head, rows)

    return table


def _heads(record: TrainingRecord) -> str:
    """How many heads of each layer the plan has on; what it is instead where the plan is of something else."""
    if record.plan is None or record.plan.get("attention") is None:
        return str(record.model["attention"])
    layers = record.plan["attention"]
    if layers[0]["level"] != "head":
        return f"by {layers[0]['level']}s"
    return " ".join(str(sum(layer["on"])) for layer in layers)


TABLES = {
    "accuracies": accuracies("reduced_fashion_mnist"),
    "accuracies_of_rates": accuracies("reduced_rates"),
    "accuracies_of_variants": accuracies("reduced_variants"),
}
