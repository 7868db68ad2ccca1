"""Networks as values, the shapers that realise them, and the probe that proves them."""

from spu_bench.network.model import Network

__all__ = ["Network"]
