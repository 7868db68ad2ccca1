"""The example of the page about your own model is run as it is; both packages write one format."""

from __future__ import annotations

import re
import runpy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spu_bench import program_from_function
from vit_models import Argument, Program

PAGE = Path(__file__).parents[2] / "docs" / "your-model.md"


def test_the_docs_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Both outputs are right, the first as logits too."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "example.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record = runpy.run_path("example.py")["record"]
    assert record.status == "ok" and record.accuracy.top1_equal == 3
    assert record.outputs["logits"].max_abs_error < 0.01 and record.outputs["class"].equal == 3
    assert "class 3 of 3 equal" in capsys.readouterr().out


def test_two_writers_of_one_format(tmp_path: Path) -> None:
    """vit_models and spu_bench write the same files for the same model, under the same fingerprint."""

    def model(params: Any, x: Any) -> Any:
        return x @ params

    weights, x = np.ones((4, 3), np.float32), np.ones((2, 4), np.float32)
    made = program_from_function(model, weights, x)
    other = Program(
        name=made.name,
        module=made.module,
        arguments=tuple(Argument(each.name, each.holder, each.value) for each in made.arguments),
        outputs=tuple(made.outputs.items()),
        made_by=dict(made.made_by),
    )
    assert made.fingerprint == other.fingerprint
    first, second = made.save(tmp_path / "first"), other.save(tmp_path / "second")
    for path in [*first.iterdir(), *second.iterdir()]:
        one, two = first / path.name, second / path.name
        if path.suffix != ".npz":
            assert one.read_bytes() == two.read_bytes()
            continue
        with np.load(one) as found, np.load(two) as expected:
            assert {k: v.tolist() for k, v in found.items()} == {k: v.tolist() for k, v in expected.items()}
