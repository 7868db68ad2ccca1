"""Training batches as a function of the step alone, so that restarts and process counts do not change them."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator

import numpy as np

from mpc_search.data.images import ImageSet, Rows
from mpc_search.errors import SearchError

Batch = dict[str, np.ndarray]


class Batches:
    """The batches of a training run: number i holds this process's share of the rows of global step i.

    Every epoch goes once through its own order of the images, drawn from (seed, epoch), and leaves out what does not
    fill a batch (timm's loader does the same). Process p of n takes the p-th part of every batch.
    Raises SearchError where a batch is larger than the data or does not divide.
    """

    def __init__(
        self, data: ImageSet, batch: int, epochs: int, seed: int, process: int = 0, processes: int = 1
    ) -> None:
        if batch > len(data):
            raise SearchError(f"A batch of {batch} is more than all {len(data)} images. Fix: lower train.batch.")
        if batch % processes:
            raise SearchError(f"A batch of {batch} does not divide by {processes} processes. Fix: change train.batch.")
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
        """Rows of the data set in the global batch of `step`."""
        epoch, number = divmod(step, self.per_epoch)
        return self._order(epoch)[number * self._batch : (number + 1) * self._batch]

    def __getitem__(self, step: int) -> Batch:
        rows = self.rows(step)[self._mine]
        return {"images": self._data.pixels[rows], "labels": self._data.labels[rows]}

    def iterate(self, start: int) -> Iterator[Batch]:
        """Batches from step `start` to the last: read ahead by Grain's threads where images are decoded from files."""
        if not self._data.streamed:
            return (self[step] for step in range(start, len(self)))
        if importlib.util.find_spec("grain") is None:
            raise SearchError("Images that do not fit into memory need Grain. Fix: pip install 'mpc_search[folders]'.")
        import grain

        ahead = grain.ReadOptions(num_threads=8, prefetch_buffer_size=16)
        return iter(grain.MapDataset.source(self).slice(slice(start, None)).to_iter_dataset(ahead))
