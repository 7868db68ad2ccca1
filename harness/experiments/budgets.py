"""Accuracy against measured seconds: the paper's budget rule, budgets by seconds, and heads in one batch or not.

The paper keeps the best share mu of all heads, which is a budget of seconds too while heads run one after another. With
the heads of a layer in one batch, the first ReLU-Softmax head costs as much as all of them, and a plan by seconds takes
whole layers. `seconds-MU` are trained with the best plan for the predicted seconds of `mpcvit-MU-none`. Both are
measured with their trained weights on the tuned kernels (`batched`), and those of the paper's rule with heads one after
another too (`per_head`, plain SPU 0.9.5). The models are the small ones of `mpc-search sweep budgets`; their
checkpoints are required.

Expected: equal seconds for both rules, for a plan with at least as many heads. 12 trainings of 2 minutes each beyond
`accuracy_main`; then 20 minutes on an idle machine.
    mpc-search sweep budgets --get-data
    pytest harness/experiments/budgets.py --executor netns --scale reduced --results results
"""

from __future__ import annotations

from mpc_search.record import TrainingRecord
from mpcvit_harness.cells import AnyCell, Cell, ModelSpec
from mpcvit_harness.open_models import cifar, smoke
from mpcvit_harness.trainings import trainings
from spu_bench import RunRecord

MU = ("0.1", "0.3", "0.5", "0.7")
UNIFORM = ("teacher", "relu_softmax", "scale")
BY_SHARE, BY_SECONDS = tuple(f"mpcvit-{mu}-none" for mu in MU), tuple(f"seconds-{mu}" for mu in MU)
RUNS = {
    "batched": ("tuned_fxp", [f"{run}-s{seed}" for seed in range(3) for run in (*BY_SHARE, *BY_SECONDS)]),
    "per_head": ("paper", [f"{run}-s0" for run in BY_SHARE]),
}


def trained(run: str, kernels: str) -> ModelSpec:
    """The model that a run of the sweep has trained."""
    return ModelSpec(config="vit_4_4_28", weights=f"sweep:reduced_fashion_mnist/{run}", kernels=kernels)


CELLS: list[AnyCell] = [
    smoke("budgets", "random", cifar("mix")),
    *trainings("budgets", "budgets", "reduced", "seconds-*"),
    *(
        Cell(
            experiment="budgets",
            name=f"{heads}-{run}",
            model=trained(run, kernels),
            labels={"run": run, "kernels": kernels, "form": heads},
            network="wan",
            repeats=3,
            scale="reduced",
            timeout_s=900,
        )
        for heads, (kernels, runs) in RUNS.items()
        for run in (*(f"{each}-s0" for each in UNIFORM), *runs)
    ),
]


def test_it_is_what_it_says(cell: AnyCell, record: RunRecord | TrainingRecord) -> None:
    """A plan by seconds stays under its limit; under MPC the logits are those of plaintext."""
    if isinstance(record, TrainingRecord):
        budget = record.budget
        assert budget is not None and budget.rule == "seconds"
        assert budget.predicted_seconds is not None and budget.limit is not None
        assert budget.predicted_seconds <= budget.limit
    else:
        assert record.accuracy is not None and record.accuracy.clear_equal == record.accuracy.clear
