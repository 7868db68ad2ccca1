"""Many runs as one list. A TOML file describes them; it is expanded once."""

from __future__ import annotations

import itertools
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue, ValidationError

from mpc_search.budgets import Rule
from mpc_search.cost_table import CostTable
from mpc_search.errors import SearchError
from mpc_search.files import canonical_sha256
from mpc_search.run_config import RunConfig, Scale, load_config
from mpc_search.strict import Settings, StrictModel, first_problem


class RunSpec(StrictModel):
    """One entry of a sweep, before its grid and its seeds are expanded.

    `grid` has lists of values: for other fields of this table, or for settings of the config by dotted names. Every
    combination is a run, and {field} in `name` becomes its value. `set` has settings of the config. `attention` is
    "softmax" for a teacher and "mix" for other stages, unless it is given.

    With `search`, the plan comes from the alphas of that run, of the same seed: by the share `mu` and a `rule`, or as
    the best plan within a number of `seconds`, or within the seconds of the plan that keeps the share `seconds_of_mu`.
    Seconds are predicted by the table `costs`, a path relative to the sweep's file. `gelu_share` is the share of betas.
    `teacher` is the run to learn from.

    The stage "evaluate" tests the run `of`: in plaintext, and under each of `protocols` on the first `images` test
    images, with the kernel set `kernels`.
    """

    name: str
    stage: Literal["teacher", "search", "retrain", "evaluate"]
    seeds: tuple[int, ...] | None = None
    grid: dict[str, list[JsonValue]] = Field(default_factory=dict)
    set: Settings = Field(default_factory=dict)
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


class SweepSpec(StrictModel):
    """A sweep as its file describes it: the config, scale and seeds of all its runs, and its entries `run` in order.

    `include` names sweeps whose entries come before its own, with this sweep's config and seeds: the same comparisons
    on another data set. `set` has settings of the config for every run.
    """

    name: str
    config: str
    scale: Scale = "reduced"
    seeds: tuple[int, ...] = (0,)
    include: tuple[str, ...] = ()
    set: Settings = Field(default_factory=dict)
    run: tuple[RunSpec, ...] = ()


@dataclass(frozen=True)
class Run:
    """One run of the expanded list.

    `parents` are the names of the runs that it builds on, by their role. `key` is the SHA-256 of everything that the
    sweep says about it, its parents included.
    """

    name: str
    spec: RunSpec
    seed: int
    config: RunConfig
    parents: dict[str, str]
    key: str


def sweep_names() -> tuple[str, ...]:
    """Names of the sweeps in this package."""
    folder = resources.files("mpc_search") / "sweeps"
    return tuple(sorted(entry.name[:-5] for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_sweep(name: str | Path, overrides: Settings | None = None) -> tuple[str, list[Run]]:
    """Name and runs of a sweep, by its name or its file; `overrides` are settings for the config of every run.

    Two entries that describe the same run give one run. Raises SearchError when an entry is wrong, or builds on a run
    that does not come before it.
    """
    spec = _read(name)
    runs: dict[str, Run] = {}
    for entry in _entries(spec):
        for values in _combinations(entry.grid):
            filled = _with_values(entry, values)
            for seed in filled.seeds or spec.seeds:
                run = _run(spec, filled, seed, runs, overrides or {})
                if runs.setdefault(run.name, run).key != run.key:
                    raise SearchError(
                        f"Two different runs of {spec.name} are called {run.name}.",
                        "put {field} into the name for every field of the grid.",
                    )
    return spec.name, list(runs.values())


def with_parents(runs: list[Run], wanted: Callable[[Run], bool]) -> list[Run]:
    """The `runs` that are `wanted` and those that they build on, in their order."""
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
    own = str(name) in sweep_names()
    path = resources.files("mpc_search") / "sweeps" / f"{name}.toml" if own else Path(name)
    try:
        spec = SweepSpec.model_validate(tomllib.loads(path.read_text()))
    except (OSError, tomllib.TOMLDecodeError) as error:
        known = ", ".join(sweep_names())
        raise SearchError(
            f"Cannot read the sweep {name} ({error}).", f"give a TOML file, or one of {known}."
        ) from error
    except ValidationError as error:
        raise SearchError(f"{name}: {first_problem(error)}.", "see the fields of mpc_search.sweep.") from error
    here = Path(str(path)).parent
    entries = (run if run.costs is None else run.model_copy(update={"costs": here / run.costs}) for run in spec.run)
    return spec.model_copy(update={"run": tuple(entries)})


def _entries(spec: SweepSpec) -> list[RunSpec]:
    included = [entry for name in spec.include for entry in _entries(_read(name))]
    return [*(entry.model_copy(update={"seeds": None}) for entry in included), *spec.run]


def _combinations(grid: dict[str, list[JsonValue]]) -> Iterator[Settings]:
    return (dict(zip(grid, values)) for values in itertools.product(*grid.values()))


def _with_values(entry: RunSpec, values: Settings) -> RunSpec:
    """`entry` with the values of one combination of its grid."""
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
        raise SearchError(f"{entry.name}: {first_problem(error)}.", "see the fields of mpc_search.sweep.") from error


def _run(spec: SweepSpec, entry: RunSpec, seed: int, runs: dict[str, Run], overrides: Settings) -> Run:
    roles = {"teacher": entry.teacher, "search": entry.search, "of": entry.of}
    parents = {role: f"{name}-s{seed}" for role, name in roles.items() if name is not None}
    for role, name in parents.items():
        if name not in runs:
            raise SearchError(
                f"{entry.name}: no run {name} comes before it, which is its {role}.", "change the order of the entries."
            )
    stage = "retrain" if entry.stage == "evaluate" else entry.stage
    settings: Settings = {**spec.set, **entry.set, **overrides, "train.seed": seed}
    config = load_config(spec.config, spec.scale, stage, settings)
    content: JsonValue = {
        "entry": entry.model_dump(mode="json", exclude={"name", "seeds", "grid", "set", "costs"}),
        "config": config.public().model_dump(mode="json"),
        "parents": {role: runs[name].key for role, name in parents.items()},
        "costs": None if entry.costs is None else CostTable.load(entry.costs).model_dump(mode="json"),
    }
    return Run(f"{entry.name}-s{seed}", entry, seed, config, parents, canonical_sha256(content))
