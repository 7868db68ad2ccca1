"""`AttentionPlan`: which heads, rows or layers keep the costly attention, and which tokens keep GeLU."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .config import ViTConfig
from .types import NpArray

ATTENTION_LEVELS = ("layer", "head", "row")
GELU_LEVELS = ("layer", "token")


@dataclass(frozen=True)
class Choice:
    """One layer's choice: `on[i]` is 1 where unit i (the layer, a head, a query row or a token) keeps the costly form."""

    level: str
    on: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.level not in (*ATTENTION_LEVELS, *GELU_LEVELS):
            raise ValueError(
                f"unknown plan level {self.level!r}; use one of layer, head, row (attention), token (gelu)"
            )
        if not isinstance(self.on, tuple) or not self.on:
            raise ValueError("a plan layer needs a non-empty tuple of 0 and 1")
        if any(type(v) is not int or v not in (0, 1) for v in self.on):
            raise ValueError(f"plan entries must be the integers 0 or 1, got {self.on}; binarise alpha with from_alpha")
        if self.level == "layer" and len(self.on) != 1:
            raise ValueError(f"a plan at layer level has one entry a layer, got {len(self.on)}")


Layers = tuple[Choice, ...]


@dataclass(frozen=True)
class AttentionPlan:
    """Static architecture choice for every layer; hashable, so it can be a static argument of `jax.jit`.

    `attention[i]` says which units of layer i are "on" (ReLU-Softmax in MPCViT) and which "off" (Scale); None leaves
    attention to the caller. `gelu[i]` says which tokens of layer i keep the MLP's activation; None keeps all.
    `post_relu` adds the ReLU after the second linear on tokens without activation (MPCViT+). Levels may differ from
    layer to layer. Raises ValueError on entries that are no plan. Source: paper sec. on MPCViT and MPCViT+.
    """

    attention: Layers | None = None
    gelu: Layers | None = None
    post_relu: bool = False

    def __post_init__(self) -> None:
        for part, layers, levels in (
            ("attention", self.attention, ATTENTION_LEVELS),
            ("gelu", self.gelu, GELU_LEVELS),
        ):
            if layers is None:
                continue
            if not isinstance(layers, tuple) or not layers or not all(isinstance(c, Choice) for c in layers):
                raise ValueError(f"plan.{part} must be a non-empty tuple of Choice, one a layer")
            for i, choice in enumerate(layers):
                if choice.level not in levels:
                    raise ValueError(f"plan.{part}[{i}] has level {choice.level!r}; {part} knows {', '.join(levels)}")
        if type(self.post_relu) is not bool:
            raise ValueError(f"plan.post_relu must be true or false, got {self.post_relu!r}")

    # -- making -------------------------------------------------------------------------------------------------

    @staticmethod
    def from_heads(alpha: Any) -> AttentionPlan:
        """Head-level plan from a (layers, heads) array of exact 0 and 1. Raises ValueError on anything else."""
        return AttentionPlan(attention=_binary(alpha, "head"))

    @staticmethod
    def from_layers(alpha: Any) -> AttentionPlan:
        """Layer-level plan from a (layers,) array of exact 0 and 1. Raises ValueError on anything else."""
        return AttentionPlan(attention=_binary(np.asarray(alpha).reshape(-1, 1), "layer"))

    @staticmethod
    def from_rows(alpha: Any) -> AttentionPlan:
        """Row-level plan from a (layers, tokens) array of exact 0 and 1. Raises ValueError on anything else."""
        return AttentionPlan(attention=_binary(alpha, "row"))

    @staticmethod
    def from_alpha(alpha: Any, mu: float, level: str = "head") -> AttentionPlan:
        """Keep the fraction `mu` of all units with the largest searched alpha, ranked over all layers together.

        `alpha` is (layers, units): heads, rows or, at layer level, one column or none. Of L*U units the
        int((1 - mu) * L * U) smallest are switched off. Raises ValueError unless 0 <= mu <= 1 and the level is known.
        Source: the original's train.py (`--rs-ratio`), a global ranking and not one per layer.
        """
        return AttentionPlan(attention=_binary(top_k(alpha, mu), _known(level, ATTENTION_LEVELS)))

    @staticmethod
    def uniform(cfg: ViTConfig, on: bool) -> AttentionPlan:
        """The plan with every head of `cfg` on, or every head off."""
        return AttentionPlan.from_heads(np.full((cfg.layers, cfg.heads), int(on)))

    def with_gelu(self, beta: Any, post_relu: bool = True) -> AttentionPlan:
        """The same plan with a GeLU part: `beta` of exact 0 and 1, (layers, tokens) or (layers,).

        Raises ValueError on anything else. Source: MPCViT+, the original's transformers.py (`--linear-gelu`).
        """
        b = np.asarray(beta)
        part = _binary(b.reshape(-1, 1), "layer") if b.ndim == 1 else _binary(b, "token")
        return replace(self, gelu=part, post_relu=post_relu)

    # -- checking -----------------------------------------------------------------------------------------------

    def check(self, cfg: ViTConfig) -> None:
        """Raise ValueError, naming the fix, unless this plan fits `cfg`."""
        sizes = {"layer": 1, "head": cfg.heads, "row": cfg.tokens, "token": cfg.tokens}
        for part, layers in (("attention", self.attention), ("gelu", self.gelu)):
            if layers is None:
                continue
            if len(layers) != cfg.layers:
                raise ValueError(
                    f"plan.{part} has {len(layers)} layers but {cfg.name} has {cfg.layers}; "
                    f"make the plan for this model (one entry a layer)"
                )
            for i, choice in enumerate(layers):
                if len(choice.on) != sizes[choice.level]:
                    raise ValueError(
                        f"plan.{part}[{i}] has {len(choice.on)} {choice.level} entries but {cfg.name} has "
                        f"{sizes[choice.level]}; make the plan for this model"
                    )

    # -- crossing files -----------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Canonical JSON: equal plans give equal text."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON-ready values."""

        def part(layers: Layers | None) -> list[dict[str, Any]] | None:
            return None if layers is None else [{"level": c.level, "on": list(c.on)} for c in layers]

        return {
            "schema": 1,
            "attention": part(self.attention),
            "gelu": part(self.gelu),
            "post_relu": self.post_relu,
        }

    @staticmethod
    def from_json(text: str) -> AttentionPlan:
        """Inverse of `to_json`. Raises ValueError, one line, on malformed text or a malformed plan."""
        try:
            values = json.loads(text)
        except (TypeError, ValueError) as error:
            raise ValueError(f"plan is not JSON: {error}") from None
        return AttentionPlan.from_dict(values)

    @staticmethod
    def from_dict(values: Any) -> AttentionPlan:
        """Inverse of `to_dict`. Raises ValueError on a malformed plan."""
        if not isinstance(values, dict) or set(values) != {"schema", "attention", "gelu", "post_relu"}:
            raise ValueError("plan must be an object with exactly schema, attention, gelu and post_relu")
        if type(values["schema"]) is not int or values["schema"] != 1:
            raise ValueError(f"plan schema {values['schema']!r} is not known; this version reads schema 1")

        if type(values["post_relu"]) is not bool:
            raise ValueError(f"plan.post_relu must be true or false, got {values['post_relu']!r}")

        def part(name: str) -> Layers | None:
            layers = values[name]
            if layers is None:
                return None
            if not isinstance(layers, list):
                raise ValueError(f"plan.{name} must be null or a list with one object a layer")  # noqa: TRY004
            for i, c in enumerate(layers):
                if not isinstance(c, dict) or set(c) != {"level", "on"} or not isinstance(c["on"], list):
                    raise ValueError(f"plan.{name}[{i}] must be an object with level and on (a list of 0 and 1)")
                if not isinstance(c["level"], str) or not all(type(v) is int for v in c["on"]):
                    raise ValueError(f"plan.{name}[{i}]: level must be a string and on a list of integers 0 and 1")
            return tuple(Choice(c["level"], tuple(c["on"])) for c in layers)

        return AttentionPlan(part("attention"), part("gelu"), values["post_relu"])

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON: equal in every process, different for different plans."""
        return hashlib.sha256(self.to_json().encode("ascii")).hexdigest()


def top_k(alpha: Any, mu: float) -> NpArray:
    """0/1 array of alpha's shape: 1 for the units left when the int((1 - mu) * size) smallest are switched off.

    Ties keep the later unit, as an ascending stable ranking does. Raises ValueError unless 0 <= mu <= 1 and alpha
    is finite.
    """
    a = np.asarray(alpha, dtype=np.float64)
    if not 0.0 <= mu <= 1.0:
        raise ValueError(f"mu must lie in [0, 1], got {mu}")
    if a.size == 0 or not np.all(np.isfinite(a)):
        raise ValueError("alpha must be a non-empty array of finite numbers")
    # The published head counts come from truncating the binary product itself, so no rounding is put before int().
    off = int((1 - mu) * a.size)
    on = np.ones(a.size, dtype=np.int64)
    on[np.argsort(a.reshape(-1), kind="stable")[:off]] = 0
    return on.reshape(a.shape if a.ndim > 1 else (-1, 1))


def _known(level: str, levels: Sequence[str]) -> str:
    if level not in levels:
        raise ValueError(f"unknown level {level!r}; use one of {', '.join(levels)}")
    return level


def _binary(values: Any, level: str) -> Layers:
    a = np.asarray(values)
    if a.ndim != 2 or a.size == 0:
        raise ValueError(f"a {level}-level plan needs a (layers, units) array, got shape {a.shape}")
    if not np.all((a == 0) | (a == 1)):
        raise ValueError(
            f"a {level}-level plan needs exact 0 and 1; binarise searched values with from_alpha(alpha, mu)"
        )
    return tuple(Choice(level, tuple(int(v) for v in row)) for row in a)
