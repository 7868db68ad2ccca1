"""The trainer learns, resumes bit for bit after a kill, and stops when its loss is not finite."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from conftest import MIX, SEARCH, SOFTMAX, TINY, config, job, stripes

from mpc_search import CheckpointOrigin, SearchError, accuracy, load_checkpoint, plaintext_logits, save_checkpoint
from mpc_search.budgets import searched_values
from mpc_search.cost_table import CostTable
from mpc_search.metrics import EvaluationLine, read_metrics
from mpc_search.optim import make_optimizer, rate_schedule
from mpc_search.step import STEP_METRICS, StepFunctions, Teacher
from mpc_search.trainer import TrainingJob, fit, run_directory
from vit_models import Model, flatten, init


def flat(params: dict[str, Any]) -> np.ndarray:
    return np.concatenate([np.asarray(value).ravel() for value in flatten(params).values()])


def test_it_learns() -> None:
    """On images that it has not seen; the listener is called."""
    heard: list[tuple[int, int]] = []
    result = fit(
        job(count=512, train={"epochs": 6}), on_progress=lambda step, of, loss, speed: heard.append((step, of))
    )
    unseen = stripes(256, 2)
    assert accuracy(plaintext_logits(MIX, result.params, unseen.images, batch=100), unseen.labels) > 0.9
    assert result.evaluations[-1].accuracy > 0.9 and len(result.evaluations) == 6
    assert heard[-1] == (96, 96) and result.steps == 96


def test_results_do_not_change() -> None:
    """The losses on the held-out images, with the newest JAX, are those of earlier versions of this package."""
    augment = {"flip": 0.5, "mixup": 0.8, "cutmix": 1.0, "crop_scale": (0.8, 1.0)}
    teacher = Teacher(SOFTMAX, fit(job(SOFTMAX)).params)
    runs = {
        "retrain": job(),
        "search": job(SEARCH, augment=augment, search={"weight": 1e-3}),
        "distill": job(teacher=teacher, distill={"kind": "both"}),
    }
    found = {name: [one.loss for one in fit(run).evaluations] for name, run in runs.items()}
    assert found == {
        "retrain": pytest.approx([0.7237638235, 0.7172330618], rel=1e-5),
        "search": pytest.approx([0.7239567638, 0.7173377275], rel=1e-5),
        "distill": pytest.approx([0.7291316986, 0.7286902666], rel=1e-5),
    }


def test_the_same_seed_gives_the_same_model() -> None:
    """Another seed gives another model."""
    first, same, other = (flat(fit(job(train={"seed": seed})).params) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, same)
    assert not np.allclose(first, other)


KINDS: dict[str, dict[str, Any]] = {
    "search": {"model": SEARCH, "augment": {"flip": 0.5, "mixup": 0.8, "cutmix": 1.0, "crop_scale": (0.8, 1.0)}},
    "best": {"train": {"keep": "best", "epochs": 4}},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_stopped_run_resumes_exactly(tmp_path: Path, kind: str) -> None:
    """Stopped within an epoch: parameters, evaluations and metrics are the same bit for bit."""
    whole = fit(job(**KINDS[kind]), tmp_path / "whole")
    fit(job(**KINDS[kind]), tmp_path / "parts", stop_after=6)
    parts = fit(job(**KINDS[kind]), tmp_path / "parts")
    np.testing.assert_array_equal(flat(whole.params), flat(parts.params))
    assert whole.evaluations == parts.evaluations
    lines = [read_metrics(run_directory(tmp_path / name) / "metrics.jsonl") for name in ("whole", "parts")]
    for one, other in zip(*lines, strict=True):
        assert one.model_dump(exclude={"images_per_s"}) == other.model_dump(exclude={"images_per_s"})
    second = fit(job(**KINDS[kind]), tmp_path / "whole")
    np.testing.assert_array_equal(flat(whole.params), flat(second.params))


CHILD = """
import sys; sys.path.insert(0, {tests!r})
from pathlib import Path
from conftest import job
from mpc_search.trainer import fit
fit(job(count=1024, train={{"epochs": 12, "log_every": 8}}), Path({out!r}))
"""


def test_a_killed_process_resumes(tmp_path: Path) -> None:
    """SIGKILL at any moment after the first saved state: the result is that of a run that was not killed."""
    same = {"count": 1024, "train": {"epochs": 12, "log_every": 8}}
    code = CHILD.format(tests=str(Path(__file__).parent), out=str(tmp_path / "killed"))
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    state = run_directory(tmp_path / "killed") / "state"
    until = time.monotonic() + 300
    while not (state.is_dir() and any(path.name.isdecimal() for path in state.iterdir())):
        assert child.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    killed, whole = fit(job(**same), tmp_path / "killed"), fit(job(**same))
    np.testing.assert_array_equal(flat(killed.params), flat(whole.params))
    assert killed.evaluations == whole.evaluations


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    """With other settings, images or plans; the saved state stays."""
    fit(job(), tmp_path / "run", stop_after=4)
    for other in (job(train={"seed": 1}), job(count=130), job(model=SOFTMAX)):
        with pytest.raises(SearchError, match="--force"):
            fit(other, tmp_path / "run")
    assert fit(job(), tmp_path / "run").steps == 8


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    """The error has the step and the last saved state, which stays."""
    broken = job(train={"epochs": 4, "learning_rate": 1e38, "warmup": 1.5, "warmup_rate": 1e-3, "schedule": "epoch"})
    with pytest.raises(SearchError, match="is not finite at step") as caught:
        fit(broken, tmp_path / "run")
    step = int(str(caught.value).split("at step ")[1].split()[0])
    assert (
        str(run_directory(tmp_path / "run") / "state" / "4") in str(caught.value)
        and (run_directory(tmp_path / "run") / "state" / "4").is_dir()
    )
    # one step before, everything is still finite
    before = fit(broken, stop_after=step - 1)
    assert before.steps == step - 1


def test_accumulation_gives_the_same_step() -> None:
    """Without dropout, the parameters are the same up to rounding."""
    plain = {"epochs": 1, "regularize": False, "learning_rate": 1e-3}
    one, four = (flat(fit(job(train={**plain, "accumulate": n})).params) for n in (1, 4))
    np.testing.assert_allclose(one, four, atol=2e-4)
    with pytest.raises(SearchError, match="does not divide into 5 parts"):
        fit(job(train={"accumulate": 5}))


def test_bfloat16() -> None:
    """The loss changes a little, and parameters stay float32."""
    results = [fit(job(train={"epochs": 2, "precision": p})) for p in ("float32", "bfloat16")]
    assert abs(results[0].evaluations[-1].loss - results[1].evaluations[-1].loss) < 0.1
    assert {np.asarray(leaf).dtype for leaf in jax.tree.leaves(results[1].params)} == {np.dtype(np.float32)}


MANY = """
import json, sys; sys.path.insert(0, {tests!r})
import jax
from mpc_search.cli.train_stage import join_processes
if {count} > 1:
    join_processes("127.0.0.1:{port}/{number}/{count}")
