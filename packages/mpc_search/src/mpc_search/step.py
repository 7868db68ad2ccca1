"""The jitted training step and evaluation step: everything that is computed on devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mpc_search import losses
from mpc_search.augment import make_augment
from mpc_search.cost_table import CostTable
from mpc_search.data import Batch, ImageSet
from mpc_search.errors import SearchError
from mpc_search.optim import make_optimizer, map_searched, rate_schedule
from mpc_search.run_config import RunConfig
from vit_models import Model
from vit_models.types import Params

STEP_METRICS = ("loss", "labels", "logits", "tokens", "penalty", "gradient_norm", "learning_rate")
"""The numbers that a step reports, in this order: the loss, its weighted parts, the gradient's norm, the rate."""


class TrainState(TypedDict):
    """What a step changes: parameters, the optimiser's state (a pytree of optax), and the number of steps so far."""

    params: Params
    optimizer: Any
    step: jax.Array


@dataclass(frozen=True)
class Teacher:
    """The model that a student learns from, and its parameters."""

    model: Model
    params: Params


class StepFunctions:
    """The compiled steps of one run, on all devices of all processes: parameters replicated, batches sharded.

    All randomness of a step is drawn from (seed, step) and for the global batch, so restarts and the number of devices
    do not change it.
    """

    def __init__(
        self,
        model: Model,
        data: ImageSet,
        config: RunConfig,
        per_epoch: int,
        teacher: Teacher | None,
        costs: CostTable | None,
    ) -> None:
        self._model, self._config, self._teacher, self._costs = model, config, teacher, costs
        self._per_epoch = per_epoch
        parts = jax.device_count() * config.train.accumulate
        if config.train.batch % parts:
            raise SearchError(
                f"A batch of {config.train.batch} images does not divide into {parts} parts (devices times "
                f"train.accumulate).",
                "change train.batch.",
            )
        mesh = Mesh(np.asarray(jax.devices()), ("data",))
        self._sharded = NamedSharding(mesh, PartitionSpec("data"))
        self._replicated = NamedSharding(mesh, PartitionSpec())
        self._rate = rate_schedule(config.train, per_epoch)
        self._optimizer = make_optimizer(config.train, config.search, self._rate)
        self._augment = make_augment(config.augment, data.mean, data.std, len(data.classes))
        self._mean, self._std = jnp.asarray(data.mean), jnp.asarray(data.std)
        self._teacher_params = None if teacher is None else self._replicate(teacher.params)
        # the seed is an argument of the compiled step, so that all seeds share it
        self._seed = self._replicate(np.int32(config.train.seed))
        self._step = jax.jit(self._train, donate_argnums=0, out_shardings=(self._replicated, self._replicated))
        self._score = jax.jit(self._scores, out_shardings=self._replicated)

    def start(self, params: Params) -> TrainState:
        """The state before the first step."""
        params = self._replicate(params)
        state: TrainState = self._replicate(
            {"params": params, "optimizer": self._optimizer.init(params), "step": np.int32(0)}
        )
        return state

    def train(self, state: TrainState, batch: Batch) -> tuple[TrainState, jax.Array]:
        """The next state, and STEP_METRICS as one array."""
        result: tuple[TrainState, jax.Array] = self._step(state, self._shard(batch), self._seed, self._teacher_params)
        return result

    def score(self, params: Params, batch: Batch) -> tuple[float, float]:
        """Correct predictions and summed cross-entropy of a batch. Its `valid` says which rows count."""
        correct, loss = self._score(params, self._shard(batch))
        return float(correct), float(loss)

    def _replicate(self, tree: Any) -> Any:
        """The pytree `tree` as arrays that every device holds whole."""
        return jax.tree.map(
            lambda leaf: jax.make_array_from_process_local_data(self._replicated, np.asarray(leaf)), tree
        )

    def _shard(self, batch: Batch) -> dict[str, jax.Array]:
        """This process's rows of a batch as part of arrays that are sharded over all devices."""
        return {k: jax.make_array_from_process_local_data(self._sharded, v) for k, v in batch.items()}

    def _train(
        self, state: TrainState, batch: dict[str, jax.Array], seed: jax.Array, teacher: Params | None
    ) -> tuple[TrainState, jax.Array]:
        settings = self._config.train
        key = jax.random.fold_in(jax.random.key(seed), state["step"])
        augment_key, model_key = jax.random.split(key)
        images, targets = self._augment(augment_key, batch["images"], batch["labels"], state["step"] // self._per_epoch)
        gradient_of = jax.value_and_grad(self._loss, has_aux=True)
        params = state["params"]
        if settings.accumulate == 1:
            (_, parts), gradient = gradient_of(params, images, targets, model_key, teacher)
        else:

            def add_part(total: Any, number: jax.Array) -> tuple[Any, None]:
                # every n-th row from the i-th, so that each device has rows of each part
                own = [x.reshape(-1, settings.accumulate, *x.shape[1:])[:, number] for x in (images, targets)]
                (_, parts), gradient = gradient_of(params, *own, jax.random.fold_in(model_key, number), teacher)
                return jax.tree.map(jnp.add, total, (parts, gradient)), None

            zero = (jnp.zeros(5), jax.tree.map(jnp.zeros_like, params))
            summed, _ = jax.lax.scan(add_part, zero, jnp.arange(settings.accumulate))
            parts, gradient = jax.tree.map(lambda x: x / settings.accumulate, summed)
        updates, optimizer = self._optimizer.update(gradient, state["optimizer"], params)
        new = optax.apply_updates(params, updates)
        if self._config.search.clamp:
            new = map_searched(lambda values: jnp.clip(values, 0.0, 1.0), new)
        report = jnp.concatenate([parts, jnp.stack([optax.tree.norm(gradient), self._rate(state["step"])])])
        return {"params": new, "optimizer": optimizer, "step": state["step"] + 1}, report

    def _loss(
        self, params: Params, images: jax.Array, targets: jax.Array, key: jax.Array, teacher: Params | None
    ) -> tuple[jax.Array, jax.Array]:
        """The loss, and the first five of STEP_METRICS."""
        train, distill = self._config.train, self._config.distill
        logits, tokens = self._forward(self._model, params, images, key if train.regularize else None)
        soft = matched = jnp.zeros(())
        hard = losses.soft_cross_entropy(logits, targets)
        if self._teacher is not None and teacher is not None:
            hard = distill.hard_weight * hard
            known = jax.lax.stop_gradient(self._forward(self._teacher.model, teacher, images))
            if distill.kind in ("logits", "both"):
                soft = distill.logits_weight * losses.logits_distillation(logits, known[0], distill.temperature)
            if distill.kind in ("tokens", "both"):
                matched = distill.tokens_weight * losses.token_distillation(tokens, known[1])
        penalty = self._penalty(params)
        total = hard + soft + matched + penalty
        return total, jnp.stack([total, hard, soft, matched, penalty])

    def _forward(
        self, model: Model, params: Params, images: jax.Array, key: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Logits and tokens in float32, computed in the run's precision; with a `key`, as in training."""
        if self._config.train.precision == "bfloat16":
            params, images = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (params, images))
        found = model.outputs(params, images, train=key is not None, rng=key)
        return found.logits.astype(jnp.float32), found.tokens.astype(jnp.float32)

    def _penalty(self, params: Params) -> jax.Array:
        search, blocks = self._config.search, [params["blocks"][str(i)] for i in range(self._model.config.layers)]
        total = jnp.zeros(())
        if "alpha" in blocks[0]["attention"]:
            alpha = jnp.stack([block["attention"]["alpha"].reshape(-1) for block in blocks])
            if search.penalty == "l1":
                total += search.weight * losses.l1(alpha)
            else:
                assert self._costs is not None
                cost = losses.cost if search.penalty == "cost" else losses.expected_cost
                total += search.weight * cost(alpha, self._costs)
        if "beta" in blocks[0]:
            total += search.gelu_weight * sum(losses.l1(block["beta"]) for block in blocks)
        return total

    def _scores(self, params: Params, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        images = (batch["images"].astype(jnp.float32) / 255.0 - self._mean) / self._std
        logits, _ = self._forward(self._model, params, images)
        own = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["labels"][:, None], axis=-1)[:, 0]
        correct = jnp.argmax(logits, -1) == batch["labels"]
        return jnp.sum(correct * batch["valid"]), -jnp.sum(own * batch["valid"])
