"""Claims cover every published number, are bound to cells that exist, and get the verdict that their records earn."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from experiment_files import ANY_RECORD, EXPERIMENTS, ROOT, PutRecord, PutTraining, cells_of

from mpc_search.provenance import Code
from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import Cell
from mpcvit_harness.claims import CLAIMS, Claims, load
from mpcvit_harness.claims_file import Tolerance, claims_json_schema
from mpcvit_harness.errors import HarnessError
from mpcvit_harness.formulas import FORMULAS, MEDIAN, Quantity
from mpcvit_harness.store import LOCAL
from mpcvit_harness.tables import Context
from mpcvit_harness.trainings import folder
from mpcvit_harness.verdicts import Evaluation, judge
from spu_bench.provenance import CodeVersion


@pytest.fixture(scope="module")
def claims() -> Claims:
    return load(ROOT / CLAIMS)


def test_every_published_number_is_one_claim(claims: Claims) -> None:
    """Each latency and each accuracy of the table is in exactly one claim, with its value and its source."""
    with (ROOT / "harness" / "paper_results.csv").open(newline="") as stream:
        rows = csv.DictReader(stream)
        published = {
            (rows.line_num, column): (float(row[column]), row["source"])
            for row in rows
            for column in ("latency_s", "accuracy_pct")
            if row[column]
        }
    assert len(published) > 150
    claimed = Counter(number for claim in claims.claims for number in claim.numbers)
    assert claimed.keys() == published.keys() and set(claimed.values()) == {1}
    for claim in claims.claims:
        for number in claim.numbers:
            value, source = published[number]
            assert claim.stated == value and (source in claim.source or len(claim.numbers) > 1)


def test_claims_are_bound_to_cells_that_exist(claims: Claims) -> None:
    """A claim without a cell says why; with cells, an experiment has them under that very name."""
    quantities = {q for claim in claims.claims for q in claim.quantities if claim.not_run is None}
    cells = [cell for file in EXPERIMENTS.glob("*.py") for cell in cells_of(file.stem)]
    existing = {(cell.experiment, cell.name) for cell in cells if isinstance(cell, Cell)}
    runs = {(folder(cell), cell.run) for cell in cells if not isinstance(cell, Cell)}
    runs |= {(sweep, run.rpartition("-s")[0]) for sweep, run in runs}
    missing = [q for q in quantities if (q.experiment, q.cell) not in (runs if q.is_training else existing)]
    assert not missing and {q.experiment for q in quantities if q.is_training} == claims.commands.keys()
    assert all(bool(claim.not_run) is not bool(claim.quantities) for claim in claims.claims)


def test_the_schema_in_the_docs_is_this_one() -> None:
    """Who writes claims has a schema to check them by."""
    committed = (ROOT / "docs" / "claims.schema.json").read_text()
    assert committed == claims_json_schema(), "run: python -m mpcvit_harness.claims_file > docs/claims.schema.json"


# -- verdicts -------------------------------------------------------------------------------------------------------


def verdicts(root: Path) -> dict[str, Evaluation]:
    context = Context.load(root, root / "results", ROOT / CLAIMS)
    return {e.claim.id: e for e in context.evaluations}


@pytest.mark.parametrize(
    ("kind", "value", "verdict"),
    [
        ("relative", 10.39, "reproduced"),
        ("relative", 9.61, "reproduced"),
        ("relative", 10.5, "within shape"),
        ("relative", 8.9, "not reproduced"),
        ("absolute", 10.03, "reproduced"),
        ("absolute", 10.2, "not reproduced"),
        ("at_most", 1.0, "reproduced"),
        ("at_most", 10.9, "within shape"),
        ("at_most", 11.5, "not reproduced"),
        ("at_least", 99.0, "reproduced"),
        ("at_least", 9.1, "within shape"),
        ("at_least", 8.5, "not reproduced"),
        ("above", 11.0, "within shape"),
        ("above", 9.8, "not reproduced"),
    ],
)
def test_a_tolerance_decides(kind: Any, value: float, verdict: str) -> None:
    """Limits of 4 % and 10 % (of 0.04 and 0.1 where absolute) around 10, or beyond it."""
    assert judge(Tolerance(about="", kind=kind, reproduced=0.04, within_shape=0.1), 10.0, value)[0] == verdict


@pytest.mark.parametrize(
    ("formula", "values", "x", "result"),
    [
        ("value", [3.0], [], 3.0),
        ("ratio", [6.0, 2.0], [], 3.0),
        ("difference", [6.0, 2.0], [], 4.0),
        ("share", [8.0, 2.0], [], 0.75),
        ("part", [1.0, 6.0, 2.0], [], 0.25),
        ("per_unit", [30.0, 2.0], [28.0], 1.0),
        ("over_line", [10.0, 22.0, 30.0], [0.0, 5.0, 10.0], 1.1),
        ("spread", [9.0, 10.0, 11.0], [], 0.2),
        ("rank_correlation", [[1.0, 2.0, 3.0], [0.1, 0.3, 0.2]], [], 0.5),
    ],
)
def test_formulas(formula: str, values: list[Any], x: list[float], result: float) -> None:
    """On numbers that a head can check."""
    assert FORMULAS[formula].compute(values, x) == pytest.approx(result)


def test_fields_of_a_record() -> None:
    """Median, rounds, bytes and an operation's seconds are read from the record; another field is refused."""
    record = CellRecord.load(ANY_RECORD)
    assert record.statistics is not None
    assert Quantity("e", "c", MEDIAN).of(record) == record.statistics.median
    assert Quantity.parse("e/c#rounds").of(record) == record.rounds == 1987
    assert Quantity.parse("e/c#sent_bytes").of(record) == max(record.sent_bytes)
    seconds = [o.seconds for party in record.parties for o in party.operations if o.name == "pphlo.exponential"]
    assert Quantity.parse("e/c#operations.exponential").of(record) == max(seconds) > 0
    for party in record.parties:
        party.inferences[-1].link = None
    with pytest.raises(ValueError, match="not counted"):
        Quantity.parse("e/c#rounds").of(record)
    with pytest.raises(ValueError, match=r"statistics\.median"):
        Quantity.parse("e/c#samples")


