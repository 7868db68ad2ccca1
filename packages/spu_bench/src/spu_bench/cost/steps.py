"""A compiled Program as steps: the operations that SPU executes one after another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from spu import api as spu_api
from spu import libspu

from spu_bench.errors import SpuBenchError
from spu_bench.options import Options, compiler_options
from spu_bench.party.spu095 import VISIBILITY
from spu_bench.program import Program

_NAME = re.compile(r"%[\w$.-]+(?:#\d+)?")
_DEFINES = re.compile(r"(%[\w$.-]+)(?::(\d+))? = ")
_OPERATION = re.compile(r"= \"?([\w.]+)\"?")
_MAIN = re.compile(r"func\.func @main\((?P<arguments>.*?)\) -> (?P<results>.*?) (?:attributes .*?)?\{$")


@dataclass(frozen=True)
class Step:
    """One operation of a compiled Program.

    `text` is its line in SPU's IR (several lines where it has a region) with canonical names: operands %a0, %a1, ...,
    results %r. Two steps with the same text, and with operands of the same storage, cost the same. `operands` and
    `results` are the names of values in the Program, `types` and `result_types` their types.
    """

    operation: str
    text: str
    operands: tuple[str, ...]
    types: tuple[str, ...]
    results: tuple[str, ...]
    result_types: tuple[str, ...]

    def key(self, storage: Sequence[str]) -> str:
        """What the cost of this step depends on: its text, with shapes and visibilities, and its operands' storage."""
        return f"{self.text} | {', '.join(storage)}"

    def module(self) -> bytes:
        """This step as a Program of its own, with its operands as arguments."""
        arguments = ", ".join(f"%a{i}: {kind}" for i, kind in enumerate(self.types))
        names = ["%r"] if len(self.results) == 1 else [f"%r#{i}" for i in range(len(self.results))]
        kinds = ", ".join(self.result_types)
        shown = kinds if len(names) == 1 else f"({kinds})"
        body = f"{self.text}\n    return {', '.join(names)} : {kinds}"
        return f"module {{\n  func.func @main({arguments}) -> {shown} {{\n    {body}\n  }}\n}}\n".encode()


@dataclass(frozen=True)
class Compiled:
    """A Program in SPU's IR: its text, the types of its arguments by name, and its steps."""

    code: bytes
    arguments: dict[str, str]
    steps: list[Step]


def compile_program(program: Program, options: Options) -> Compiled:
    """Compile `program` as a party does; raises SpuBenchError where SPU refuses the Program."""
    source = libspu.CompilationSource(
        libspu.SourceIRType.XLA, program.module(), [VISIBILITY[a.holder] for a in program.manifest.arguments]
    )
    try:
        code: bytes = spu_api.compile(source, compiler_options(options))
    except RuntimeError as error:
        raise SpuBenchError(
            f"SPU cannot compile the Program: {str(error).splitlines()[0]}",
            "export it with the JAX version in constraints/reference.txt.",
            "bad_input",
        ) from error
    return parse(code.decode())


def parse(text: str) -> Compiled:
    """Read the steps from IR of SPU 0.9.5; raises SpuBenchError with the line that cannot be read."""
    lines = text.splitlines()
    start, head = next(((i, m) for i, line in enumerate(lines) if (m := _MAIN.search(line))), (0, None))
    if head is None:
        raise _unreadable(lines[0] if lines else "")
    types = dict(argument.split(": ", 1) for argument in _split(head["arguments"]))
    arguments = {name: kind.split(" {")[0] for name, kind in types.items()}
    types = dict(arguments)
    steps: list[Step] = []
    for chunk in _operations(lines[start + 1 :]):
        if chunk[0].startswith("pphlo.free "):
            continue
        if chunk[0].startswith("return"):
            return Compiled(text.encode(), arguments, steps)
        step = _step(chunk, types)
        types.update(zip(step.results, step.result_types))
        steps.append(step)
    raise _unreadable(lines[-1])


def _operations(lines: Sequence[str]) -> list[list[str]]:
    """The lines of each operation in the body; the lines of a region belong to its operation."""
    chunks: list[list[str]] = []
    depth = 0
    for line in lines:
        if depth == 0 and not line.lstrip().startswith("reducer("):
            chunks.append([line.strip()])
        else:
            chunks[-1].append(line.strip())
        bare = re.sub(r"\"[^\"]*\"", "", line)
        depth += bare.count("{") - bare.count("}")
        if depth < 0:
            break
    return chunks


def _step(chunk: list[str], types: dict[str, str]) -> Step:
    defines, operation = _DEFINES.match(chunk[0]), _OPERATION.search(chunk[0])
    typed = chunk[0] if " : " in chunk[0] else chunk[-1]
    _, colon, kinds = typed.rpartition(" : ")
    if defines is None or operation is None or not colon:
        raise _unreadable(chunk[0])
    name, count = defines[1], int(defines[2] or 1)
    text = "\n".join(chunk)[defines.end() :]
    used = [value for value in dict.fromkeys(_NAME.findall(text)) if value in types]
    renamed = {value: f"%a{i}" for i, value in enumerate(used)}
    inner = (value for value in dict.fromkeys(_NAME.findall(text)) if value not in types)
    renamed |= {value: f"%i{i}" for i, value in enumerate(inner)}
    canonical = _NAME.sub(lambda match: renamed[match[0]], text)
    result_types = _split(kinds.rpartition("-> ")[2].strip("()"))
    if len(result_types) != count:
        raise _unreadable(chunk[0])
    return Step(
        operation=operation[1],
        text=f"%r{f':{count}' if count > 1 else ''} = {canonical}",
        operands=tuple(used),
        types=tuple(types[value] for value in used),
        results=(name,) if count == 1 else tuple(f"{name}#{i}" for i in range(count)),
        result_types=tuple(result_types),
    )


def _split(text: str) -> list[str]:
    """Split `text` at the commas that are not in brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "<({[") - (character in ">)}]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _unreadable(line: str) -> SpuBenchError:
    return SpuBenchError(
        f"SPU's IR has a line that the cost model cannot read: {line.strip()[:200]!r}.",
        "use SPU 0.9.5, or measure the Program with `spu-bench run`.",
        "bad_input",
    )
