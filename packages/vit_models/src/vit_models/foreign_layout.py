"""Checkpoints of other libraries, recognised by the names of their arrays: what they are, in one line."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from .errors import ModelError

WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name: it says nothing of the model, and is dropped."""


@dataclass(frozen=True)
class _Layout:
    """A layout of another library: its name, and patterns that some of its arrays' names all have to match."""

    name: str
    patterns: tuple[str, ...]


# The first that fits: those with more patterns stand before those that they resemble.
_LAYOUTS = (
    _Layout("timm's Swin Transformer", (r"\.attn\.qkv\.", r"relative_position_bias_table$")),
    _Layout("timm's DeiT", (r"(^|\.)blocks\.\d+\.attn\.qkv\.", r"(^|\.)(dist_token$|head_dist\.)")),
    _Layout("timm's VisionTransformer (also of the published DeiT)", (r"(^|\.)blocks\.\d+\.attn\.qkv\.",)),
    _Layout("Hugging Face's DeiT", (r"encoder\.layer\.\d+\.attention\.attention\.query", r"distillation_token$")),
    _Layout("Hugging Face's ViT", (r"encoder\.layer\.\d+\.attention\.attention\.query",)),
    _Layout("torchvision's VisionTransformer", (r"encoder_layer_\d+\.self_attention\.in_proj_",)),
    _Layout("CLIP's VisionTransformer", (r"visual\.transformer\.resblocks\.\d+\.",)),
    _Layout("the JAX ViT of Google Research", (r"(^|/)encoderblock_\d+/",)),
)


def without_wrappers(name: str) -> str:
    """A name without what DataParallel and torch.compile put before it."""
    while name.startswith(WRAPPERS):
        name = name.removeprefix("module.").removeprefix("_orig_mod.")
    return name


def refuse_foreign(names: Collection[str]) -> None:
    """Raise ModelError where `names`, without wrappers, are those of another layout, or stand below a prefix."""
    for layout in _LAYOUTS:
        found = [next((name for name in names if re.search(p, name)), None) for p in layout.patterns]
        if None not in found:
            raise ModelError(
                f"The checkpoint has the layout of {layout.name} ({found[0]}); its blocks are other functions than "
                "those of these models, so that the weights cannot be taken over.",
                "give a checkpoint of the original's trainer (names like classifier.blocks.0...), or train with "
                "`mpc-search retrain`.",
                "mismatch",
            )
    if any(name.startswith("classifier.") for name in names):
        return
    inner = (re.match(r"(.*[./])(?:classifier\.(?:blocks|norm|fc)|tokenizer\.conv_layers)\.", name) for name in names)
    if (match := next(filter(None, inner), None)) is not None:
        raise ModelError(
            f"The names of the checkpoint's arrays begin with {match[1]!r}.",
            f"read it with load_torch_state(path, prefix={match[1]!r}).",
            "mismatch",
        )
