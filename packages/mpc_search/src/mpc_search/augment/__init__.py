"""Augmentation of training images as jit-able functions."""

from mpc_search.augment.pipeline import Augment, make_augment

__all__ = ["Augment", "make_augment"]
