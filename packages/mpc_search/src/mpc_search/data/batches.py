"""Training batches as a function of the step, so that restarts and the number of processes do not change them."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from mpc_search.data.images import ImageSet, Rows
from mpc_search.errors import SearchError

Batch = dict[str, npt.NDArray[Any]]
"""Arrays by name: images as bytes, labels, and for an evaluation which rows are valid."""


class Batches:
    """The batches of a training run. Batch i has this process's rows of step i.

    Each epoch goes through the images once, in an order drawn from (seed, epoch), and leaves out the rows that do not
    fill a batch, as timm's loader does. Process p of n takes the p-th part of every batch. Raises SearchError when a
    batch is larger than the data, or does not divide by the number of processes.
    """

    def __init__(
        self, data: ImageSet, batch: int, epochs: int, seed: int, process: int = 0, processes: int = 1
    ) -> None:
        if batch > len(data):
            raise SearchError(f"A batch of {batch} is larger than the data, {len(data)} images.", "lower train.batch.")
        if batch % processes:
            raise SearchError(f"A batch of {batch} does not divide by {processes} processes.", "change train.batch.")
        self._data, self._batch, self._seed = data, batch, seed
        self.per_epoch = len(data) // batch
        self._steps = self.per_epoch * epochs
        share = batch // processes
        self._mine = slice(process * share, (process + 1) * share)
        self._order = functools.lru_cache(maxsize=2)(self._draw)

    def _draw(self, epoch: int) -> Rows:
        return np.random.default_rng([self._seed, epoch]).permutation(len(self._data))

    def __len__(self) -> int:
        return self._steps

    def rows(self, step: int) -> Rows:
        """Rows of the data set in the batch of `step`, for all processes."""
        epoch, number = divmod(step, self.per_epoch)
        return self._order(epoch)[number * self._batch : (number + 1) * self._batch]

    def __getitem__(self, step: int) -> Batch:
        rows = self.rows(step)[self._mine]
        return {"images": self._data.pixels[rows], "labels": self._data.labels[rows]}

    def iterate(self, start: int) -> Iterator[Batch]:
        """Batches from step `start` to the last. If images are decoded from files, Grain's threads read ahead."""
        if not self._data.streamed:
            return (self[step] for step in range(start, len(self)))
        if importlib.util.find_spec("grain") is None:
            raise SearchError(
                "Images that do not fit into memory need Grain.",
                "run `pip install 'mpc_search[folders]'`, or raise data.memory_gib.",
                "environment",
            )
        import grain

        ahead = grain.ReadOptions(num_threads=8, prefetch_buffer_size=16)
        return iter(grain.MapDataset.source(self).slice(slice(start, None)).to_iter_dataset(ahead))