def test_the_papers_own_seconds_reproduce_the_paper(claims: Claims, tmp_path: Path, put: PutRecord) -> None:
    """Records with exactly the published seconds reproduce every latency and every ratio; the rest is not run."""
    values = [c for c in claims.claims if c.formula == "value" and not claims.is_target(c)]
    paper = {c.quantities[0]: c.stated for c in values if not c.quantities[0].is_training}
    for quantity, seconds in paper.items():
        put(quantity.experiment, quantity.cell, seconds)
    found = verdicts(tmp_path)
    follows = [
        e
        for e in found.values()
        if all(q in paper for q in e.claim.quantities) and e.claim.not_run is None and e.claim.group != "plus_constants"
    ]
    off = {e.claim.id: e.verdict for e in follows if e.verdict != "reproduced"}
    # its rows do not give the 80 % that it is quoted with
    assert off == {"breakdown-softmax-of-vit": "not reproduced"}
    assert len(follows) > 150 and all(e.n == 1 and e.records for e in follows)
    others = [e for e in found.values() if e.claim.group in ("accuracy", "plus_constants") and e not in follows]
    assert {e.verdict for e in others if e.claim.group == "accuracy"} == {"not run"}
    # of the constants those that the published rows hold are the constants of the scripts
    constant = found["plus-cifar10-token_fused-0.5"]
    assert constant.value == pytest.approx(6.7) and constant.verdict == "reproduced"


def test_a_point_off_the_papers_line_is_found(claims: Claims, tmp_path: Path, put: PutRecord) -> None:
    """Where the measured rows are linear, Tiny-ImageNet's published mu 0.3 is not reproduced and the others are."""
    for name, heads in (("scale", 0), ("mpcvit_0.1", 11), ("mpcvit_0.3", 33), ("relu_softmax", 108)):
        put("paper_tiny", f"main-{name}", 121.57 + (1128.39 - 121.57) * heads / 108)
    found = verdicts(tmp_path)
    assert found["line-tiny_imagenet-0.1"].verdict == "reproduced"
    assert found["line-tiny_imagenet-0.3"].verdict == "not reproduced"
    assert found["line-tiny_imagenet-0.3"].value == pytest.approx(1.0)


