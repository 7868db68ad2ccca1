"""The pages that hold tables made from records: each table stands between two markers, and is never typed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from mpcvit_harness import claims_tables, open_tables, paper_tables, tables, training_tables
from mpcvit_harness.claims import CLAIMS, Claims, load
from mpcvit_harness.predictions import predictions
from mpcvit_harness.stored import StoredRun, StoredTraining, counted_runs, counted_trainings
from mpcvit_harness.verdicts import Evaluation, evaluate
from spu_bench.record import write_whole

PAGES = (
    "README.md",
    "docs/claims.md",
    "docs/cost-model.md",
    "docs/models.md",
    "docs/networks.md",
    "docs/open-division.md",
    "docs/paper-division.md",
    "docs/peers.md",
    "docs/running.md",
    "docs/search.md",
)
"""Pages that hold tables: `<!-- table NAME -->` ... `<!-- end of table -->`."""

Table = Callable[[list[StoredRun], Path], str]

STUDIES = ("paper_truncation", "open_truncation")
"""Tables that show runs with wrong logits too."""

TABLES: dict[str, Table] = {**tables.TABLES, **paper_tables.TABLES, **open_tables.TABLES, "predictions": predictions}

_MARKERS = re.compile(r"(<!-- table (?P<name>\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def write(root: Path, results: Path) -> list[Path]:
    """Write every table into its page below `root`; returns the pages that changed. Raises ClaimsError."""
    changed = _changed(root, results)
    for path, text in changed.items():
        write_whole(path, text)
    return list(changed)


def stale(root: Path, results: Path) -> list[Path]:
    """The pages below `root` whose tables are not those of the records. Raises ClaimsError."""
    return list(_changed(root, results))


def _changed(root: Path, results: Path) -> dict[Path, str]:
    """Pages whose tables do not follow from the records, with the text that does."""
    runs = list(counted_runs(root, results))
    measured = [run for run in runs if run.is_latency]
    claims = load(root / CLAIMS)
    trainings = list(counted_trainings(root, results))
    made = TABLES | _training_tables(trainings) | _claims_tables(claims, evaluate(claims, measured, trainings))
    pages = {root / name: Path(name) for name in PAGES if (root / name).exists()}
    filled = {path: _filled(path.read_text(), made, runs, name) for path, name in pages.items()}
    return {path: text for path, text in filled.items() if text != path.read_text()}


def _training_tables(trainings: list[StoredTraining]) -> dict[str, Table]:
    """Those that are made from trainings, like the others."""

    def of(table: training_tables.Table) -> Table:
        return lambda measured, page: table(measured, trainings, page)

    return {name: of(table) for name, table in training_tables.TABLES.items()}


def _claims_tables(claims: Claims, evaluations: list[Evaluation]) -> dict[str, Table]:
    """`claims` counts verdicts, `claims_GROUP` lists a group's claims, `tolerances` says how near is near."""

    def lists(group: str) -> Table:
        return lambda measured, page: claims_tables.of_group(group, evaluations, page)

    return {
        "claims": lambda measured, page: claims_tables.summary(claims, evaluations),
        "tolerances": lambda measured, page: claims_tables.of_tolerances(claims),
        **{f"claims_{group}": lists(group) for group in claims.groups},
    }


def _filled(text: str, made: dict[str, Table], measured: list[StoredRun], page: Path) -> str:
    def fill(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in made:
            raise ValueError(f"{page}: there is no table {name!r}, use one of {', '.join(made)}")
        shown = measured if name in STUDIES else [run for run in measured if run.is_latency]
        return f"{match[1]}{made[name](shown, page)}{match[3]}"

    return _MARKERS.sub(fill, text)
