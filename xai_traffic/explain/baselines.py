"""Baselines made from data: the mean of a sample, and x itself blurred."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from xai_traffic.explain.model_function import as_float
from xai_traffic.explain.path_methods import blur_matrices


def mean_baseline(references) -> jax.Array:
    """Return the mean of a sample of the data, [N, ...] -> float32 [1, ...]: one for all."""
    return as_float(references).mean(0, keepdims=True)


def blurred_baselines(x, sigma: float = 10.0) -> jax.Array:
    """Return x blurred, a baseline of each example's own: [B, H, W, C] -> float32 [B, 1, H, W, C].

    Source: Fong and Vedaldi, Interpretable Explanations of Black Boxes by Meaningful Perturbation,
    2017. Outside of the image there are zeros, as in `blur_ig`.

    Args:
        sigma: standard deviation of the Gaussian in pixels.

    Raises:
        ValueError: x is not a batch of images, or sigma <= 0.
    """
    x = as_float(x)
    if x.ndim != 4:
        raise ValueError(f"a blur needs images [B, H, W, C], and x has shape {x.shape}")
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0, and is {sigma}")
    down, across = (blur_matrices(size, sigma, sigma)[0] for size in x.shape[1:3])
    precision = jax.lax.Precision.HIGHEST
    return jnp.einsum("hi,biwc,jw->bhjc", down, x, across, precision=precision)[:, None]