def test_what_does_not_count(claims: Claims, tmp_path: Path, put: PutRecord) -> None:
    """Failed runs, wrong logits, changed code, and the folder of local runs give no verdict."""
    put("paper_cifar10", "main-softmax", 112.0, status="failed")
    put("paper_cifar10", "main-scale", 44.0, code=CodeVersion(source="", dirty=True))
    put("paper_cifar10", "main-relu_softmax", 71.0, machine=LOCAL)
    put("paper_cifar10", "main-mpcvit_0.1", 48.0, code=CodeVersion(source=""))
    put("paper_cifar10", "main-mpcvit_0.3", 52.0, status="wrong", correctness="wrong")
    found = verdicts(tmp_path)
    assert {e.verdict for e in found.values()} == {"not run"}
    assert found["cifar10-softmax_vit-seconds"].why == "no valid record of paper_cifar10/main-softmax"


def test_cells_of_a_claim_are_of_one_machine(claims: Claims, tmp_path: Path, put: PutRecord) -> None:
    """A ratio is not made across machines; of two that have both cells the one that measured last counts."""
    put("paper_cifar10", "main-softmax", 100.0, machine="a", started_at="2026-01-03T00:00:00")
    put("paper_cifar10", "main-scale", 50.0, machine="b", started_at="2026-01-04T00:00:00")
    assert verdicts(tmp_path)["cifar10-ratio-main-softmax-main-scale"].verdict == "not run"
    put("paper_cifar10", "main-scale", 40.0, machine="a", started_at="2026-01-01T00:00:00")
    ratio = verdicts(tmp_path)["cifar10-ratio-main-softmax-main-scale"]
    assert ratio.value == pytest.approx(2.5) and {m.machine for m in ratio.records} == {"a"}
    put("paper_cifar10", "main-softmax", 150.0, machine="b", started_at="2026-01-05T00:00:00")
    assert verdicts(tmp_path)["cifar10-ratio-main-softmax-main-scale"].value == pytest.approx(3.0)


def test_the_fewest_samples_are_shown(claims: Claims, tmp_path: Path, put: PutRecord) -> None:
    """n of a ratio is that of its weaker side."""
    put("paper_cifar10", "main-softmax", 112.0, 113.0, 114.0)
    put("paper_cifar10", "main-scale", 45.0)
    assert verdicts(tmp_path)["cifar10-ratio-main-softmax-main-scale"].n == 1
    assert verdicts(tmp_path)["cifar10-softmax_vit-seconds"].n == 3


def test_accuracies_are_means_over_seeds(claims: Claims, tmp_path: Path, put_training: PutTraining) -> None:
    """Seed by seed, whatever the machine; what has no record says how to make it."""
    for seed, both, none in ((0, 85.0, 84.0), (1, 86.0, 85.2), (2, 85.5, 84.6)):
        put_training("reduced_fashion_mnist", "mpcvit-0.5-both", seed, both, machine=f"m{seed}")
        put_training("reduced_fashion_mnist", "mpcvit-0.5-none", seed, none)
    put_training("reduced_fashion_mnist", "mpcvit-0.5-none", 3, 99.0)
    put_training("reduced_fashion_mnist", "mpcvit-0.5-logits", 0, 84.5)
    put_training("cifar10", "mpcvit-0.1-both", 42, 93.2)
    put_training("cifar10", "teacher", 42, 94.0, code=Code(source="", dirty=True))
    put_training("cifar10", "scale", 42, 92.0, machine=LOCAL)
    put_training("cifar10", "relu_softmax", 42, 93.0, status="failed")
    found = verdicts(tmp_path)
    helps = found["order-distilled-0.5"]
    assert (helps.verdict, helps.n, len(helps.records)) == ("reproduced", 3, 6)
    assert helps.value == pytest.approx(0.9) and helps.deviation == pytest.approx(0.1)
    assert found["order-distilled-both-logits"].verdict == "within shape", "one seed is no interval"
    row = found["cifar10-mpcvit-0.1-kd-accuracy"]
    assert row.value == pytest.approx(93.2) and row.verdict == "reproduced" and row.deviation is None
    for missing in ("softmax_vit", "scale_vit-0.0", "relu_softmax_vit-1.0"):
        assert found[f"cifar10-{missing}-accuracy"].why.endswith("; mpc-search sweep cifar10 --data FOLDER")


