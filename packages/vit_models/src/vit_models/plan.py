"""`AttentionPlan`: which heads, rows or layers keep the costly attention, and which tokens keep GeLU."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .config import ViTConfig
from .errors import ModelError, unknown_name
from .types import Level, NpArray

ATTENTION_LEVELS: tuple[Level, ...] = ("layer", "head", "row")
GELU_LEVELS: tuple[Level, ...] = ("layer", "token")


@dataclass(frozen=True)
class Choice:
    """One layer's choice: `on[i]` is 1 where unit i keeps the costly form.

    Units are the layer, its heads, its query rows or its tokens. Raises ModelError on an unknown level and on entries
    that are not the integers 0 and 1.
    """

    level: Level
    on: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.level not in (*ATTENTION_LEVELS, *GELU_LEVELS):
            raise unknown_name("plan level", self.level, (*ATTENTION_LEVELS, *GELU_LEVELS[1:]))
        if not isinstance(self.on, tuple) or not self.on or any(type(v) is not int or v not in (0, 1) for v in self.on):
            raise ModelError(
                f"The entries of a plan layer are {self.on!r}, not the integers 0 and 1.",
                "give a non-empty tuple of 0 and 1; make one from searched values with AttentionPlan.from_alpha.",
            )
        if self.level == "layer" and len(self.on) != 1:
            raise ModelError(
                f"A plan layer at level 'layer' has {len(self.on)} entries.", "give it one entry.", "bad_shape"
            )


Layers = tuple[Choice, ...]


@dataclass(frozen=True)
class AttentionPlan:
    """Static architecture choice for every layer; hashable, so it can be a static argument of `jax.jit`.

    `attention[i]` says which units of layer i are "on" (ReLU-Softmax in MPCViT) and which "off" (Scale); None leaves
    attention to the model. `gelu[i]` says which tokens of layer i keep the MLP's activation; None keeps all.
    `post_relu` adds the ReLU after the second linear on tokens without activation (MPCViT+). Levels may differ from
    layer to layer. Raises ModelError on malformed entries. Source: paper sec. on MPCViT and MPCViT+.
    """

    attention: Layers | None = None
    gelu: Layers | None = None
    post_relu: bool = False

    def __post_init__(self) -> None:
        for part, layers in self._parts():
            if not isinstance(layers, tuple) or not layers or not all(isinstance(c, Choice) for c in layers):
                raise ModelError(f"plan.{part} is not a tuple of Choice.", "give one Choice for each layer.")
            levels = ATTENTION_LEVELS if part == "attention" else GELU_LEVELS
            for i, choice in enumerate(layers):
                if choice.level not in levels:
                    raise unknown_name(f"level of plan.{part}[{i}]", choice.level, levels)
        if type(self.post_relu) is not bool:
            raise ModelError(f"plan.post_relu is {self.post_relu!r}.", "use true or false.")

    def _parts(self) -> Iterator[tuple[str, Layers]]:
        """The parts that this plan has, by name."""
        if self.attention is not None:
            yield "attention", self.attention
        if self.gelu is not None:
            yield "gelu", self.gelu

    @staticmethod
    def from_heads(alpha: Any) -> AttentionPlan:
        """Head-level plan from a (layers, heads) array of exact 0 and 1. Raises ModelError on anything else."""
        return AttentionPlan(attention=_binary(alpha, "head"))

    @staticmethod
    def from_layers(alpha: Any) -> AttentionPlan:
        """Layer-level plan from a (layers,) array of exact 0 and 1. Raises ModelError on anything else."""
        return AttentionPlan(attention=_binary(np.asarray(alpha).reshape(-1, 1), "layer"))

    @staticmethod
    def from_rows(alpha: Any) -> AttentionPlan:
        """Row-level plan from a (layers, tokens) array of exact 0 and 1. Raises ModelError on anything else."""
        return AttentionPlan(attention=_binary(alpha, "row"))

    @staticmethod
    def from_alpha(alpha: Any, mu: float, level: str = "head") -> AttentionPlan:
        """Keep the fraction `mu` of all units with the largest searched alpha, ranked over all layers together.

        `alpha` is (layers, units): heads, rows or, at layer level, one column or none. Of L*U units the
        int((1 - mu) * L * U) smallest are switched off. Raises ModelError unless 0 <= mu <= 1 and the level is known.
        Source: the original's train.py (`--rs-ratio`), a global ranking and not one per layer.
        """
        return AttentionPlan(attention=_binary(top_k(alpha, mu), _attention_level(level)))

    @staticmethod
    def uniform(cfg: ViTConfig, on: bool) -> AttentionPlan:
        """The plan with every head of `cfg` on, or every head off."""
        return AttentionPlan.from_heads(np.full((cfg.layers, cfg.heads), int(on)))

    def with_gelu(self, beta: Any, post_relu: bool = True) -> AttentionPlan:
        """The same plan with a GeLU part: `beta` of exact 0 and 1, (layers, tokens) or (layers,).

        Raises ModelError on anything else. Source: MPCViT+, the original's transformers.py (`--linear-gelu`).
        """
        b = np.asarray(beta)
        part = _binary(b.reshape(-1, 1), "layer") if b.ndim == 1 else _binary(b, "token")
        return replace(self, gelu=part, post_relu=post_relu)

    def check(self, cfg: ViTConfig) -> None:
        """Raise ModelError unless this plan fits `cfg`."""
        sizes = {"layer": 1, "head": cfg.heads, "row": cfg.tokens, "token": cfg.tokens}
        fix = "make the plan for this model, with one entry for each layer."
        for part, layers in self._parts():
            if len(layers) != cfg.layers:
                problem = f"plan.{part} has {len(layers)} layers but {cfg.name} has {cfg.layers}."
                raise ModelError(problem, fix, "mismatch")
            for i, choice in enumerate(layers):
                if len(choice.on) != sizes[choice.level]:
                    problem = (
                        f"plan.{part}[{i}] has {len(choice.on)} {choice.level} entries but {cfg.name} has "
                        f"{sizes[choice.level]}."
                    )
                    raise ModelError(problem, fix, "mismatch")

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
        """Inverse of `to_json`. Raises ModelError, one line, on malformed text or a malformed plan."""
        try:
            values = json.loads(text)
        except (TypeError, ValueError) as error:
            raise _malformed(f"is not JSON: {error}") from None
        return AttentionPlan.from_dict(values)

    @staticmethod
    def from_dict(values: Any) -> AttentionPlan:
        """Inverse of `to_dict`. Raises ModelError on a malformed plan."""
        if not isinstance(values, dict) or set(values) != {"schema", "attention", "gelu", "post_relu"}:
            raise _malformed("is not an object with exactly schema, attention, gelu and post_relu")
        if type(values["schema"]) is not int or values["schema"] != 1:
            raise _malformed(f"has schema {values['schema']!r}, and this version reads schema 1")
        if type(values["post_relu"]) is not bool:
            raise _malformed(f"has post_relu {values['post_relu']!r}, which is not true or false")
        return AttentionPlan(
            _read_layers("attention", values["attention"]), _read_layers("gelu", values["gelu"]), values["post_relu"]
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON: equal in every process, different for different plans."""
        return hashlib.sha256(self.to_json().encode("ascii")).hexdigest()


