"""Augmentation of training images, as functions that JAX can compile."""

from mpc_search.augment.pipeline import Augment, make_augment

__all__ = ["Augment", "make_augment"]
