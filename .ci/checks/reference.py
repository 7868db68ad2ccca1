"""The reference pages, one a package: every public name with its signature and docstring."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import griffe
import public
from common import ROOT, SOURCES, Finding

FOLDER = ROOT / "docs/reference"


def _signature(name: str, function: griffe.Function) -> str:
    """A call as the source declares it."""
    text = function.signature(name=name)
    bare = text.replace("(self, ", "(").replace("(self)", "()").replace("(cls, ", "(").replace("(cls)", "()")
    return bare if len(bare) <= 120 else _wrapped(bare)


def _wrapped(text: str) -> str:
    """A long signature with an argument a line."""
    opening = text.index("(")
    depth, parts, start = 0, [], opening + 1
    for position in range(opening + 1, len(text)):
        letter = text[position]
        if letter in "([{":
            depth += 1
        elif letter in ")]}" and depth:
            depth -= 1
        elif letter == ")":
            parts.append(text[start:position].strip())
            break
        elif letter == "," and not depth:
            parts.append(text[start:position].strip())
            start = position + 1
    body = "".join(f"    {part},\n" for part in parts if part)
    return f"{text[: opening + 1]}\n{body}{text[position:]}"


def _docstring(item: griffe.Object) -> str:
    return inspect.cleandoc(item.docstring.value) if item.docstring else ""


def _class(name: str, cls: griffe.Class) -> Iterator[str]:
    bases = ", ".join(str(base) for base in cls.bases)
    yield f"```python\nclass {name}{f'({bases})' if bases else ''}\n```"
    yield _docstring(cls)
    fields, methods = [], []
    for member in public.members(cls):
        text = " ".join(_docstring(member).split())
        if isinstance(member, griffe.Attribute):
            about = f"`{member.name}: {member.annotation}`" if member.annotation else f"`{member.name}`"
            default = f" = `{member.value}`" if member.value is not None and "property" not in member.labels else ""
            fields.append(f"- {about}{default}{f'. {text}' if text else ''}")
        elif isinstance(member, griffe.Function):
            methods.append(f"- `{' '.join(_signature(member.name, member).split())}`{f'. {text}' if text else ''}")
    if fields:
        yield "Fields and properties:\n\n" + "\n".join(fields)
    if methods:
        yield "Methods:\n\n" + "\n".join(methods)


def _entry(name: str, item: griffe.Object) -> Iterator[str]:
    if isinstance(item, griffe.Class):
        yield from _class(name, item)
    elif isinstance(item, griffe.Function):
        yield f"```python\n{_signature(name, item)}\n```"
        yield _docstring(item)
    elif isinstance(item, griffe.Module):
        yield f"A module. {_docstring(item)}"
    else:
        annotation = getattr(item, "annotation", None)
        yield f"```python\n{name}{f': {annotation}' if annotation else ''}\n```"
        yield _docstring(item)


def page(package: str) -> str:
    """The page of one package, as Markdown."""
    parts = [f"# Reference: {package}", "Made from the docstrings by `python .ci/checks reference --write`."]
    for dotted, module in public.modules(package).items():
        parts += [f"## `{dotted}`", _docstring(module)]
        for name in public.names(module):
            item = public.definition(module, name)
            if item is not None and not name.startswith("__"):
                parts += [f"### `{name}`", *_entry(name, item)]
    return "\n\n".join(part for part in parts if part) + "\n"


def write() -> None:
    """Write every page."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for package in SOURCES:
        (FOLDER / f"{package}.md").write_text(page(package), encoding="utf-8")


def check() -> list[Finding]:
    """The pages that differ from the docstrings."""
    found = []
    for package in SOURCES:
        path = FOLDER / f"{package}.md"
        if not path.is_file() or path.read_text(encoding="utf-8") != page(package):
            name = path.relative_to(ROOT).as_posix()
            found.append(Finding(name, 1, "is out of date. Fix: python .ci/checks reference --write"))
    return found
