"""The folder of the report: its pages with their closed parts folded away. It replaces only what a build wrote."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mpcvit_harness.errors import HarnessError
from mpcvit_harness.tables.html import html
from mpcvit_harness.tables.table import Table

FOLDED = "folded.js"
"""In each folder of pages: the closed parts of its pages, packed together, which takes a tenth of the space."""

MARKER = ".mpcvit-report.json"
"""In the root of the report: the list of files that builds wrote. A build replaces and removes these, and no others."""

_NEW = ".mpcvit-report.new"
"""The file that is being written, before it gets its name."""

_OPTIONAL_END_TAG = re.compile(r"</(td|th|tr|dt|dd|li)>")
"""End tags that HTML does not need: a tenth of a page."""

_CLOSED = re.compile(r"(<details><summary>[^<]*</summary>)(.*?)(</details>)", re.DOTALL)
"""A part that is closed until a reader opens it."""


class Site:
    """The folder of the report. Nothing is written before `publish`.

    Raises HarnessError where `out` holds a file that no build wrote. The closed parts of pages are in their folder's
    FOLDED, by the page's name and in order; report.js puts them back.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.old = _own_files(out)
        self.files: dict[str, bytes] = {}
        self.folded: defaultdict[Path, dict[str, list[str]]] = defaultdict(dict)
        self.templates = Environment(
            loader=PackageLoader("mpcvit_harness.report"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        self.templates.globals["table"] = html

    def write_page(self, name: str, template: str, *, folds: bool = False, **values: Any) -> None:
        """Write a page; one that `folds` leaves its closed parts to its folder."""
        up = "../" * (len(Path(name).parts) - 1)
        text = self.templates.get_template(template).render(up=up, folds=folds, **values)
        text = "\n".join(filter(None, map(str.strip, _OPTIONAL_END_TAG.sub("", text).splitlines()))) + "\n"
        if folds:
            path = Path(name)
            self.folded[path.parent][path.name] = [match[2] for match in _CLOSED.finditer(text)]
            text = _CLOSED.sub(r"\1\3", text)
        self.write(name, text)

    def write(self, name: str, content: str | bytes) -> None:
        """Keep a file of the report; `name` is its path below the root."""
        self.files[name] = content.encode(errors="replace") if isinstance(content, str) else content

    def write_folded_parts(self) -> None:
        """Write the closed parts of all pages."""
        for folder, pages in self.folded.items():
            packed = base64.b64encode(zlib.compress(json.dumps(pages).encode(), 9)).decode()
            self.write((folder / FOLDED).as_posix(), f'const folded = "{packed}";\n')

    def write_table(self, table: Table) -> None:
        """Write a table as CSV and as Markdown."""
        self.write(f"{table.name}.csv", table.csv())
        self.write(f"{table.name}.md", table.markdown())

    def publish(self) -> None:
        """Put the files in place of those of an earlier build. Raises HarnessError where they cannot be written.

        The marker names old and new files until the end, so that a build that is stopped leaves no file unknown.
        """
        try:
            self._put(MARKER, _marker(self.old | set(self.files)))
            for name, content in self.files.items():
                self._put(name, content)
            for name in self.old - set(self.files):
                self._remove(name)
            self._put(MARKER, _marker(set(self.files)))
        except OSError as error:
            raise HarnessError(
                f"the report cannot be written to {self.out} ({error.strerror})",
                "make space, or give --out a folder that you can write to, and build again",
                "environment",
            ) from error

    def _put(self, name: str, content: bytes) -> None:
        path, new = self.out / name, self.out / _NEW
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(content)
        os.replace(new, path)

    def _remove(self, name: str) -> None:
        (self.out / name).unlink(missing_ok=True)
        for folder in Path(name).parents[:-1]:
            with contextlib.suppress(OSError):  # it holds something else
                (self.out / folder).rmdir()


def _marker(files: set[str]) -> bytes:
    return (json.dumps({"files": sorted(files)}, indent=1) + "\n").encode()


def _own_files(out: Path) -> set[str]:
    """The files in `out` that builds wrote; raises HarnessError where there is any other."""
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise HarnessError(f"{out} is not a folder", "give --out a new or empty folder")
    found = set(_files(out)) - {MARKER, _NEW}
    try:
        own = set(json.loads((out / MARKER).read_text())["files"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        own = set()
    if foreign := sorted(found - own):
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise HarnessError(
            f"{out} holds files that no build of a report wrote: {', '.join(foreign[:3])}{more}",
            "give --out a new or empty folder, or move these files away",
        )
    return found


def _files(folder: Path) -> Iterator[str]:
    """The paths below `folder` of everything that is no real folder: links are not followed."""
    for at, folders, names in os.walk(folder):
        links = (name for name in folders if (Path(at) / name).is_symlink())
        for name in (*names, *links):
            yield (Path(at) / name).relative_to(folder).as_posix()
