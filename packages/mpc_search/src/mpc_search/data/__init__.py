"""Data sets, and training batches of them in an order that a seed fixes."""

from mpc_search.data.batches import Batch, Batches
from mpc_search.data.images import ImageSet, normalise
from mpc_search.data.registry import FASHION_MNIST, SOURCES, fashion_mnist, install, load

__all__ = [
    "FASHION_MNIST",
    "SOURCES",
    "Batch",
    "Batches",
    "ImageSet",
    "fashion_mnist",
    "install",
    "load",
    "normalise",
]
