"""The command line: mpcvit-report build | claims | tables | check | compare | costs | migrate."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from mpcvit_harness import claims_tables
from mpcvit_harness.cells import ModelSpec
from mpcvit_harness.claims import CLAIMS, ClaimsError, load
from mpcvit_harness.compare import compare, table
from mpcvit_harness.errors import HarnessError
from mpcvit_harness.load_experiments import EXPERIMENTS, all_cells
from mpcvit_harness.migrate import migrate
from mpcvit_harness.pages import stale, write
from mpcvit_harness.plan_costs import cost_table
from mpcvit_harness.report import build
from mpcvit_harness.stored import counted_runs, counted_trainings
from mpcvit_harness.verdicts import evaluate
from spu_bench import SpuBenchError
from spu_bench.record import write_whole

app = typer.Typer(help="The report of the reproduction.", no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def _root() -> None:
    """Reports from records."""


@app.command("build")
def build_command(
    results: Annotated[Path, typer.Option(help="Root of the store of records.")] = Path("results"),
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("report"),
    claims: Annotated[
        Path, typer.Option(help="The claims; a report without them where there is no such file.")
    ] = CLAIMS,
) -> None:
    """Write the report from every record below RESULTS, with the verdicts on CLAIMS.

    Example: mpcvit-report build --results results --out report
    """
    if not results.is_dir():
        print(
            f"error: there are no results at {results}. Fix: run the experiments first, or name another folder.",
            file=sys.stderr,
        )
        raise typer.Exit(2)
    print(f"The report is {build(results, out, claims if claims.exists() else None)}")


@app.command("claims")
def claims_command(
    results: Annotated[Path, typer.Option(help="Root of the store of records.")] = Path("results"),
    claims: Annotated[Path, typer.Option(help="The claims.")] = CLAIMS,
    group: Annotated[str, typer.Option(help="Only the claims of this group (default: all, and their count).")] = "",
) -> None:
    """Print every claim of the paper beside what the records say.

    Example: mpcvit-report claims --group headline
    """
    loaded = load(claims)
    if group and group not in loaded.groups:
        print(f"error: there is no group {group!r}. Fix: use one of {', '.join(loaded.groups)}", file=sys.stderr)
        raise typer.Exit(2)
    evaluations = evaluate(loaded, counted_runs(results.parent, results), counted_trainings(results.parent, results))
    for name, title in loaded.groups.items():
        if group in ("", name):
            print(f"{title} ({name})\n\n{claims_tables.of_group(name, evaluations, Path('claims'))}")
    if not group:
        print(claims_tables.summary(loaded, evaluations), end="")


@app.command("tables")
def tables_command(
    root: Annotated[Path, typer.Option(help="Root of the repository.")] = Path(),
    results: Annotated[Path, typer.Option(help="Root of the store of records.")] = Path("results"),
) -> None:
    """Write the tables of README and docs from the records below RESULTS.

    Example: mpcvit-report tables --results results
    """
    for page in write(root, results):
        print(f"wrote the tables of {page}")


@app.command("check")
def check_command(
    root: Annotated[Path, typer.Option(help="Root of the repository.")] = Path(),
    results: Annotated[Path, typer.Option(help="Root of the store of records.")] = Path("results"),
) -> None:
    """Fail where a table of README or docs is not what the records say.

    Example: mpcvit-report check --results results
    """
    if pages := stale(root, results):
        names = ", ".join(map(str, pages))
        print(f"error: the tables of {names} are not those of the records. Fix: mpcvit-report tables", file=sys.stderr)
        raise typer.Exit(1)


@app.command("migrate")
def migrate_command(
    results: Annotated[Path, typer.Option(help="Root of the store of records.")] = Path("results"),
    experiments: Annotated[Path, typer.Option(help="The experiments, which give the labels.")] = EXPERIMENTS,
) -> None:
    """Bring the records below RESULTS up to date: schema, fingerprints, file names, labels. Nothing is measured.

    Example: mpcvit-report migrate --results results
    """
    done = migrate(results, all_cells(experiments))
    for path, why in [*done.notes, *done.refused]:
        print(f"{path}: {why}")
    print(f"{len(done.changed)} records migrated, {done.unchanged} up to date, {len(done.refused)} refused")
    if done.refused:
        raise typer.Exit(1)


@app.command("costs")
def costs_command(
    config: Annotated[str, typer.Option(help="The model's architecture.")] = "vit_7_4_32",
    attention: Annotated[str, typer.Option(help="A mix: what heads are when on, and when off.")] = "mix",
    kernels: Annotated[str, typer.Option(help="The kernel set.")] = "plain",
    gelu: Annotated[str, typer.Option(help="The form of GeLU.")] = "tanh",
    num_classes: Annotated[int, typer.Option(help="Classes of the model.")] = 10,
    override: Annotated[
        list[str] | None, typer.Option(help="A field of the architecture replaced, as patch=7 (may be repeated).")
    ] = None,
    protocol: Annotated[str, typer.Option(help="semi2k or cheetah.")] = "semi2k",
    network: Annotated[str, typer.Option(help="loopback, lan, wan, or a TOML file.")] = "wan",
    machine_costs: Annotated[Path | None, typer.Option(help="File of machine costs (default: the user's own).")] = None,
    out: Annotated[Path, typer.Option(help="Where the cost table goes.")] = Path("costs.json"),
) -> None:
    """Predict every plan of a mix: write the cost table that `mpc-search` takes, without running a plan.

    Example: mpcvit-report costs --config vit_4_4_28 --override patch=7 --network wan --out costs.json
    """
    try:
        model = ModelSpec(
            config=config,
            attention=attention,
            kernels=kernels,
            gelu=gelu,
            num_classes=num_classes,
            overrides=_numbers(override or []),
        )
        costs = cost_table(model, protocol, network, machine_costs=machine_costs)
    except ValueError as error:
        print(f"error: {error}. Fix: see mpcvit-report costs --help", file=sys.stderr)
        raise typer.Exit(2) from None
    write_whole(out, json.dumps(costs, indent=1) + "\n")
    print(f"The cost table is {out}")


def _numbers(settings: list[str]) -> dict[str, int | float]:
    """{name: number} of "patch=7" and the like."""
    found: dict[str, int | float] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            found[name] = int(value) if value.isdecimal() else float(value)
        except ValueError:
            raise ValueError(f"--override {setting} is not NAME=NUMBER") from None
    return found


@app.command("compare")
def compare_command(
    a: Annotated[str, typer.Argument(help="A folder of records, or a revision: its records below results.")],
    b: Annotated[str, typer.Argument(help="The other one.")],
) -> None:
    """Compare cell by cell what two machines, or two commits, have measured.

    Example: mpcvit-report compare results/one-machine results/another
    """
    try:
        print(table(compare(a, b)), end="")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def main() -> None:
    """Run the command line."""
    try:
        app()
    except (HarnessError, SpuBenchError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2 if error.reason == "bad_input" else 1) from None
    except ClaimsError as error:
        print(f"error: {error}. Fix: correct the claims (docs/claims.md)", file=sys.stderr)
        raise SystemExit(2) from None
