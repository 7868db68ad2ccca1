"""The same ViT and training step in PyTorch, to compare the trainer's speed with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from vit_models import ViTConfig


class Block(nn.Module):
    """x = x + attention(norm x); x = norm1 x; x = x + mlp x, as in `vit_models`, with Softmax attention."""

    def __init__(self, config: ViTConfig, index: int) -> None:
        super().__init__()
        self.heads, self.drop = config.heads, config.attention_dropout
        self.depth = config.stochastic_depth * index / max(config.layers - 1, 1)
        self.pre_norm, self.norm1 = nn.LayerNorm(config.dim), nn.LayerNorm(config.dim)
        self.qkv, self.proj = nn.Linear(config.dim, 3 * config.dim, bias=False), nn.Linear(config.dim, config.dim)
        self.linear1 = nn.Linear(config.dim, config.mlp_width)
        self.linear2 = nn.Linear(config.mlp_width, config.dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(self.pre_norm(x)).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        context = functional.scaled_dot_product_attention(q, k, v, dropout_p=self.drop if self.training else 0.0)
        x = x + self.path(self.proj(context.transpose(1, 2).reshape(b, n, c)))
        x = self.norm1(x)
        return x + self.path(self.linear2(functional.gelu(self.linear1(x))))

    def path(self, x: torch.Tensor) -> torch.Tensor:
        """Stochastic depth."""
        if not self.training or self.depth == 0.0:
            return x
        return x * (torch.rand(x.shape[0], 1, 1) >= self.depth) / (1.0 - self.depth)


class ViT(nn.Module):
    """Tokenizer, blocks, norm, head on the class token."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.tokenizer = nn.Conv2d(config.channels, config.dim, config.patch, config.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.positions = nn.Parameter(torch.randn(1, config.tokens, config.dim) * 0.2)
        self.blocks = nn.Sequential(*(Block(config, i) for i in range(config.layers)))
        self.norm, self.head = nn.LayerNorm(config.dim), nn.Linear(config.dim, config.num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.tokenizer(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


def make_step(config: ViTConfig) -> Callable[[np.ndarray, np.ndarray], float]:
    """A function of images (B, H, W, C) and labels that takes one AdamW step and returns the loss."""
    model = ViT(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, weight_decay=0.05)

    def step(images: np.ndarray, labels: np.ndarray) -> float:
        logits = model(torch.from_numpy(images).permute(0, 3, 1, 2))
        loss = functional.cross_entropy(logits, torch.from_numpy(labels).long())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