import numpy as np
from conftest import SEARCH, job
from mpc_search.trainer import fit
augment = {{"flip": 0.5, "mixup": 0.8, "cutmix": 1.0, "erase": 0.25}}
result = fit(job(model=SEARCH, augment=augment, train={{"epochs": 1, "accumulate": 2}}))
print(json.dumps([jax.device_count(), [one.model_dump() for one in result.evaluations]]))
"""


def start(count: int, number: int, devices: int, port: int) -> subprocess.Popen[str]:
    import os

    code = MANY.format(tests=str(Path(__file__).parent), count=count, number=number, port=port)
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_devices_and_processes_do_not_change_losses() -> None:
    """One device, two devices of one process, two processes of one device: the same losses, alphas and accuracies."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    groups = [[start(1, 0, 1, port)], [start(1, 0, 2, port)], [start(2, n, 1, port) for n in (0, 1)]]
    found = []
    for group in groups:
        outputs = [process.communicate(timeout=300) for process in group]
        assert all(process.returncode == 0 for process in group), outputs
        found.append(json.loads(outputs[0][0].splitlines()[-1]))
    assert [devices for devices, _ in found] == [1, 2, 2]
    for _, evaluations in found[1:]:
        assert evaluations[0]["accuracy"] == found[0][1][0]["accuracy"]
        np.testing.assert_allclose(evaluations[0]["loss"], found[0][1][0]["loss"], rtol=1e-4)
        np.testing.assert_allclose(evaluations[0]["alpha"], found[0][1][0]["alpha"], rtol=1e-4)


