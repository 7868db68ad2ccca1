"""The history of a search as a web page: every alpha or beta from epoch to epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from mpc_search.errors import SearchError
from mpc_search.metrics import EvaluationLine, read_metrics


def draw_history(metrics: Path, page: Path, name: Literal["alpha", "beta"] = "alpha") -> Path:
    """Draw alpha or beta of every layer against the epoch into a web page that needs no network.

    `metrics` is the `metrics.jsonl` of a search. Raises SearchError when it has no such values.
    """
    if not metrics.exists():
        raise SearchError(f"There is no {metrics}.", "give the folder OUT.run of a search.")
    lines = [line for line in read_metrics(metrics) if isinstance(line, EvaluationLine)]
    found = [(line.epoch, line.alpha if name == "alpha" else line.beta) for line in lines]
    epochs = [epoch for epoch, values in found if values is not None]
    if not epochs:
        raise SearchError(f"{metrics} has no {name}.", "give the folder OUT.run of a search.")
    history = np.asarray([values for _, values in found if values is not None])
    layers = history.shape[1]
    titles = [f"layer {layer}" for layer in range(layers)]
    figure = make_subplots(rows=1, cols=layers, shared_yaxes=True, subplot_titles=titles)
    for layer in range(layers):
        for unit in range(history.shape[2]):
            line = go.Scatter(x=epochs, y=history[:, layer, unit], name=f"{name} {layer}.{unit}", showlegend=False)
            figure.add_trace(line, row=1, col=layer + 1)
    figure.update_xaxes(title_text="epoch")
    figure.update_layout(title=f"{name}: 1 is the costly form, 0 the cheap one", height=420)
    page.write_text(figure.to_html(include_plotlyjs=True))
    return page
