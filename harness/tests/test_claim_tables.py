"""Where claims are shown: pages of the docs, the report, the command line; and what their summary counts."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from experiment_files import ANY_RECORD, ROOT, PutRecord, column

from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.claims import CLAIMS, Claims, load
from mpcvit_harness.cli import main
from mpcvit_harness.docs_pages import pages, stale, write
from mpcvit_harness.errors import HarnessError
from mpcvit_harness.report import build
from mpcvit_harness.tables import Context
from mpcvit_harness.tables.claim_verdicts import claims_of, summary, targets_of
from mpcvit_harness.verdicts import Evaluation
from spu_bench.watch import Remark


@pytest.fixture(scope="module")
def claims() -> Claims:
    return load(ROOT / CLAIMS)


def verdicts(root: Path) -> dict[str, Evaluation]:
    context = Context.load(root, root / "results", ROOT / CLAIMS)
    return {e.claim.id: e for e in context.evaluations}


def test_a_pages_claims_follow_from_records(repository: Path) -> None:
    """`tables` writes them with a link to the record, and an altered number does not pass."""
    page = repository / "README.md"
    assert write(repository, repository / "results") == [page]
    assert stale(repository, repository / "results") == []
    (row,) = [line for line in page.read_text().splitlines() if "| CIFAR-10: Softmax ViT |" in line]
    assert "| 112.23 s | 111.00 s | 1 | -1.1 % | ± 4 %, ± 10 % | reproduced | [1](results/here/paper_cifar10/" in row
    assert "not run: no valid record of paper_cifar10/main-scale" in page.read_text()
    page.write_text(page.read_text().replace("111.00 s", "112.00 s"))
    assert stale(repository, repository / "results") == [page]


def test_the_report_shows_every_claim(repository: Path, claims: Claims) -> None:
    """With its verdict, its source, and links to the cells' pages, which link back."""
    page = build(repository / "results", repository / "report", repository / CLAIMS)
    text = page.read_text()
    assert all(f'id="{claim.id}"' in text for claim in claims.claims)
    assert text.count('<td class="reproduced">') == 1
    assert text.count('<td class="not-run">') == len(claims.claims) - 1
    (cell,) = (repository / "report" / "cells").glob("*/*/*.html")
    assert f'href="{cell.relative_to(repository / "report")}"' in text
    assert 'index.html#cifar10-softmax_vit-seconds"' in cell.read_text()
    assert "http" not in text.replace(str(page), ""), "the page asks no network"


def test_pages_are_found_by_their_markers(repository: Path) -> None:
    """In README, docs and the packages; a page without a table is left alone, a made-up table is refused."""
    page = repository / "docs" / "deep" / "page.md"
    page.parent.mkdir(parents=True)
    page.write_text("<!-- table tolerances -->\n<!-- end of table -->\n")
    (repository / "docs" / "other.md").write_text("`<!-- table tolerances -->` is a marker.\n")
    package = repository / "packages" / "one" / "README.md"
    package.parent.mkdir(parents=True)
    package.write_text("<!-- table nonsense -->\n<!-- end of table -->\n")
    assert pages(repository) == [Path("README.md"), Path("docs/deep/page.md"), Path("packages/one/README.md")]
    with pytest.raises(HarnessError, match=r"packages/one/README.md: there is no table 'nonsense'"):
        write(repository, repository / "results")
    package.unlink()
    write(repository, repository / "results")
    assert "`seconds_cifar`" in page.read_text()


def test_no_claim_is_counted_twice(claims: Claims) -> None:
    """Published latencies come first, then ratios, accuracies and the abstract; targets and readings are not counted.

    A latency that rows repeat for one cell is one claim, and a ratio that the abstract states is not among the ratios.
    """
    counts = summary(claims, [Evaluation(claim, "not run") for claim in claims.claims])
    sections = [entry.text for entry in column(counts, "claims")]
    assert [section.split()[0] for section in sections[:4]] == ["Published", "Ratios", "Published", "Statements"]
    published = [entry.number for entry in column(counts, "published")]
    assert published[0] == 42, "16 on CIFAR-10, 13 on CIFAR-100, 13 on Tiny-ImageNet"
    kinds = Counter(claims.section(claim).kind for claim in claims.claims)
    assert sum(number or 0 for number in published) == kinds["published"]
    assert kinds["target"] == 29 and kinds["reading"] == 16
    counted = [claim for claim in claims.claims if claims.section(claim).kind == "published"]
    twice = Counter((claim.formula, claim.quantities, claim.x, claim.stated, claim.group) for claim in counted)
    assert {times for (formula, quantities, *_), times in twice.items() if quantities} == {1}
    ratios = [claim.quantities for claim in counted if claim.formula == "ratio" and claim.quantities]
    assert len(set(ratios)) == len(ratios)