def test_an_order_is_decided_on_its_interval(claims: Claims, tmp_path: Path, put_training: PutTraining) -> None:
    """A mean difference above zero whose interval holds zero is within shape; below zero it is not reproduced."""
    for seed, relu, scale, softmax in ((0, 85.0, 84.9, 84.0), (1, 86.0, 84.0, 85.5), (2, 84.5, 84.6, 84.4)):
        for run, percent in (("relu_softmax", relu), ("scale", scale), ("teacher", softmax)):
            put_training("reduced_fashion_mnist", run, seed, percent)
    found = verdicts(tmp_path)
    assert found["order-relu_softmax-scale"].verdict == "within shape"
    assert found["order-softmax-relu_softmax"].verdict == "not reproduced"


def test_searches_are_compared_by_their_alphas(claims: Claims, tmp_path: Path, put_training: PutTraining) -> None:
    """Rank correlation seed by seed, or between two named seeds; alphas without an order have none."""
    first, second = [[0.1, 0.2], [0.3, 0.4]], [[0.1, 0.2], [0.4, 0.3]]
    for seed in (0, 1):
        put_training("reduced_fashion_mnist", "search-1e-05", seed, 80.0, alpha=first)
        put_training("reduced_fashion_mnist", "search-0.001", seed, 80.0, alpha=[first, second][seed])
        put_training("reduced_fashion_mnist", "search-1e-06", seed, 80.0, alpha=[[1.0, 1.0], [1.0, 1.0]])
    found = verdicts(tmp_path)
    assert found["consistency-lambda-0.001"].value == pytest.approx(0.9) and found["consistency-lambda-0.001"].n == 2
    assert found["consistency-seeds-search-1e-05-s0-search-1e-05-s1"].value == pytest.approx(1.0)
    assert "all equal" in found["consistency-lambda-1e-06"].why
    assert "no valid record" in found["consistency-architecture-fashion_mnist"].why


# -- what is wrong in the file --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('thex = "baseline-thex"', "", "latency_s of thex on cifar10, has 0 answers"),
        ('tolerance = "line"', 'tolerance = "lines"', "no tolerance 'lines'"),
        ('formula = "spread"', 'formula = "variance"', "no formula 'variance'"),
        ('group = "headline"', 'group = "headlines"', "no group 'headlines'"),
        ("paper_placements/front", "paper_placements/front#samples", "a field is one of"),
        ('rows = ["{experiment}/{row}"]', 'rows = ["{experiment}/none"]', "no row of the facts is answered by none"),
        ("paper = [7.9, 9.9]", "paper = [7.9]", "paper has 1 entries for 2 members"),
        ("target = [9.5, 9.0, 6.0]", "paper = [9.5, 9.0, 6.0]", "a claim of a target section has `target`"),
        ('section = "headline"', 'section = "head"', "no section 'head'"),
        ("{than}", "{over}", "nothing fills in {over}"),
        ('id = "placements"', 'id = "headline-faster-than-vit"', "two claims have the id headline-faster-than-vit"),
        ('source = "abstract, arXiv v3"', "", "source: Field required"),
        ("paper_results.csv", "absent.csv", "absent.csv"),
        ('"reduced_fashion_mnist/scale#accuracy"]', '"links/toy-softmax"]', "no record in common"),
    ],
)
def test_wrong_claims_are_refused(old: str, new: str, problem: str, tmp_path: Path) -> None:
    """In one line that names the place."""
    text = (ROOT / CLAIMS).read_text()
    assert old in text
    (tmp_path / "claims.toml").write_text(text.replace(old, new))
    (tmp_path / "paper_results.csv").write_text((ROOT / "harness" / "paper_results.csv").read_text())
    with pytest.raises(HarnessError) as caught:
        load(tmp_path / "claims.toml")
    assert problem in str(caught.value) and "\n" not in str(caught.value)
