"""Gradients over noisy copies of the input: their mean (SmoothGrad) and variance (VarGrad)."""

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
    map_batches,
    resolve_target,
    sum_channels,
)

SAMPLES_AT_ONCE = 25
"""Most noisy copies of an example in one call: on CPU larger chunks gain nothing."""


def smooth_grad(
    f: ModelFunction,
    params,
    x,
    target=None,
    *,
    rng: jax.Array,
    samples: int = 50,
    noise: float = 0.15,
    memory_budget: int | None = None,
) -> jax.Array:
    """Return the mean gradient of the target's logit over noisy copies of x.

    Source: Smilkov et al., SmoothGrad: Removing Noise by Adding Noise, 2017.

    Args:
        f: `f(params, x) -> logits [B, K]` or `(logits, activations)`.
        x: images [B, H, W, C] in the model's own scale, or any shape [B, ...].
        target: class, int or int32 [B]; None explains the class with the highest logit at x.
        rng: key of `jax.random.key`. The noise of a copy is a function of (rng, row of the example
            in x, number of the copy), see `noisy_copy`: no budget and no order changes it.
        samples: noisy copies of each example.
        noise: standard deviation of the Gaussian noise as part of max(x) - min(x), for each example
            by itself.
        memory_budget: bytes that one call may take, see `examples_at_once`.

    Returns:
        float32 [B, H, W], channels summed (other shapes: that of x), signed.

    Raises:
        ValueError: samples < 1, noise < 0, or see `resolve_target`.
    """
    return sum_channels(_moments(f, params, x, target, rng, samples, noise, memory_budget)[0])


def var_grad(
    f: ModelFunction,
    params,
    x,
    target=None,
    *,
    rng: jax.Array,
    samples: int = 50,
    noise: float = 0.15,
    memory_budget: int | None = None,
) -> jax.Array:
    """Return the variance of the gradient over noisy copies of x: where it is uncertain.

    Source: Adebayo et al., Local Explanation Methods for Deep Neural Networks Lack Sensitivity to
    Parameter Values, 2018. Arguments and errors as `smooth_grad`; the variance is that of the
    samples drawn (divided by `samples`), never negative, summed over channels.
    """
    _, squares = _moments(f, params, x, target, rng, samples, noise, memory_budget)
    return sum_channels(squares / samples)


def noisy_copy(rng: jax.Array, x: jax.Array, row, sample, noise: float) -> jax.Array:
    """Return the copy number `sample` of the example x [...] that stands in row `row`."""
    key = jax.random.fold_in(jax.random.fold_in(rng, row), sample)
    return x + noise * (x.max() - x.min()) * jax.random.normal(key, x.shape)


def _moments(f, params, x, target, rng, samples, noise, memory_budget):
    """Return the gradients' mean and sum of squared distances to it, both in x's shape."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, and is {samples}")
    if noise < 0:
        raise ValueError(f"noise must not be negative, and is {noise}")
    x = as_float(x)
    at_once = examples_at_once(f, params, x, memory_budget)
    target = resolve_target(f, params, x, target, at_once)
    kernel = compiled(_add_samples, f)

    most = min(max(1, at_once // min(at_once, x.shape[0])), SAMPLES_AT_ONCE)
    size = -(-samples // -(-samples // most))  # chunks of equal size: one shape compiles
    noise = np.float32(noise)

    def gather(x, target, rows):
        state = (jnp.zeros_like(x), jnp.zeros_like(x))
        for start in range(0, samples, size):
            numbers = np.arange(start, start + size, dtype=np.int32)
            state = kernel(params, state, x, target, rows, rng, numbers, np.int32(samples), noise)
        return state

    rows = jnp.asarray(np.arange(x.shape[0], dtype=np.int32))
    return map_batches(gather, at_once, x, target, rows)


def _add_samples(f, params, state, x, target, rows, rng, numbers, samples, noise):
    """Merge the gradients of some copies into (mean, sum of squared distances to the mean).

    Merged as by Chan et al., 1979: a mean of squares less a squared mean cancels in float32.
    """
    over_samples = jax.vmap(noisy_copy, in_axes=(None, None, None, 0, None))
    over_examples = jax.vmap(over_samples, in_axes=(None, 0, 0, None, None))
    points = over_examples(rng, x, rows, numbers, noise)  # [B, samples, ...]
    gradients = input_gradient(
        f, params, points.reshape(-1, *x.shape[1:]), jnp.repeat(target, numbers.shape[0])
    ).reshape(points.shape)

    # The last chunk's copies past `samples` are there for its shape only.
    there = (numbers < samples).astype(jnp.float32)
    column = there.reshape(1, -1, *(1,) * (x.ndim - 1))
    before, now = numbers[0].astype(jnp.float32), there.sum()
    centre = jnp.sum(gradients * column, axis=1) / now
    squares = jnp.sum(column * (gradients - centre[:, None]) ** 2, axis=1)

    mean, distances = state
    step = centre - mean
    share = now / (before + now)
    return mean + step * share, distances + squares + step**2 * before * share