def test_targets_are_no_claims_of_the_paper(claims: Claims) -> None:
    """They have a table of their own, with a target, and words of their own for the verdict; counts are whole."""
    met = {e: Evaluation(c, "reproduced", 1.0) for c in claims.claims if claims.is_target(c) for e in [c.id]}
    shown = targets_of(met.values())
    assert shown.headings[1] == "target" and {entry.text for entry in column(shown, "verdict")} == {"met"}
    rounds = targets_of([Evaluation(met["open-rounds-softmax"].claim, "reproduced", 468.0)])
    assert column(rounds, "target")[0].text == "345 rounds" and column(rounds, "measured")[0].text == "468 rounds"
    assert not any("target" in claim.source for claim in claims.claims if not claims.is_target(claim))


def test_rows_have_the_papers_names(claims: Claims) -> None:
    """Data set and model as the paper writes them, also in ratios; rows of one number stand together."""
    names = {claim.id: claim.text for claim in claims.claims}
    assert names["cifar10-softmax_scale_heterogeneous_vit-seconds"] == "CIFAR-10: Softmax-ScaleAttn heterogeneous ViT"
    assert names["cifar10-mpcvit-0.1-seconds"] == (
        "CIFAR-10: MPCViT (mu 0.1); MPCViT without per-layer search (mu 0.1)"
    )
    assert names["tiny_imagenet-ratio-main-softmax-main-scale"] == "Tiny-ImageNet: Softmax ViT over ScaleAttn ViT"
    slugs = re.compile(r"\b(cifar10|cifar100|tiny_imagenet|softmax_vit|main-|baseline-)")
    assert not [text for text in names.values() if slugs.search(text)]


def test_remarks_are_shown_where_the_number_is(tmp_path: Path, put: PutRecord) -> None:
    """A mark at the measured value, explained below the table; the same in the report, as a tip."""
    record = CellRecord.load(ANY_RECORD)
    assert record.watch is not None
    busy = Remark(kind="other_load", text="other processes kept 0.77 cores busy")
    put("paper_cifar10", "main-softmax", 111.0, watch=record.watch.model_copy(update={"remarks": [busy]}))
    found = claims_of([verdicts(tmp_path)["cifar10-softmax_vit-seconds"]]).markdown()
    assert "| 111.00 s ¹ |" in found and "\n¹ Other processes kept cores busy during the run.\n" in found
    page = build(tmp_path / "results", tmp_path / "report", ROOT / CLAIMS).read_text()
    assert 'data-tip="other processes kept 0.77 cores busy"' in page


def test_a_wrong_result_is_no_latency(tmp_path: Path, put: PutRecord) -> None:
    put("paper_cifar10", "main-softmax", 112.0, status="wrong", correctness="wrong")
    found = verdicts(tmp_path)["cifar10-softmax_vit-seconds"]
    assert found.verdict == "not run" and found.why == "no valid record of paper_cifar10/main-softmax"


def run(*arguments: str) -> int:
    """The exit status of the command line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["mpcvit-report", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
    return int(caught.value.code or 0)


def test_the_command_line_prints_claims(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The summary first, then every group, as text that fits; or one group, as Markdown or CSV."""
    monkeypatch.chdir(repository)
    assert run("claims", "--results", "results") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("claims ") and "Statements of the abstract" in printed.partition("The abstract (")[0]
    assert "CIFAR-10: Softmax ViT" in printed and "|" not in printed and "](" not in printed
    assert max(map(len, printed.splitlines())) <= 160
    assert run("claims", "--group", "headline", "--format", "markdown") == 0
    assert "| claim | paper | measured |" in capsys.readouterr().out
    assert run("show", "targets", "--format", "csv") == 0
    assert capsys.readouterr().out.startswith("claim,target,measured,")
    assert run("show") == 0 and "open_latency" in capsys.readouterr().out
    for arguments, problem in (
        (("claims", "--group", "nonsense"), "Fix: use one of cifar10"),
        (("claims", "--claims", "absent.toml"), "absent.toml"),
        (("build", "--results", "nowhere"), "Fix: run an experiment first"),
    ):
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert problem in error and error.count("\n") == 1


def test_tolerances_are_told_apart(claims: Claims) -> None:
    """None is looser for "reproduced" than for "within shape", and none is there unused."""
    used = {claim.tolerance for claim in claims.claims}
    assert used == set(claims.tolerances.values())
    assert all(t.reproduced <= t.within_shape for t in claims.tolerances.values())
