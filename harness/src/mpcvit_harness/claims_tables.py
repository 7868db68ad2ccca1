"""Claims and their verdicts as Markdown, for pages of the docs and for the command line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mpcvit_harness.claims import Claims, Tolerance
from mpcvit_harness.tables import markdown
from mpcvit_harness.verdicts import VERDICTS, Evaluation


def number(value: float | None, unit: str) -> str:
    """A value as it is shown."""
    if value is None:
        return ""
    return f"{value:.2f} {unit}" if unit else f"{value:.3f}"


def measured_value(evaluation: Evaluation) -> str:
    """What was measured, with the deviation over seeds where there are several."""
    value = number(evaluation.value, evaluation.claim.unit)
    return value if evaluation.deviation is None else f"{value} (s.d. {evaluation.deviation:.2f})"


def off(evaluation: Evaluation) -> str:
    """How far the measured value is from the paper's."""
    if evaluation.difference is None:
        return ""
    if evaluation.claim.tolerance.kind in ("absolute", "above"):
        return f"{evaluation.difference:+.2f} {evaluation.claim.unit}".rstrip()
    return f"{evaluation.difference * 100:+.1f} %"


def limits(tolerance: Tolerance) -> str:
    """A tolerance as it is shown: for reproduced, and for within shape."""
    if tolerance.kind == "absolute":
        return f"± {tolerance.reproduced:g}, ± {tolerance.within_shape:g}"
    if tolerance.kind == "above":
        return "interval above, mean above"
    sign = {"at_most": "+ ", "at_least": "- "}.get(tolerance.kind, "± ")
    return f"{sign}{tolerance.reproduced * 100:g} %, {sign}{tolerance.within_shape * 100:g} %"


def summary(claims: Claims, evaluations: Iterable[Evaluation]) -> str:
    """How many claims of each group have which verdict."""
    counts = Counter((evaluation.claim.group, evaluation.verdict) for evaluation in evaluations)
    rows = [
        (title, *(str(counts[group, verdict] or "") for verdict in VERDICTS)) for group, title in claims.groups.items()
    ]
    total = [sum(counts[group, verdict] for group in claims.groups) for verdict in VERDICTS]
    return markdown(("claims", *VERDICTS), [*rows, ("all", *map(str, total))])


def of_group(group: str, evaluations: Iterable[Evaluation], page: Path) -> str:
    """A row a claim of `group`, with links to its records from `page`."""
    rows = []
    for e in evaluations:
        if e.claim.group != group:
            continue
        links = " ".join(m.link(page, str(i)) for i, m in enumerate(e.records, 1))
        paper, value = number(e.claim.paper, e.claim.unit), measured_value(e)
        verdict = e.verdict if e.value is not None else f"not run: {e.why}"
        rows.append((e.claim.text, paper, value, str(e.n or ""), off(e), limits(e.claim.tolerance), verdict, links))
    head = ("claim", "paper", "measured", "n", "off by", "reproduced, within shape", "verdict", "records")
    return markdown(head, rows)


def of_tolerances(claims: Claims) -> str:
    """A row a tolerance."""
    kinds = {"at_most": "upper bound", "at_least": "lower bound", "above": "order"}
    rows = [(f"`{name}`", kinds.get(t.kind, t.kind), limits(t), t.about) for name, t in claims.tolerances.items()]
    return markdown(("tolerance", "kind", "reproduced, within shape", "for"), rows)