def top_k(alpha: Any, mu: float) -> NpArray:
    """0/1 array of alpha's shape: 1 for the units left when the int((1 - mu) * size) smallest are switched off.

    Ties keep the later unit, as an ascending stable ranking does. Raises ModelError unless 0 <= mu <= 1 and alpha
    is finite.
    """
    a = np.asarray(alpha, dtype=np.float64)
    if not 0.0 <= mu <= 1.0:
        raise ModelError(f"mu is {mu}.", "give a mu between 0 and 1.")
    if a.size == 0 or not np.all(np.isfinite(a)):
        raise ModelError("alpha is empty or not finite.", "give a non-empty array of finite numbers.")
    # Without rounding before int(): the published head counts come from truncating the binary product itself.
    off = int((1 - mu) * a.size)
    on = np.ones(a.size, dtype=np.int64)
    on[np.argsort(a.reshape(-1), kind="stable")[:off]] = 0
    return on.reshape(a.shape if a.ndim > 1 else (-1, 1))


def _malformed(problem: str) -> ModelError:
    return ModelError(f"The plan {problem}.", "write plans with AttentionPlan.to_json.", "bad_file")


def _read_layers(part: str, layers: Any) -> Layers | None:
    if layers is None:
        return None
    if not isinstance(layers, list):
        raise _malformed(f"has a {part} part that is neither null nor a list with one object for each layer")
    for i, choice in enumerate(layers):
        if not isinstance(choice, dict) or set(choice) != {"level", "on"} or not isinstance(choice["on"], list):
            raise _malformed(f"has {part}[{i}] that is not an object with level and on (a list of 0 and 1)")
        if not isinstance(choice["level"], str) or not all(type(v) is int for v in choice["on"]):
            raise _malformed(f"has {part}[{i}] whose level is not a string, or whose on is not a list of 0 and 1")
    return tuple(Choice(choice["level"], tuple(choice["on"])) for choice in layers)


def _attention_level(name: str) -> Level:
    for level in ATTENTION_LEVELS:
        if level == name:
            return level
    raise unknown_name("plan level", name, ATTENTION_LEVELS)


def _binary(values: Any, level: Level) -> Layers:
    a = np.asarray(values)
    if a.ndim != 2 or a.size == 0:
        raise ModelError(
            f"A plan at {level} level was given shape {a.shape}.", "give a (layers, units) array.", "bad_shape"
        )
    if not np.all((a == 0) | (a == 1)):
        raise ModelError(
            f"A plan at {level} level was given values other than 0 and 1.",
            "make a plan from searched values with AttentionPlan.from_alpha(alpha, mu).",
        )
    return tuple(Choice(level, tuple(int(v) for v in row)) for row in a)
