"""Architectures of the family as values: a `ViTConfig` fixes every shape of a model and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .errors import ModelError, unknown_name
from .types import Pool


@dataclass(frozen=True)
class ConvTokenizer:
    """Convolutional tokenizer of a CCT: `layers` times convolution (no bias), ReLU, max pooling.

    Sizes are in pixels; `hidden` is the channel count between two convolutions. Source: Compact-Transformers,
    the code base that MPCViT grew from.
    """

    layers: int = 1
    kernel: int = 3
    stride: int = 1
    padding: int = 1
    pool_kernel: int = 3
    pool_stride: int = 2
    pool_padding: int = 1
    hidden: int = 64


@dataclass(frozen=True)
class ViTConfig:
    """Shapes of one model: everything needed to lay out its parameters.

    `image_size` and `patch` are in pixels, `dim` is the token width C, `mlp_ratio` the hidden width of the MLP
    over C. `head_dim` is C / heads unless given; giving it with fewer heads is the paper's "ReLU-Softmax with
    fewer heads" baseline (the removed heads' slices of qkv and proj do not exist). With `conv` the CCT tokenizer
    replaces the patch embedding, and `pool="sequence"` replaces the class token by attention pooling.
    `attention_dropout`, `stochastic_depth` and `dropout` act only while training. Raises ModelError on shapes that
    do not fit. Source: the original's src/vit.py and src/utils/transformers.py.
    """

    name: str = "vit"
    image_size: int = 32
    channels: int = 3
    patch: int = 4
    layers: int = 7
    heads: int = 4
    dim: int = 256
    mlp_ratio: float = 2.0
    num_classes: int = 10
    head_dim: int | None = None
    conv: ConvTokenizer | None = None
    pool: Pool = "class"
    dropout: float = 0.0
    attention_dropout: float = 0.1
    stochastic_depth: float = 0.1

    def __post_init__(self) -> None:
        for field in ("image_size", "channels", "patch", "layers", "heads", "dim", "num_classes"):
            if getattr(self, field) < 1:
                problem = f"{self.name}: {field} is {getattr(self, field)}."
                raise ModelError(problem, f"give {field} a value of at least 1.")
        if self.head_dim is None and self.dim % self.heads:
            raise ModelError(
                f"{self.name}: dim {self.dim} is not divisible by {self.heads} heads.",
                "give head_dim, or change dim or heads.",
            )
        if self.conv is None and self.image_size % self.patch:
            raise ModelError(
                f"{self.name}: image_size {self.image_size} is not a multiple of patch {self.patch}.",
                "change image_size or patch.",
            )
        if self.pool not in ("class", "sequence"):
            raise ModelError(f"{self.name}: pool is {self.pool!r}.", "use pool 'class' or 'sequence'.")
        if self.mlp_width < 1 or self.tokens < 1:
            raise ModelError(
                f"{self.name}: the MLP has {self.mlp_width} channels and there are {self.tokens} tokens.",
                "raise mlp_ratio or image_size.",
            )

    @property
    def width(self) -> int:
        """Channels of one attention head."""
        return self.head_dim if self.head_dim is not None else self.dim // self.heads

    @property
    def mlp_width(self) -> int:
        """Hidden channels of the MLP."""
        return int(self.dim * self.mlp_ratio)

    @property
    def grid(self) -> int:
        """Tokens along one side of the image."""
        if self.conv is None:
            return self.image_size // self.patch
        size, c = self.image_size, self.conv
        for _ in range(c.layers):
            size = (size + 2 * c.padding - c.kernel) // c.stride + 1
            size = (size + 2 * c.pool_padding - c.pool_kernel) // c.pool_stride + 1
        return size

    @property
    def tokens(self) -> int:
        """Sequence length N, with the class token where there is one."""
        return self.grid**2 + (1 if self.pool == "class" else 0)

    def to_dict(self) -> dict[str, Any]:
        """The config as JSON-ready values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> ViTConfig:
        """Inverse of `to_dict`. Raises ModelError on unknown fields."""
        _check_fields(values)
        conv = values.get("conv")
        return ViTConfig(**{**values, "conv": ConvTokenizer(**conv) if isinstance(conv, dict) else conv})


def _check_fields(names: Iterable[str]) -> None:
    known = {field.name for field in dataclasses.fields(ViTConfig)}
    if surplus := sorted(set(names) - known):
        raise unknown_name("config field", surplus[0], sorted(known))


# The original's names. Their middle number is the patch size in some and the head count in others, so a name is
# looked up and never parsed.
CONFIGS: dict[str, ViTConfig] = {
    c.name: c
    for c in (
        ViTConfig("vit_7_4_32"),
        ViTConfig("vit_7_4_32_wider", dim=384),
        ViTConfig("vit_9_12_64", image_size=64, layers=9, heads=12, dim=192, num_classes=200),
        ViTConfig(
            "vit_12_12_224",
            image_size=224,
            patch=16,
            layers=12,
            heads=12,
            dim=192,
            mlp_ratio=4.0,
            num_classes=1000,
        ),
        ViTConfig("vit_2_4_32", layers=2, heads=2, dim=128, mlp_ratio=1.0),
        ViTConfig("vit_4_4_28", image_size=28, channels=1, layers=4, heads=4, dim=64),
        ViTConfig("cct_7_3x1_32", conv=ConvTokenizer(), pool="sequence"),
        ViTConfig(
            "cct_9_3x1_64",
            image_size=64,
            layers=9,
            heads=12,
            dim=192,
            num_classes=200,
            conv=ConvTokenizer(),
            pool="sequence",
        ),
    )
}
"""The configurations of the original, by its names."""


def get_config(name: str, num_classes: int | None = None, **overrides: Any) -> ViTConfig:
    """A named architecture, with any field of `ViTConfig` replaced.

    Names: vit_7_4_32 (CIFAR), vit_7_4_32_wider, vit_9_12_64 (Tiny-ImageNet), vit_12_12_224 (ImageNet), vit_2_4_32,
    vit_4_4_28 (28 x 28 grey), cct_7_3x1_32, cct_9_3x1_64. Raises ModelError on an unknown name or field.
    """
    if name not in CONFIGS:
        raise ModelError(
            f"Unknown model {name!r}.",
            f"use one of {', '.join(CONFIGS)}, or build a ViTConfig.",
            "unknown_name",
        )
    if num_classes is not None:
        overrides["num_classes"] = num_classes
    _check_fields(overrides)
    return dataclasses.replace(CONFIGS[name], **overrides)