# -- search and distillation --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "units"), [("layer", 1), ("head", 2), ("row", 5)])
def test_search_levels(level: str, units: int, tmp_path: Path) -> None:
    """Alphas of every level move from their start at 1, and every evaluation records them."""
    result = fit(job(SEARCH, search={"level": level, "weight": 1.0}), tmp_path / "search")
    history = [np.asarray(one.alpha) for one in result.evaluations]
    assert [alpha.shape for alpha in history] == [(2, units)] * 2
    assert history[0].max() < 1.0 and history[1].mean() < history[0].mean()
    np.testing.assert_array_equal(history[1], searched_values(result.params))
    lines = [
        line
        for line in read_metrics(run_directory(tmp_path / "search") / "metrics.jsonl")
        if isinstance(line, EvaluationLine)
    ]
    np.testing.assert_array_equal(lines[-1].alpha, history[1])


def test_beta_search() -> None:
    """MPCViT+: betas of tokens and layers are searched with alpha, with their own weight."""
    for level, units in (("token", 5), ("layer", 1)):
        result = fit(job(SEARCH, search={"gelu_level": level, "gelu_weight": 1.0}))
        beta = np.asarray(result.evaluations[-1].beta)
        assert beta.shape == (2, units) and beta.max() < 1.0


def test_clamping() -> None:
    """A strong penalty makes alphas negative, unless they are clamped."""
    strong = {"weight": 50.0, "decay": False, "penalty": "cost"}
    costs = CostTable(protocol="semi2k", network="wan", kernels="plain", layers=((0.0, 1.0, 2.0),) * 2)
    runs = [
        fit(job(SEARCH, costs=costs, search={**strong, "clamp": clamp}, train={"epochs": 6, "learning_rate": 0.2}))
        for clamp in (False, True)
    ]
    free, cut = (np.asarray(run.evaluations[-1].alpha) for run in runs)
    assert free.min() < 0.0 and cut.min() == 0.0 and cut.max() <= 1.0


def test_costs_decide_between_layers() -> None:
    """With a cost penalty, alphas of an expensive layer fall below those of a cheap one, also when costs are steps."""
    costs = CostTable(protocol="semi2k", network="wan", kernels="plain", layers=((0.0, 9.0, 9.0), (0.0, 1e-4, 1e-4)))
    for penalty in ("cost", "expected_cost"):
        made = job(
            SEARCH, costs=costs, search={"penalty": penalty, "weight": 1.0, "start": 0.5}, train={"learning_rate": 0.02}
        )
        alpha = np.asarray(fit(made).evaluations[-1].alpha)
        assert alpha[0].mean() < alpha[1].mean()
    with pytest.raises(SearchError, match="--costs"):
        job(SEARCH, search={"penalty": "cost"})


@pytest.mark.parametrize("kind", ["logits", "tokens", "both"])
def test_distillation(kind: str) -> None:
    """Only the chosen parts are in the loss, and the student gets closer to its teacher."""
    teacher = Teacher(SOFTMAX, fit(job(SOFTMAX, train={"epochs": 4})).params)
    made = job(teacher=teacher, distill={"kind": kind}, train={"regularize": False})
    steps = StepFunctions(made.model, made.data, made.config, 4, teacher, None)
    state, reports = steps.start(made.parameters()), []
    for _ in range(8):
        batch = {"images": made.data.pixels[np.arange(32)], "labels": made.data.labels[:32]}
        state, report = steps.train(state, batch)
        reports.append(dict(zip(STEP_METRICS, np.asarray(report))))
    assert (reports[0]["logits"] > 0) == (kind != "tokens") and (reports[0]["tokens"] > 0) == (kind != "logits")
    total = sum(reports[0][name] for name in ("labels", "logits", "tokens", "penalty"))
    assert total == pytest.approx(reports[0]["loss"], rel=1e-5)
    part = "tokens" if kind == "tokens" else "logits"
    assert reports[-1][part] < reports[0][part]


def test_teachers_that_do_not_fit() -> None:
    """A missing teacher, or one of another shape."""
    with pytest.raises(SearchError, match="needs a teacher"):
        job(distill={"kind": "both"})
    from vit_models import ViTConfig

    wide = Model(ViTConfig(**{**TINY.to_dict(), "dim": 32}))
    with pytest.raises(SearchError, match="differ in shape"):
        job(teacher=Teacher(wide, init(wide.config, 0)), distill={"kind": "both"})


# -- the optimiser ------------------------------------------------------------------------------------------------


