"""Bring the records of a store up to date: schema, fingerprints, file names, and the labels of their cells."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from mpcvit_harness.cell_record import CellRecord
from mpcvit_harness.cells import AnyCell, Cell
from mpcvit_harness.store import Store, all_records


@dataclass
class Migration:
    """What a migration did: files by their old and new path, and for every other file of note, why.

    `refused` are files that stay as they are: not records, or with a new name that another file has. `notes` are
    records that were brought up to date although no experiment has their cell, or measures it in another way.
    """

    changed: list[tuple[Path, Path]] = field(default_factory=list)
    unchanged: int = 0
    refused: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[tuple[Path, str]] = field(default_factory=list)


def migrate(results: Path, cells: list[AnyCell]) -> Migration:
    """Migrate every record below `results`; `cells` are those of today's experiments, and give the labels.

    A record keeps all that was measured, and the identity of the cell that it was measured for. A second migration
    changes nothing.
    """
    today = {_name(cell): cell for cell in cells if isinstance(cell, Cell)}
    done = Migration()
    for path, record in list(all_records(results)):
        if isinstance(record, str):
            done.refused.append((path, record))
            continue
        cell = _labelled(record.cell, today.get(_name(record.cell)), path, done)
        target = Store(results, path.relative_to(results).parts[0]).path(cell)
        if target != path and target.exists():
            done.refused.append((path, f"{target} is there already"))
            continue
        migrated = CellRecord.of(cell, record)
        if target == path and json.loads(path.read_text()) == migrated.model_dump(mode="json"):
            done.unchanged += 1
            continue
        migrated.save(target)
        if target != path:
            path.unlink()
        done.changed.append((path, target))
    return done


def _name(cell: Cell) -> tuple[str, str, str, str]:
    return cell.experiment, cell.name, cell.protocol, cell.network_name


def _labelled(cell: Cell, today: Cell | None, path: Path, done: Migration) -> Cell:
    """`cell` with what today's cell of that name says of it beside its identity."""
    if today is None:
        done.notes.append((path, f"no experiment has the cell {cell.key}: its labels stay as they are"))
        return cell
    now, then = today.on(cell.executor).identity(), cell.identity()
    if now != then:
        changed = {key: (then.get(key), now.get(key)) for key in now | then if now.get(key) != then.get(key)}
        done.notes.append((path, f"the experiment measures {cell.key} differently now: {json.dumps(changed)}"))
    return cell.model_copy(update={"labels": today.labels, "may_be_wrong": today.may_be_wrong})
