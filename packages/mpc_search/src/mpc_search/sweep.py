"""Many runs as one list: a TOML file is expanded into it once, and what has a good record is not run again."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mpc_search import provenance
from mpc_search.budgets import Rule, alphas_of, by_seconds, by_share, gelu_by_share
from mpc_search.checkpoint import load_checkpoint
from mpc_search.config import Config, load_config
from mpc_search.costs import CostTable
from mpc_search.data import load
from mpc_search.errors import SearchError
from mpc_search.evaluate import plain_logits, private_score, score
from mpc_search.pipeline import Task, run_stage
from mpc_search.record import SUFFIX, Parent, TrainingRecord, canonical_sha256
from mpc_search.trainer import params_sha256
from vit_models import AttentionPlan


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSpec(_Table):
    """One entry of a sweep, before its grid and its seeds are expanded.

    `grid` has lists of values for other fields of this table, or for settings of the config by dotted names; every
    combination is a run, whose name has the values in the places of {field}. `set` has settings of the config.
    A plan comes from the alphas of the run `search` (of the same seed) by a share `mu` and a `rule`, or by `seconds`
    or the seconds that `mu` would take (`seconds_of_mu`) of the table `costs`; `gelu_share` is for its betas. An
    evaluation is of the run `of`: privately under each of `protocols` on the first `images` test images.
    """

    name: str
    stage: Literal["teacher", "search", "retrain", "evaluate"]
    seeds: tuple[int, ...] | None = None
    grid: dict[str, list[Any]] = {}
    set: dict[str, Any] = {}
    attention: str | None = None
    teacher: str | None = None
    search: str | None = None
    mu: float | None = None
    rule: Rule = "global"
    seconds: float | None = None
    seconds_of_mu: float | None = None
    costs: Path | None = None
    gelu_share: float | None = None
    of: str | None = None
    protocols: tuple[str, ...] = ()
    kernels: str = "plain"
    images: int = Field(default=16, ge=1)


class SweepSpec(_Table):
    """A sweep as its file has it: the config and scale of all its runs, their seeds, the entries in order.

    `like` names sweeps whose entries come before its own: the same comparisons on another data set, each with this
    sweep's seeds. `set` has settings of the config for every run.
    """

    name: str
    config: str
    scale: str = "reduced"
    seeds: tuple[int, ...] = (0,)
    like: tuple[str, ...] = ()
    set: dict[str, Any] = {}
    run: tuple[RunSpec, ...] = ()


@dataclass(frozen=True)
class Run:
    """One run of the expanded list; `parents` are the runs it builds on, by their role, and `key` names all of it."""

    name: str
    spec: RunSpec
    seed: int
    config: Config
    parents: dict[str, str]
    key: str


def sweep_names() -> tuple[str, ...]:
    """Names of the sweeps that come with the package."""
    folder = resources.files("mpc_search") / "sweeps"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_sweep(name: str | Path, overrides: dict[str, Any] | None = None) -> tuple[str, list[Run]]:
    """Name and runs of a sweep, by its name or its file; `overrides` are laid over every run's config.

    A run that two entries ask for is one. Raises SearchError where an entry is not what it should be, or builds on a
    run that does not come before it.
    """
    spec = _read(name)
    runs: dict[str, Run] = {}
    for entry in _entries(spec):
        for values in _combinations(entry.grid):
            filled = _filled(entry, values)
            for seed in filled.seeds or spec.seeds:
                run = _run(spec, filled, seed, runs, overrides or {})
                if runs.setdefault(run.name, run).key != run.key:
                    raise SearchError(f"Two runs of {spec.name} are called {run.name}. Fix: put {{field}} in the name.")
    return spec.name, list(runs.values())


def with_parents(runs: list[Run], wanted: Callable[[Run], bool]) -> list[Run]:
    """Those of `runs` that are wanted, and what they build on, in their order."""
    by_name = {run.name: run for run in runs}
    names: set[str] = set()

    def add(name: str) -> None:
        names.add(name)
        for parent in by_name[name].parents.values():
            add(parent)

    for run in filter(wanted, runs):
        add(run.name)
    return [run for run in runs if run.name in names]


def _read(name: str | Path) -> SweepSpec:
    known = str(name) in sweep_names()
    path = resources.files("mpc_search") / "sweeps" / f"{name}.toml" if known else Path(name)
    try:
        return SweepSpec.model_validate(tomllib.loads(path.read_text()))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SearchError(f"There is no sweep {name} ({error}). Fix: use {', '.join(sweep_names())}.") from error
    except ValidationError as error:
        raise SearchError(f"{name}: {_first(error)}. Fix: see mpc_search.sweep.") from error


def _entries(spec: SweepSpec) -> list[RunSpec]:
    others = [entry for name in spec.like for entry in _entries(_read(name))]
    return [*(entry.model_copy(update={"seeds": None}) for entry in others), *spec.run]


def _combinations(grid: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    return (dict(zip(grid, values)) for values in itertools.product(*grid.values()))


def _filled(entry: RunSpec, values: dict[str, Any]) -> RunSpec:
    fields = entry.model_dump(exclude={"grid"})
    for key, value in values.items():
        if "." in key:
            fields["set"] = {**fields["set"], key: value}
        else:
            fields[key] = value
        fields["name"] = fields["name"].replace(f"{{{key}}}", str(value))
    try:
        return RunSpec.model_validate(fields)
    except ValidationError as error:
        raise SearchError(f"{entry.name}: {_first(error)}. Fix: see mpc_search.sweep.") from error


def _run(spec: SweepSpec, entry: RunSpec, seed: int, runs: dict[str, Run], overrides: dict[str, Any]) -> Run:
    roles = {"teacher": entry.teacher, "search": entry.search, "of": entry.of}
    parents = {role: f"{name}-s{seed}" for role, name in roles.items() if name is not None}
    for role, name in parents.items():
        if name not in runs:
            raise SearchError(f"{entry.name}: there is no run {name} before it for its {role}. Fix: mend the order.")
    stage = "retrain" if entry.stage == "evaluate" else entry.stage
    config = load_config(spec.config, spec.scale, stage, {**spec.set, **entry.set, **overrides, "train.seed": seed})
    content = {
        "entry": entry.model_dump(mode="json", exclude={"name", "seeds", "grid", "set", "costs"}),
        "config": config.public().model_dump(mode="json"),
        "parents": {role: runs[name].key for role, name in parents.items()},
        "costs": None if entry.costs is None else CostTable.load(entry.costs).model_dump(mode="json"),
    }
    return Run(f"{entry.name}-s{seed}", entry, seed, config, parents, canonical_sha256(content))


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


@dataclass(frozen=True)
class Places:
    """Where a sweep keeps its checkpoints and its records."""

    checkpoints: Path
    records: Path

    def checkpoint(self, run: str) -> Path:
        """The checkpoint of the run of that name."""
        return self.checkpoints / run

    def record(self, run: str) -> Path:
        """The record of the run of that name."""
        return self.records / f"{run}{SUFFIX}"

    def done(self, run: Run) -> TrainingRecord | None:
        """The good record of exactly this run, if there is one."""
        try:
            record = TrainingRecord.load(self.record(run.name))
        except SearchError:
            return None
        return record if record.status == "ok" and record.key == run.key else None


def run_sweep(
    experiment: str,
    runs: list[Run],
    places: Places,
    *,
    again: Callable[[Run], bool] = lambda run: False,
    quiet: bool = False,
    go_on: Callable[[], bool] = lambda: True,
    tell: Callable[[Run, TrainingRecord, bool], None] = lambda run, record, new: None,
) -> list[TrainingRecord]:
    """Every run in order; `tell` hears of each with its record, and whether it is new.

    A run that fails leaves a record that says why, and those that build on it fail with it; the others go on.
    `again` says which are run although their record is good; `go_on` is asked before each new run. A run whose record
    is good but whose checkpoint is gone is run again only where another needs it.
    """
    by_name, records = {run.name: run for run in runs}, []
    for run in runs:
        known = None if again(run) else places.done(run)
        if known is None and not go_on():
            break
        record = known or _attempt(experiment, run, by_name, places, quiet, again)
        tell(run, record, known is None)
        records.append(record)
    return records


def _attempt(
    experiment: str,
    run: Run,
    by_name: dict[str, Run],
    places: Places,
    quiet: bool,
    again: Callable[[Run], bool],
) -> TrainingRecord:
    try:
        for name in run.parents.values():
            if places.done(by_name[name]) is None:
                raise SearchError(f"{name}, which it builds on, failed. Fix: mend that run first.")
            if not (places.checkpoint(name) / "model.json").exists():
                _attempt(experiment, by_name[name], by_name, places, quiet, again)
        if run.spec.stage == "evaluate":
            record = _evaluation(experiment, run, places)
        else:
            record = run_stage(_task(experiment, run, places), force=again(run), quiet=quiet)
    except SearchError as error:
        record = _failed(experiment, run, str(error))
    record.save(places.record(run.name))
    jax.clear_caches()
    return record


def _task(experiment: str, run: Run, places: Places) -> Task:
    spec, stage = run.spec, run.spec.stage
    assert stage != "evaluate"
    attention = spec.attention or ("softmax" if stage == "teacher" else "mix")
    plan, rule, parents = _plan(run, places) if spec.search is not None else (None, None, {})
    return Task(
        stage,
        run.config,
        places.checkpoint(run.name),
        attention,
        plan,
        teacher=None if spec.teacher is None else places.checkpoint(run.parents["teacher"]),
        costs=spec.costs if stage == "search" else None,
        rule=rule,
        experiment=experiment,
        name=run.name,
        parents=parents,
        key=run.key,
    )


def _plan(run: Run, places: Places) -> tuple[AttentionPlan, dict[str, Any], dict[str, Parent]]:
    spec, name = run.spec, run.parents["search"]
    _, params, about = load_checkpoint(places.checkpoint(name))
    alpha, level = alphas_of(params), about["config"]["search"]["level"]
    if alpha is None:
        raise SearchError(f"{name} has no alphas. Fix: search there.")
    table = None if spec.costs is None else CostTable.load(spec.costs)
    rule: dict[str, Any] = {"level": level}
    if spec.seconds is None and spec.seconds_of_mu is None:
        if spec.mu is None:
            raise SearchError(f"{run.name} has no budget. Fix: give mu, seconds or seconds_of_mu.")
        plan = by_share(alpha, spec.mu, level, spec.rule, seed=run.seed)
        rule |= {"rule": spec.rule, "mu": spec.mu}
    else:
        if table is None:
            raise SearchError(f"{run.name} has no cost table. Fix: give costs.")
        limit = spec.seconds
        if limit is None:
            assert spec.seconds_of_mu is not None
            limit = table.seconds(by_share(alpha, spec.seconds_of_mu, level))
        plan = by_seconds(alpha, table, limit, level)
        rule |= {"rule": "seconds", "limit": limit}
    if table is not None:
        rule["predicted_seconds"] = table.seconds(plan)
    if spec.gelu_share is not None:
        beta = alphas_of(params, "beta")
        if beta is None:
            raise SearchError(f"{name} has no betas. Fix: search there with search.gelu_level.")
        plan = gelu_by_share(plan, beta, spec.gelu_share)
        rule["gelu_share"] = spec.gelu_share
    return plan, rule, {"search": Parent(name=name, params=params_sha256(params))}


def _evaluation(experiment: str, run: Run, places: Places) -> TrainingRecord:
    name = run.parents["of"]
    model, params, _ = load_checkpoint(places.checkpoint(name))
    test = load(run.config.data.name, "test", run.config.data.folder)
    sample = test.take(np.arange(min(run.spec.images, len(test))))
    done = _blank(experiment, run)
    done.parents = {"of": Parent(name=name, params=params_sha256(params))}
    done.test = score(plain_logits(model, params, test, run.spec.kernels), test)
    done.private = [
        private_score(model, params, sample, protocol=protocol, kernels=run.spec.kernels)
        for protocol in run.spec.protocols
    ]
    return done


def _failed(experiment: str, run: Run, why: str) -> TrainingRecord:
    return _blank(experiment, run).model_copy(update={"status": "failed", "failure": why})


def _blank(experiment: str, run: Run) -> TrainingRecord:
    return TrainingRecord(
        experiment=experiment,
        name=run.name,
        stage=run.spec.stage,
        key=run.key,
        status="ok",
        config=run.config.public(),
        seed=run.seed,
        data=[],
        model={},
        machine=provenance.machine(),
        versions=provenance.versions(),
        code=provenance.code(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
