"""SPU's IR is read as steps: steps of one kind have the same text, whatever their values are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from spu_bench import Options, SpuBenchError, load_program
from spu_bench.cost.steps import compile_program, parse

SECRET = "tensor<4x!pphlo.secret<f32>>"
ONE = "tensor<!pphlo.secret<f32>>"
IR = f"""module @m attributes {{pphlo.version = "0.9.5"}} {{
  func.func @main(%arg0: {SECRET}, %arg1: tensor<4xf32>) -> {ONE} {{
    %0 = pphlo.constant dense<0xFF800000> : tensor<f32>
    %1 = pphlo.convert %0 : (tensor<f32>) -> {ONE}
    pphlo.free %0 : tensor<f32>
    %2 = pphlo.multiply %arg0, %arg1 : ({SECRET}, tensor<4xf32>) -> {SECRET}
    %3 = pphlo.reduce(%2 init: %1) across dimensions = [0] : ({SECRET}, {ONE}) -> {ONE}
     reducer(%arg2: {ONE}, %arg3: {ONE})  {{
      %9 = pphlo.less %arg3, %arg2 : ({ONE}, {ONE}) -> tensor<!pphlo.secret<i1>>
      pphlo.return %9 : tensor<!pphlo.secret<i1>>
    }}
    %4 = pphlo.multiply %2, %arg1 : ({SECRET}, tensor<4xf32>) -> {SECRET}
    %5 = pphlo.reduce(%4 init: %1) across dimensions = [0] : ({SECRET}, {ONE}) -> {ONE}
     reducer(%arg4: {ONE}, %arg5: {ONE})  {{
      %10 = pphlo.less %arg5, %arg4 : ({ONE}, {ONE}) -> tensor<!pphlo.secret<i1>>
      pphlo.return %10 : tensor<!pphlo.secret<i1>>
    }}
    %6 = pphlo.add %3, %5 : {ONE}
    return %6 : {ONE}
  }}
}}
"""


def test_steps_and_kinds() -> None:
    """A region belongs to its operation; steps that differ only in names are of one kind."""
    compiled = parse(IR)
    assert compiled.arguments == {"%arg0": SECRET, "%arg1": "tensor<4xf32>"}
    names = [step.operation.removeprefix("pphlo.") for step in compiled.steps]
    assert names == ["constant", "convert", "multiply", "reduce", "multiply", "reduce", "add"]
    assert len({step.text for step in compiled.steps}) == 5
    reduce, add = compiled.steps[3], compiled.steps[6]
    assert reduce.operands == ("%2", "%1") and reduce.types == (SECRET, ONE) and reduce.results == ("%3",)
    assert reduce.text.count("\n") == 4
    assert add.result_types == (ONE,)


def test_storage_is_part_of_a_kind() -> None:
    """A value with another storage makes another kind of step, with another cost."""
    step = parse(IR).steps[6]
    assert step.key(["semi2k.AShr<FM64>"] * 2) != step.key(["semi2k.AShr<FM64>", "semi2k.BShr<FM64,1>"])


def test_a_step_is_a_module_of_its_own() -> None:
    """The module of a step is IR with this one step."""
    for step in parse(IR).steps:
        alone = parse(step.module().decode())
        assert [each.text for each in alone.steps] == [step.text]
        assert list(alone.arguments.values()) == list(step.types)


def test_a_real_program(small: Path) -> None:
    """The output of SPU's compiler is read, with public arguments."""
    program = load_program(small)
    compiled = compile_program(program, Options())
    assert len(compiled.arguments) == len(program.manifest.arguments)
    assert {"pphlo.dot", "pphlo.add"} <= {step.operation for step in compiled.steps}


@pytest.mark.parametrize("text", ["", "module {}", IR.replace("%6 = pphlo.add", "%6 pphlo.add")])
def test_other_ir_is_refused(text: str) -> None:
    """The error shows the line that cannot be read."""
    with pytest.raises(SpuBenchError, match="cannot read"):
        parse(text)
