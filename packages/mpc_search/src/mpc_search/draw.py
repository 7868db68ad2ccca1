"""The history of a search as one page: how every alpha moved from epoch to epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mpc_search.errors import SearchError
from mpc_search.metrics import read


def draw_history(metrics: Path, page: Path, name: str = "alpha") -> Path:
    """Draw `name` (alpha or beta) of every layer against the epoch into a web page that needs no network.

    Raises SearchError where the run of that `metrics.jsonl` has none.
    """
    if not metrics.exists():
        raise SearchError(f"There is no {metrics}. Fix: name the folder that a search wrote (OUT.run).")
    seen = [line for line in read(metrics) if line["kind"] == "held_out" and name in line]
    if not seen:
        raise SearchError(f"{metrics} has no {name}. Fix: name the run of a search.")
    epochs, values = [line["epoch"] for line in seen], np.asarray([line[name] for line in seen])
    layers = values.shape[1]
    figure: Any = make_subplots(
        rows=1, cols=layers, shared_yaxes=True, subplot_titles=[f"layer {layer}" for layer in range(layers)]
    )
    for layer in range(layers):
        for unit in range(values.shape[2]):
            line = go.Scatter(x=epochs, y=values[:, layer, unit], name=f"{name} {layer}.{unit}", showlegend=False)
            figure.add_trace(line, row=1, col=layer + 1)
    figure.update_xaxes(title_text="epoch")
    figure.update_layout(title=f"{name}: 1 is the costly form, 0 the cheap one", height=420)
    page.write_text(figure.to_html(include_plotlyjs=True))
    return page
