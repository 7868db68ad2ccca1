"""Tables of the docs, the report and the command line.

Every table is a `Table`. The tables that pages of the docs can hold are registered where they stand, in the modules of
this folder, and made from a `Context`.
"""

from mpcvit_harness.tables import (  # noqa: F401 - importing a module registers its tables
    accuracy,
    claim_verdicts,
    first_inference,
    open_division,
    paper_division,
    peer_systems,
    predicted_latency,
    shaped_links,
)
from mpcvit_harness.tables.columns import floor_s
from mpcvit_harness.tables.registry import Context, make_table, table, table_names
from mpcvit_harness.tables.table import Column, Entry, Href, Note, Table

__all__ = [
    "Column",
    "Context",
    "Entry",
    "Href",
    "Note",
    "Table",
    "floor_s",
    "make_table",
    "table",
    "table_names",
]
