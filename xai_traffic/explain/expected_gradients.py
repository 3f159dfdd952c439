"""Expected gradients: Integrated Gradients whose baselines are drawn from data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from xai_traffic.explain.model_function import (
    ModelFunction,
    as_float,
    compiled,
    examples_at_once,
    input_gradient,
    logits_of,
    map_batches,
    resolve_target,
    sum_channels,
)

SAMPLES_AT_ONCE = 25
"""Most draws of an example in one call: on CPU larger chunks gain nothing."""


def expected_gradients(
    f: ModelFunction,
    params,
    x,
    references,
    target=None,
    *,
    rng: jax.Array,
    samples: int = 200,
    memory_budget: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Average gradient times way over baselines drawn from data and places drawn on the way.

    Source: Erion et al., Improving Performance of Deep Learning Models with Axiomatic Attribution
    Priors and Expected Gradients, 2021. Unlike there, each of the `samples` equal parts of the way
    gives one place: as unbiased, with less variance.

    Args:
        f: `f(params, x) -> logits [B, K]` or `(logits, activations)`.
        x: images [B, H, W, C] in the model's own scale, or any shape [B, ...].
        references: sample of the data, [N, ...].
        target: class, int or int32 [B]; None explains the class with the highest logit at x.
        rng: key of `jax.random.key`; a draw is a function of (rng, row of the example, its number).
        samples: draws of each example.
        memory_budget: bytes that one call may take, see `examples_at_once`.

    Returns:
        attributions float32 [B, H, W], channels summed (other shapes: that of x), and
        completeness_error float32 [B]: how far their sum is from the target's logit at x less its
        mean over all references. It falls as 1 / sqrt(samples).

    Raises:
        ValueError: samples < 1, references' shape, or see `resolve_target`.
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, and is {samples}")
    x, references = as_float(x), as_float(references)
    if references.shape[1:] != x.shape[1:]:
        raise ValueError(f"references have shape {references.shape}, and x has {x.shape}")
    at_once = examples_at_once(f, params, x, memory_budget)
    target = resolve_target(f, params, x, target, at_once)
    most = min(max(1, at_once // min(at_once, x.shape[0])), SAMPLES_AT_ONCE)
    size = -(-samples // -(-samples // most))  # chunks of equal size: one shape compiles
    kernel, logits = compiled(_add_draws, f), compiled(logits_of, f)

    def gather(x, target, rows):
        total = jnp.zeros_like(x)
        for start in range(0, samples, size):
            numbers = np.arange(start, start + size, dtype=np.int32)
            total = kernel(
                params, total, x, references, target, rows, rng, numbers, np.int32(samples)
            )
        return total

    rows = jnp.asarray(np.arange(x.shape[0], dtype=np.int32))
    total = map_batches(gather, at_once, x, target, rows)
    high, low = (
        map_batches(lambda piece: logits(params, piece), at_once, v) for v in (x, references)
    )
    return compiled(_settle)(total, high, low, target)


def _add_draws(f, params, total, x, references, target, rows, rng, numbers, samples) -> jax.Array:
    """Add some draws to the mean; numbers past `samples` are there for the shape only."""

    def draw(row, number):
        which, place = jax.random.split(jax.random.fold_in(jax.random.fold_in(rng, row), number))
        chosen = jax.random.randint(which, (), 0, references.shape[0])
        return chosen, (number + jax.random.uniform(place)) / samples

    over_numbers = jax.vmap(draw, in_axes=(None, 0))
    chosen, places = jax.vmap(over_numbers, in_axes=(0, None))(rows, numbers)  # [B, draws]
    start = references[chosen]
    way = x[:, None] - start
    points = start + places.reshape(*places.shape, *(1,) * (x.ndim - 1)) * way
    gradients = input_gradient(
        f, params, points.reshape(-1, *x.shape[1:]), jnp.repeat(target, numbers.shape[0])
    )
    share = jnp.where(numbers < samples, 1 / samples, 0.0)
    part = gradients.reshape(way.shape) * way * share.reshape(1, -1, *(1,) * (x.ndim - 1))
    return total + part.sum(1)


def _settle(total, high, low, target) -> tuple[jax.Array, jax.Array]:
    rise = jnp.take_along_axis(high - low.mean(0), target[:, None], axis=1)[:, 0]
    return sum_channels(total), jnp.abs(total.reshape(total.shape[0], -1).sum(-1) - rise)
