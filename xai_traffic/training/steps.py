"""The two steps that run on devices: pure functions, and the one place that compiles them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
from jax.sharding import Mesh

from xai_traffic.models import Model
from xai_traffic.ops.tiles import GRID, gather_tiles, images_from_tiles
from xai_traffic.parallel.placement import held, used
from xai_traffic.parallel.sharding import replicated, split
from xai_traffic.training.augment import augment, mixup
from xai_traffic.training.losses import cross_entropy, one_hot, smooth, weighted_mean
from xai_traffic.training.metrics import add_batch
from xai_traffic.training.optim import Schedule, move_average
from xai_traffic.training.remat import rematerialised
from xai_traffic.training.state import TrainState, judged

Batch = dict[str, jax.Array]


def train_step(
    state: TrainState,
    batch: Batch,
    tiles: jax.Array | None,
    *,
    model: Model,
    optimizer: optax.GradientTransformation,
    schedule: Schedule,
    class_weights: np.ndarray,
    config: ml_collections.ConfigDict,
    gather: Callable[[Any], Any] = lambda params: params,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Do one step of training on a whole batch.

    Args:
        state: before the step.
        batch: as a `data.loader.Loader` makes it, less its rows.
        tiles: uint8 [T, 256] where the batch names tiles by place, else None.
        schedule: learning rate by step.
        class_weights: float32 [K], times the loss of a session by its class.
        config: of the training; seed, augment, loss, remat and optimizer.ema are read.
        gather: brings parameters together that are split between steps.

    Returns:
        the state after it, and float32 scalars: loss, accuracy, gradient_norm, learning_rate.
    """
    rng = jax.random.fold_in(jax.random.key(config.seed), state.step)
    augment_rng, mixup_rng, dropout_rng = jax.random.split(rng, 3)
    dense = dense_tiles(batch, tiles)
    read = slice(0, model.packets)  # nothing is drawn for tiles that nobody looks at
    changed = augment(augment_rng, dense[:, read], config.augment)
    images = images_from_tiles(dense.at[:, read].set(changed))
    targets = one_hot(batch["labels"], model.num_classes)
    if config.augment.mixup:
        images, targets = mixup(mixup_rng, images, targets, config.augment.mixup)
    weights = batch["weights"] * (targets @ class_weights)
    targets = smooth(targets, config.loss.label_smoothing)

    def loss_of(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        variables = {**state.variables, "params": gather(params)}
        logits, statistics = model.apply_train(variables, images, dropout_rng, batch.get("packing"))
        return weighted_mean(cross_entropy(logits, targets), weights), (logits, statistics)

    params = state.variables["params"]
    differentiate = jax.value_and_grad(rematerialised(loss_of, config.remat), has_aux=True)
    (loss, (logits, statistics)), gradients = differentiate(params)
    updates, optimizer_state = optimizer.update(gradients, state.optimizer, params)
    params = optax.apply_updates(params, updates)
    average = state.average
    if average:
        average = move_average(average, params, config.optimizer.ema, state.step)
    after = TrainState(
        step=state.step + 1,
        variables={"params": params, **({"batch_stats": statistics} if statistics else {})},
        average=average,
        optimizer=optimizer_state,
    )
    hits = jnp.argmax(logits, axis=-1) == batch["labels"]
    metrics = {
        "loss": loss,
        "accuracy": jnp.mean(hits.astype(jnp.float32)),
        "gradient_norm": norm_of(gradients),
        "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
    }
    if config.loss.not_finite == "skip":
        after = unless_not_finite(metrics, state, after)
    return after, metrics


def dense_tiles(batch: Batch, tiles: jax.Array | None) -> jax.Array:
    """Return a batch's tiles uint8 [B, 64, 256], gathered from those on the device if it has none.

    The bits are the same either way.
    """
    if tiles is None:
        dense = batch["tiles"]  # four of a session under layout ustc28
        return jnp.pad(dense, ((0, 0), (0, GRID * GRID - dense.shape[1]), (0, 0)))
    return gather_tiles(tiles, batch["first"], batch["count"])


def unless_not_finite(
    metrics: dict[str, jax.Array], before: TrainState, after: TrainState
) -> TrainState:
    """Return `after`, or where loss or gradient is no finite number `before`, one step on."""
    good = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])
    kept = jax.tree.map(lambda new, old: jnp.where(good, new, old), after, before)
    return dataclasses.replace(kept, step=after.step)


def norm_of(tree: Any) -> jax.Array:
    """Return the Euclidean norm over all arrays of a tree, float32 []."""
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def eval_step(
    variables: dict[str, Any],
    sums: dict[str, jax.Array],
    batch: Batch,
    tiles: jax.Array | None,
    *,
    model: Model,
    gather: Callable[[Any], Any] = lambda params: params,
) -> dict[str, jax.Array]:
    """Add a batch to the sums of `metrics.empty_sums`, judged without augmentation.

    Args:
        variables: of the model.
        batch, tiles, gather: as for `train_step`; rows of weight 0 do not count.
    """
    images = images_from_tiles(dense_tiles(batch, tiles))
    variables = {**variables, "params": gather(variables["params"])}
    logits = model.logits(variables, images, batch.get("packing"))
    losses = cross_entropy(logits, one_hot(batch["labels"], model.num_classes))
    return add_batch(sums, logits, losses, batch["labels"], batch["weights"])


def compile_steps(
    model: Model,
    optimizer: optax.GradientTransformation,
    schedule: Schedule,
    class_weights: np.ndarray,
    config: ml_collections.ConfigDict,
    mesh: Mesh,
    like: TrainState,
) -> tuple[Callable, Callable]:
    """Return `train_step(state, batch, tiles)` and `eval_step(variables, sums, batch, tiles)`.

    Both are jitted. The state lies as `config.mesh.placement` says and is given up to the step; the
    split's tiles are whole on every device of the mesh, and stay; batches are split. The means over
    a batch (loss, batch statistics) are over all of it, whatever the devices.

    Args:
        like: shapes of the state.
    """
    whole, parts = replicated(mesh), split(mesh)
    placement = config.mesh.placement
    state = held(placement, like, mesh)
    params = used(placement, like.variables["params"], mesh)
    gather = functools.partial(jax.lax.with_sharding_constraint, shardings=params)
    options = None
    if config.deterministic and jax.default_backend() == "gpu":
        options = {"xla_gpu_deterministic_ops": True}
    train = functools.partial(
        train_step,
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        class_weights=class_weights,
        config=ml_collections.FrozenConfigDict(config),
        gather=gather,
    )
    return (
        jax.jit(
            train,
            in_shardings=(state, parts, whole),
            out_shardings=(state, whole),
            donate_argnums=0,
            compiler_options=options,
        ),
        jax.jit(
            functools.partial(eval_step, model=model, gather=gather),
            in_shardings=(judged(state), whole, parts, whole),
            out_shardings=whole,
            donate_argnums=1,
            compiler_options=options,
        ),
    )
