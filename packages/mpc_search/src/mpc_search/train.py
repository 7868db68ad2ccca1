"""The trainer: AdamW on a warmed-up cosine, one model, one image set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax

from mpc_search.data import ImageSet
from vit_models import AttentionPlan, ViTConfig, apply, init

Params = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """What is trained: the architecture, its attention and plan, its activation."""

    config: ViTConfig
    attention: str = "softmax"
    plan: AttentionPlan | None = None
    gelu: str = "exact"

    def logits(self, params: Params, images: Any, **training: Any) -> jax.Array:
        """Logits (batch, classes) of images (batch, height, width, channels)."""
        return apply(self.config, params, images, plan=self.plan, attention=self.attention, gelu=self.gelu, **training)


@dataclass(frozen=True)
class TrainSettings:
    """Hyper-parameters. The defaults are for the small model and a few epochs, not the paper's (FACTS, section 3).

    `learning_rate` is the peak, reached after `warmup` of all steps and then annealed on a cosine to `final_rate`
    times it. `regularize` turns on the model's dropout and stochastic depth; `flip` mirrors half of the images.
    """

    epochs: int = 3
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    final_rate: float = 0.01
    label_smoothing: float = 0.0
    regularize: bool = False
    flip: bool = False
    seed: int = 0


def train(
    model: Model, data: ImageSet, settings: TrainSettings, on_step: Callable[[int, int, float], None] | None = None
) -> Params:
    """Train from scratch and return the parameters.

    `on_step(step, steps, loss)` is called now and then. The same seed, data and JAX version give the same parameters.
    """
    per_epoch = len(data) // settings.batch
    steps = per_epoch * settings.epochs
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=settings.learning_rate,
        warmup_steps=max(1, int(steps * settings.warmup)),
        decay_steps=steps,
        end_value=settings.learning_rate * settings.final_rate,
    )
    optimizer = optax.adamw(schedule, weight_decay=settings.weight_decay, mask=_decayed)
    params = init(model.config, settings.seed, attention=model.attention)
    state = optimizer.init(params)

    def loss_of(params: Params, images: jax.Array, labels: jax.Array, key: jax.Array) -> jax.Array:
        if settings.flip:
            key, flip_key = jax.random.split(key)
            mirrored = jax.random.bernoulli(flip_key, shape=(len(images), 1, 1, 1))
            images = jnp.where(mirrored, images[:, :, ::-1], images)
        logits = model.logits(params, images, train=settings.regularize, rng=key if settings.regularize else None)
        targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), settings.label_smoothing)
        return optax.softmax_cross_entropy(logits, targets).mean()

    @jax.jit
    def step(params: Params, state: Any, images: jax.Array, labels: jax.Array, key: jax.Array) -> Any:
        loss, gradient = jax.value_and_grad(loss_of)(params, images, labels, key)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    shuffler = np.random.default_rng(settings.seed)
    keys = jax.random.split(jax.random.key(settings.seed), steps)
    for epoch in range(settings.epochs):
        order = shuffler.permutation(len(data))
        for number in range(per_epoch):
            rows = order[number * settings.batch : (number + 1) * settings.batch]
            done = epoch * per_epoch + number
            params, state, loss = step(params, state, data.images[rows], data.labels[rows], keys[done])
            if on_step is not None and (done % 20 == 0 or done == steps - 1):
                on_step(done + 1, steps, float(loss))
    return jax.tree.map(np.asarray, params)


def _decayed(params: Params) -> Any:
    """Weight decay for matrices only, not for biases and norms (timm's rule, which the original trains with)."""
    return jax.tree.map(lambda array: array.ndim > 1, params)


def predict(model: Model, params: Params, images: npt.NDArray[np.float32], batch: int = 500) -> npt.NDArray[np.float32]:
    """Logits (n, classes) of `images`, `batch` at a time."""
    forward = jax.jit(model.logits)
    parts = [np.asarray(forward(params, images[i : i + batch])) for i in range(0, len(images), batch)]
    return np.concatenate(parts)


def accuracy(logits: npt.NDArray[np.float32], labels: npt.NDArray[np.int32]) -> float:
    """Share of `logits` (n, classes) whose largest is at the label."""
    return float((logits.argmax(-1) == labels).mean())
