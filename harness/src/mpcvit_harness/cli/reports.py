"""The commands that read records: build, claims, tables, check, show and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mpcvit_harness import compare, docs_pages
from mpcvit_harness.claims import CLAIMS
from mpcvit_harness.errors import HarnessError
from mpcvit_harness.report import build
from mpcvit_harness.tables import Context, Table, make_table, table_names
from mpcvit_harness.tables.comparison import comparison
from mpcvit_harness.tables.terminal import show

Results = Annotated[Path, typer.Option(help="Root of the store of records.")]
Root = Annotated[Path, typer.Option(help="Root of the repository.")]
Form = Literal["text", "markdown", "csv"]
FormOption = Annotated[Form, typer.Option("--format", help="How tables are printed; text fits the terminal.")]


def build_command(
    results: Results = Path("results"),
    out: Annotated[Path, typer.Option(help="The folder of the report.")] = Path("report"),
    claims: Annotated[Path, typer.Option(help="The claims. Without this file the report has no claims.")] = CLAIMS,
) -> None:
    """Write the report of every record below RESULTS, with the verdicts on CLAIMS.

    Example: mpcvit-report build --results results --out report
    """
    if not results.is_dir():
        raise HarnessError(f"there are no results at {results}", "run an experiment first, or give another --results")
    print(f"The report is {build(results, out, claims if claims.exists() else None)}")


def claims_command(
    results: Results = Path("results"),
    claims: Annotated[Path, typer.Option(help="The claims.")] = CLAIMS,
    group: Annotated[str, typer.Option(help="Only the claims of this group (default: the summary and all).")] = "",
    form: FormOption = "text",
) -> None:
    """Print the summary of all claims, and every claim of the paper beside what the records say.

    Example: mpcvit-report claims --group headline
    """
    context = Context.load(results.parent, results, claims)
    assert context.claims is not None
    groups = context.claims.groups
    if group and group not in groups:
        raise HarnessError(f"there is no group {group!r}", f"use one of {', '.join(groups)}")
    if not group:
        _print(make_table("claims", context), form)
    for name in [group] if group else groups:
        print(f"\n{groups[name].title} ({name})\n")
        _print(make_table(f"claims_{name}", context), form)


def tables_command(root: Root = Path(), results: Results = Path("results")) -> None:
    """Write the tables of README and docs from the records below RESULTS.

    Example: mpcvit-report tables --results results
    """
    for page in docs_pages.write(root, results):
        print(f"wrote the tables of {page}")


def check_command(root: Root = Path(), results: Results = Path("results")) -> None:
    """Fail where a table of README or docs differs from the records.

    Example: mpcvit-report check --results results
    """
    if pages := docs_pages.stale(root, results):
        names = ", ".join(map(str, pages))
        raise HarnessError(f"the tables of {names} differ from the records", "run mpcvit-report tables", "stale")


def show_command(
    name: Annotated[str, typer.Argument(help="The table's name (default: list the names).")] = "",
    root: Root = Path(),
    results: Results = Path("results"),
    form: FormOption = "text",
) -> None:
    """Print one table of the docs.

    Example: mpcvit-report show open_latency
    """
    context = Context.load(root, results, root / CLAIMS)
    if name:
        _print(make_table(name, context), form)
    else:
        print("\n".join(table_names(context)))


def compare_command(
    a: Annotated[str, typer.Argument(help="A folder of records, or a git revision with records below results.")],
    b: Annotated[str, typer.Argument(help="The other folder or revision.")],
    form: FormOption = "text",
) -> None:
    """Compare the measurements of two machines, or of two commits, cell by cell.

    Example: mpcvit-report compare results/one-machine results/another
    """
    _print(comparison(compare.compare(a, b)), form)


def _print(table: Table, form: Form) -> None:
    if form == "text":
        show(table)
    else:
        print(table.markdown() if form == "markdown" else table.csv(), end="")
