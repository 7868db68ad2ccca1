"""One training step and one evaluation step as jitted functions: all that is computed on devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mpc_search import losses
from mpc_search.augment import make_augment
from mpc_search.config import Config
from mpc_search.costs import CostTable
from mpc_search.data import Batch, ImageSet
from mpc_search.errors import SearchError
from mpc_search.model import Model, Params
from mpc_search.optim import make_optimizer, of_searched, rate_schedule

PARTS = ("loss", "labels", "logits", "tokens", "penalty", "gradient_norm", "learning_rate")
"""What a step reports, in this order: the whole loss, its parts as they were weighted, norm and rate."""


@dataclass(frozen=True)
class Teacher:
    """Whom a student learns from."""

    model: Model
    params: Params


class Steps:
    """The compiled steps of one run, over all devices of all processes: parameters replicated, batches divided.

    A state is {"params", "optimizer", "step"}. All randomness of a step is drawn from (seed, step), and as of one
    global batch, so that restarts and device counts do not change it.
    """

    def __init__(
        self,
        model: Model,
        data: ImageSet,
        config: Config,
        per_epoch: int,
        teacher: Teacher | None,
        costs: CostTable | None,
    ) -> None:
        self._model, self._config, self._teacher, self._costs = model, config, teacher, costs
        self._per_epoch = per_epoch
        parts = jax.device_count() * config.train.accumulate
        if config.train.batch % parts:
            raise SearchError(
                f"A batch of {config.train.batch} does not divide into {parts} parts (devices times "
                f"train.accumulate). Fix: change train.batch."
            )
        mesh = Mesh(np.asarray(jax.devices()), ("data",))
        self._divided, self._whole = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
        self._rate = rate_schedule(config.train, per_epoch)
        self._optimizer = make_optimizer(config.train, config.search, self._rate)
        self._augment = make_augment(config.augment, data.mean, data.std, len(data.classes))
        self._mean, self._std = jnp.asarray(data.mean), jnp.asarray(data.std)
        self._teacher_params = None if teacher is None else self.everywhere(teacher.params)
        self._seed = self.everywhere(np.int32(config.train.seed))  # an argument: the compiled step is of no seed
        self._step = jax.jit(self._train, donate_argnums=0, out_shardings=(self._whole, self._whole))
        self._score = jax.jit(self._scores, out_shardings=self._whole)

    def start(self, params: Params) -> dict[str, Any]:
        """The state before the first step."""
        params = self.everywhere(params)
        state = {"params": params, "optimizer": self._optimizer.init(params), "step": np.int32(0)}
        return self.everywhere(state)

    def everywhere(self, tree: Any) -> Any:
        """`tree` as arrays that every device has whole."""
        return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(self._whole, np.asarray(leaf)), tree)

    def divided(self, batch: Batch) -> dict[str, jax.Array]:
        """This process's share of a batch as its part of arrays that are divided over all devices."""
        return {k: jax.make_array_from_process_local_data(self._divided, v) for k, v in batch.items()}

    def train(self, state: dict[str, Any], batch: Batch) -> tuple[dict[str, Any], jax.Array]:
        """The next state, and the step's PARTS as one array."""
        new, parts = self._step(state, self.divided(batch), self._seed, self._teacher_params)
        return new, parts

    def score(self, params: Params, batch: Batch) -> tuple[float, float]:
        """Right answers and summed cross-entropy of a batch; its `valid` says which rows count."""
        right, loss = self._score(params, self.divided(batch))
        return float(right), float(loss)

    def _train(
        self, state: dict[str, Any], batch: Any, seed: jax.Array, teacher: Any
    ) -> tuple[dict[str, Any], jax.Array]:
        settings = self._config.train
        key = jax.random.fold_in(jax.random.key(seed), state["step"])
        augment_key, model_key = jax.random.split(key)
        images, targets = self._augment(augment_key, batch["images"], batch["labels"], state["step"] // self._per_epoch)
        gradient_of = jax.value_and_grad(self._loss, has_aux=True)
        params = state["params"]
        if settings.accumulate == 1:
            (_, parts), gradient = gradient_of(params, images, targets, model_key, teacher)
        else:

            def portion(total: Any, number: jax.Array) -> tuple[Any, None]:
                # every n-th row from the i-th, so that each device keeps a part of each portion
                own = [x.reshape(-1, settings.accumulate, *x.shape[1:])[:, number] for x in (images, targets)]
                (_, parts), gradient = gradient_of(params, *own, jax.random.fold_in(model_key, number), teacher)
                return jax.tree.map(jnp.add, total, (parts, gradient)), None

            zero = (jnp.zeros(5), jax.tree.map(jnp.zeros_like, params))
            summed, _ = jax.lax.scan(portion, zero, jnp.arange(settings.accumulate))
            parts, gradient = jax.tree.map(lambda x: x / settings.accumulate, summed)
        updates, optimizer = self._optimizer.update(gradient, state["optimizer"], params)
        new = optax.apply_updates(params, updates)
        if self._config.search.clamp:
            new = of_searched(lambda values: jnp.clip(values, 0.0, 1.0), new)
        report = jnp.concatenate([parts, jnp.stack([optax.tree.norm(gradient), self._rate(state["step"])])])
        return {"params": new, "optimizer": optimizer, "step": state["step"] + 1}, report

    def _loss(
        self, params: Params, images: jax.Array, targets: jax.Array, key: jax.Array, teacher: Any
    ) -> tuple[jax.Array, jax.Array]:
        """The whole loss, and the first five of PARTS."""
        train, distill = self._config.train, self._config.distill
        options: dict[str, Any] = {"train": True, "rng": key} if train.regularize else {}
        logits, tokens = self._forward(self._model, params, images, **options)
        soft = matched = jnp.zeros(())
        hard = losses.soft_cross_entropy(logits, targets)
        if self._teacher is not None:
            hard = distill.hard_weight * hard
            known = jax.lax.stop_gradient(self._forward(self._teacher.model, teacher, images))
            if distill.kind in ("logits", "both"):
                soft = distill.logits_weight * losses.logits_distillation(logits, known[0], distill.temperature)
            if distill.kind in ("tokens", "both"):
                matched = distill.tokens_weight * losses.token_distillation(tokens, known[1])
        penalty = self._penalty(params)
        total = hard + soft + matched + penalty
        return total, jnp.stack([total, hard, soft, matched, penalty])

    def _forward(self, model: Model, params: Params, images: jax.Array, **options: Any) -> tuple[jax.Array, jax.Array]:
        """Logits and tokens in float32, computed in the run's precision from parameters that stay float32."""
        if self._config.train.precision == "bfloat16":
            params, images = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (params, images))
        logits, tokens = model.logits_and_tokens(params, images, **options)
        return logits.astype(jnp.float32), tokens.astype(jnp.float32)

    def _penalty(self, params: Params) -> jax.Array:
        search, blocks = self._config.search, [params["blocks"][str(i)] for i in range(self._model.config.layers)]
        total = jnp.zeros(())
        if "alpha" in blocks[0]["attention"]:
            alpha = jnp.stack([block["attention"]["alpha"].reshape(-1) for block in blocks])
            if search.penalty == "l1":
                total += search.weight * losses.l1(alpha)
            else:
                assert self._costs is not None
                of = losses.cost if search.penalty == "cost" else losses.expected_cost
                total += search.weight * of(alpha, self._costs)
        if "beta" in blocks[0]:
            total += search.gelu_weight * sum(losses.l1(block["beta"]) for block in blocks)
        return total

    def _scores(self, params: Params, batch: Any) -> tuple[jax.Array, jax.Array]:
        images = (batch["images"].astype(jnp.float32) / 255.0 - self._mean) / self._std
        logits, _ = self._forward(self._model, params, images)
        own = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["labels"][:, None], axis=-1)[:, 0]
        right = jnp.argmax(logits, -1) == batch["labels"]
        return jnp.sum(right * batch["valid"]), -jnp.sum(own * batch["valid"])
