"""Many runs as one list, into which a TOML file is expanded once."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mpc_search.budgets import Rule
from mpc_search.config import Config, load_config
from mpc_search.costs import CostTable
from mpc_search.errors import SearchError
from mpc_search.record import canonical_sha256


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSpec(_Table):
    """One entry of a sweep, before its grid and its seeds are expanded.

    `grid` has lists of values for other fields of this table, or for settings of the config by dotted names; every
    combination is a run, whose name has the values in the places of {field}. `set` has settings of the config.
    A plan comes from the alphas of the run `search` (of the same seed) by a share `mu` and a `rule`, or by `seconds`
    or the seconds that `mu` would take (`seconds_of_mu`) of the table `costs`, a path from where the sweep's file is;
    `gelu_share` is for its betas. An evaluation is of the run `of`: privately under each of `protocols` on the first
    `images` test images.
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
        spec = SweepSpec.model_validate(tomllib.loads(path.read_text()))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SearchError(f"There is no sweep {name} ({error}). Fix: use {', '.join(sweep_names())}.") from error
    except ValidationError as error:
        raise SearchError(f"{name}: {_first(error)}. Fix: see mpc_search.sweep.") from error
    here = Path(str(path)).parent
    entries = (run if run.costs is None else run.model_copy(update={"costs": here / run.costs}) for run in spec.run)
    return spec.model_copy(update={"run": tuple(entries)})


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
