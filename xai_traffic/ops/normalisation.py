"""Batch normalisation by the statistics of the batch, with a gradient of few passes."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def normalise(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalise channels to the mean and variance they have in the batch.

    Ioffe and Szegedy, "Batch Normalization", ICML 2015. Of the derivatives only the backward
    one is there: it reads x and the gradient twice, once for two sums and once for the result.

    Args:
        x: float [..., C]; all axes but the last are averaged over.
        scale, bias: float32 [C].
        epsilon: added to the variance.

    Returns:
        the normalised values, of x's dtype; mean and biased variance, float32 [C].
    """
    return _normalise(x, scale, bias, epsilon)


def _normalise(x, scale, bias, epsilon):
    wide = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(wide, axes)
    variance = jnp.maximum(jnp.mean(jnp.square(wide), axes) - jnp.square(mean), 0.0)
    y = (wide - mean) * (scale * lax.rsqrt(variance + epsilon)) + bias
    return y.astype(x.dtype), mean, variance


def _forward(x, scale, bias, epsilon):
    y, mean, variance = _normalise(x, scale, bias, epsilon)
    return (y, mean, variance), (x, scale, mean, variance)


def _backward(epsilon, saved, gradients):
    x, scale, mean, variance = saved
    gradient, to_mean, to_variance = gradients
    axes = tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1]
    wide = gradient.astype(jnp.float32)
    centred = x.astype(jnp.float32) - mean
    inverse = lax.rsqrt(variance + epsilon)
    to_bias = jnp.sum(wide, axes)
    moment = jnp.sum(wide * centred, axes)
    # Per channel the gradient is linear in x and in the gradient of y.
    slope = (2 * to_variance - scale * inverse**3 * moment) / count
    offset = (to_mean - scale * inverse * to_bias) / count
    to_x = wide * (scale * inverse) + centred * slope + offset
    return to_x.astype(x.dtype), moment * inverse, to_bias


normalise.defvjp(_forward, _backward)
