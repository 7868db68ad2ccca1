"""The experiment that the docs show, in a package of your own, is run as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import Cell, ProgramSpec
from mpcvit_harness.errors import HarnessError
from mpcvit_harness.prepare import prepare
from mpcvit_harness.report import build

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


def test_the_docs_example(pytester: pytest.Pytester) -> None:
    """With its file and its command: two records of a model that is not a ViT, which the report shows."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (command,) = re.findall(r"^pytest mlp\.py (.*)$", PAGE.read_text(), re.MULTILINE)
    (pytester.path / "mlp.py").write_text(source)
    pytester.runpytest_subprocess("mlp.py", *command.split(), "--machine", "here").assert_outcomes(passed=2)
    records = [CellRecord.load(path) for path in (pytester.path / "results").glob("here/mlp/*.json")]
    assert {record.request.protocol for record in records} == {"semi2k", "cheetah"}
    assert all(record.program is not None and record.program.name == "perceptron" for record in records)
    page = build(pytester.path / "results", pytester.path / "report").read_text()
    assert "hidden32-cheetah-loopback-loopback" in page


@pytest.mark.parametrize(
    ("function", "said"),
    [("no_such_module:f", "no_such_module"), ("math:tau", "float"), ("math:no", "no math:no"), ("os:getpid", "int")],
)
def test_a_function_that_makes_no_program(function: str, said: str, tmp_path: Path) -> None:
    """A missing module or function, or one that returns something else, is named in the error."""
    cell = Cell(experiment="e", name="n", model=ProgramSpec(function=function))
    with pytest.raises(HarnessError, match=said):
        prepare(cell, tmp_path, tmp_path)


def test_images_are_for_vits() -> None:
    """A ProgramSpec has its own sample."""
    with pytest.raises(ValidationError, match="its own sample"):
        Cell(experiment="e", name="n", model=ProgramSpec(function="mlp:perceptron"), images=4)