def test_schedule_is_timms() -> None:
    """Warm-up from its own rate, the cosine over all epochs, the last rate in the cool-down."""
    settings = config(
        train={
            "epochs": 10,
            "cooldown": 2,
            "warmup": 2,
            "warmup_rate": 1e-6,
            "learning_rate": 1e-3,
            "schedule": "epoch",
        }
    ).train
    rate = rate_schedule(settings, 5)
    rates = [float(rate(np.int32(step))) for step in range(60)]
    assert rates[0:5] == pytest.approx([1e-6] * 5) and rates[5] == pytest.approx((1e-6 + 1e-3) / 2, rel=1e-3)
    assert rates[10] == pytest.approx(1e-5 + 0.5 * (1e-3 - 1e-5) * (1 + np.cos(np.pi * 0.2)))
    assert rates[50:] == pytest.approx([1e-5] * 10)


def test_weight_decay() -> None:
    """Matrices and the alphas of heads decay; biases, norms and the alpha of a layer do not."""
    import optax

    for level, decay, expected in (("head", True, True), ("head", False, False), ("layer", True, False)):
        made = config(search={"level": level, "decay": decay}, train={"weight_decay": 0.5})
        params = init(TINY, 0, attention="mix", search=level)
        optimizer = make_optimizer(made.train, made.search, lambda step: np.float32(1.0))
        updates, _ = optimizer.update(jax.tree.map(np.zeros_like, params), optimizer.init(params), params)
        new = optax.apply_updates(params, updates)
        block, old = new["blocks"]["0"], params["blocks"]["0"]
        assert (np.asarray(block["attention"]["alpha"]) < 1.0).all() == expected
        np.testing.assert_array_equal(block["norm1"]["scale"], old["norm1"]["scale"])
        np.testing.assert_allclose(block["linear1"]["kernel"], 0.5 * old["linear1"]["kernel"], rtol=1e-6)


# -- checkpoints --------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_read_back(tmp_path: Path) -> None:
    """Model, plan and parameters; a second one replaces the first."""
    params = init(TINY, 0, attention="mix")
    images = stripes(8, 2).images
    for epoch in (1, 2):
        save_checkpoint(tmp_path / "model", MIX, params, CheckpointOrigin(epoch=epoch))
    model, loaded, origin = load_checkpoint(tmp_path / "model")
    assert model == MIX and origin == CheckpointOrigin(epoch=2)
    np.testing.assert_array_equal(plaintext_logits(model, loaded, images), plaintext_logits(MIX, params, images))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_other_directories_are_left_alone(tmp_path: Path) -> None:
    """A directory that is not a checkpoint is neither read nor replaced."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("keep me")
    with pytest.raises(SearchError, match="is not a checkpoint"):
        save_checkpoint(tmp_path / "precious", MIX, {"a": np.zeros(1)}, CheckpointOrigin())
    with pytest.raises(SearchError, match="is not a checkpoint"):
        load_checkpoint(tmp_path / "precious")
    assert (tmp_path / "precious" / "file").read_text() == "keep me"


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    """A model.json without its plan, and parameters cut in half."""
    save_checkpoint(tmp_path / "model", MIX, init(TINY, 0, attention="mix"), CheckpointOrigin())
    content = json.loads((tmp_path / "model" / "model.json").read_text())
    archive = (tmp_path / "model" / "params.npz").read_bytes()
    (tmp_path / "model" / "params.npz").write_bytes(archive[: len(archive) // 2])
    with pytest.raises(SearchError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "model")
    del content["plan"]
    (tmp_path / "model" / "model.json").write_text(json.dumps(content))
    with pytest.raises(SearchError, match="plan"):
        load_checkpoint(tmp_path / "model")


def test_what_is_searched() -> None:
    """Alphas of a mix without a plan, and betas if the config asks for them; nothing else can be searched."""
    assert job(SEARCH).searches_alpha and not job(MIX).searches_alpha and not job(SOFTMAX).searches_alpha
    images = stripes(64, 0)
    plans = TrainingJob(MIX, images, images, config(search={"gelu_level": "token"}), search=True)
    assert plans.searches_beta and not plans.searches_alpha
    assert "beta" in plans.parameters()["blocks"]["0"] and "alpha" not in plans.parameters()["blocks"]["0"]["attention"]
    with pytest.raises(SearchError, match="nothing to search"):
        TrainingJob(SOFTMAX, images, images, config(), search=True)
    with pytest.raises(SearchError, match="needs a plan"):
        TrainingJob(SEARCH, images, images, config())
