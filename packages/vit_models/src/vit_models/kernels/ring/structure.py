"""What is public of a folded model: the structure of its ring program, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...config import ViTConfig
from ...types import NpArray
from ..tuned_fxp.supported import Kind
from .gelu import GeluPlan
from .norm import NormPlan


@dataclass(frozen=True)
class LayerPlan:
    """One block: its norms, heads, activation (None: ReLU), and the tokens that keep it.

    `kept` None means all tokens, () none: then both linears of the MLP are one matrix, part of the product after norm1.

    `attended_cut` and `written_cut` are the truncations of what attention and MLP write to the residual stream.
    """

    pre_norm: NormPlan
    kinds: tuple[Kind, ...]
    attended_cut: int
    norm1: NormPlan
    gelu: GeluPlan | None
    kept: tuple[int, ...] | None
    written_cut: int


@dataclass(frozen=True)
class RingPlan:
    """The structure of a model's ring program."""

    cfg: ViTConfig
    embedded_cut: int
    layers: tuple[LayerPlan, ...]
    final: NormPlan


@dataclass(frozen=True)
class Folded:
    """The ring program of a model: its structure, and its secret whole numbers (float64) by dotted name."""

    plan: RingPlan
    arrays: Mapping[str, NpArray]
