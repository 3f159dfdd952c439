"""Optimisers and learning rate schedules by config."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import optax

Schedule = Callable[[jax.Array], jax.Array]


def make_schedule(
    optimizer: ml_collections.ConfigDict, epochs: int, steps_per_epoch: int
) -> Schedule:
    """Return the learning rate by step: linear rise, then constant or cosine down to zero.

    Args:
        optimizer: the config's group of that name.
    """
    warmup = round(optimizer.warmup_epochs * steps_per_epoch)
    peak, total = optimizer.learning_rate, epochs * steps_per_epoch
    if optimizer.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(1, total - warmup))
    else:
        after = optax.constant_schedule(peak)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def make_optimizer(
    optimizer: ml_collections.ConfigDict, schedule: Schedule
) -> optax.GradientTransformation:
    """Return the optimiser: clipped gradients, decoupled weight decay of kernels, SGD or AdamW.

    Args:
        optimizer: the config's group of that name.
        schedule: learning rate by step.
    """
    parts = [optax.clip_by_global_norm(optimizer.clip)] if optimizer.clip else []
    if optimizer.name == "adamw":
        parts.append(optax.scale_by_adam())
    elif optimizer.momentum:
        parts.append(optax.trace(optimizer.momentum, nesterov=True))
    if optimizer.weight_decay:
        parts.append(optax.add_decayed_weights(optimizer.weight_decay, mask=_kernels))
    return optax.chain(*parts, optax.scale_by_learning_rate(schedule))


def _kernels(params: Any) -> Any:
    """Return True for what weight decay applies to: no biases, scales, tokens or positions."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.ndim > 1 and "kernel" in str(path[-1]), params
    )


def move_average(average: Any, params: Any, decay: float, step: jax.Array) -> Any:
    """Return the running average of the parameters after a step.

    Early on the decay is (1 + step) / (10 + step), so that the start is soon forgotten.
    """
    decay = jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda old, new: old * decay + new * (1.0 - decay), average, params)
