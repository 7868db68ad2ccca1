"""The folder of the report: writes its pages, folds their closed parts away, and removes pages of an earlier build."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections import defaultdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from mpcvit_harness.tables.html import html
from mpcvit_harness.tables.table import Table
from spu_bench.record import write_whole

FOLDED = "folded.js"
"""In each folder of pages: the closed parts of its pages, packed together, which takes a tenth of the space."""

_OPTIONAL_END_TAG = re.compile(r"</(td|th|tr|dt|dd|li)>")
"""End tags that HTML does not need: a tenth of a page."""

_CLOSED = re.compile(r"(<details><summary>[^<]*</summary>)(.*?)(</details>)", re.DOTALL)
"""A part that is closed until a reader opens it."""


class Site:
    """The folder of the report.

    The closed parts of pages are in their folder's FOLDED, by the page's name and in order; report.js puts them back.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.written: set[Path] = set()
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
        path = self.out / name
        if folds:
            self.folded[path.parent][path.name] = [match[2] for match in _CLOSED.finditer(text)]
            text = _CLOSED.sub(r"\1\3", text)
        write_whole(path, text)
        self.written.add(path)

    def write_folded_parts(self) -> None:
        """Write the closed parts of all pages."""
        for folder, pages in self.folded.items():
            packed = base64.b64encode(zlib.compress(json.dumps(pages).encode(), 9)).decode()
            write_whole(folder / FOLDED, f'const folded = "{packed}";\n')
            self.written.add(folder / FOLDED)

    def write_table(self, table: Table) -> None:
        """Write a table as CSV and as Markdown."""
        write_whole(self.out / f"{table.name}.csv", table.csv())
        write_whole(self.out / f"{table.name}.md", table.markdown())

    def remove_old_pages(self) -> None:
        """Remove the pages of records that are gone."""
        for folder in ("cells", "trainings", "machines"):
            there = {path for path in (self.out / folder).glob("**/*") if path.is_file()}
            for old in there - self.written:
                old.unlink()
