"""Tables as HTML, by the template beside this module: the report's pages hold what it returns."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mpcvit_harness.tables.table import Table

_ENVIRONMENT = Environment(
    loader=PackageLoader("mpcvit_harness.tables", ""),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)


def html(table: Table, *, up: str = "", controls: bool = False) -> Markup:
    """The table as HTML. `up` leads from the page to the report's root; `controls` sort, filter and search its rows."""
    return Markup(_ENVIRONMENT.get_template("table.html").render(table=table, up=up, controls=controls))
