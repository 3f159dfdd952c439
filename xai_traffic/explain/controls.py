"""Controls that know nothing of the model: what an explanation must beat to say anything."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from xai_traffic.explain.model_function import as_float, compiled, sum_channels


def random_attributions(x, *, rng: jax.Array) -> jax.Array:
    """Draw attributions at random: standard normal, the same whatever the model and the bytes.

    Args:
        x: images [B, H, W, C], or any shape [B, ...]; only the shape counts.
        rng: key of `jax.random.key`; example i depends on (rng, i) alone, not on the batch's size.

    Returns:
        float32 [B, H, W] (other shapes: that of x).
    """
    shape = as_float(x).shape
    shape = shape[:3] if len(shape) == 4 else shape
    return compiled(_draw, shape)(rng)


def edges(x) -> jax.Array:
    """Return the strength of the edges of each image, by the Sobel operator.

    Source: Sobel and Feldman, 1968; as a control for explanations Adebayo et al., Sanity Checks for
    Saliency Maps, 2018: a method whose maps resemble this one's may show the picture, not the
    model.

    Args:
        x: images [B, H, W, C].

    Returns:
        float32 [B, H, W]: length of the (horizontal, vertical) derivative, borders repeated,
        summed over channels. Not negative.

    Raises:
        ValueError: x is not a batch of images.
    """
    x = as_float(x)
    if x.ndim != 4:
        raise ValueError(f"edges need images [B, H, W, C], and x has shape {x.shape}")
    return compiled(_sobel)(x)


def _draw(shape, rng) -> jax.Array:
    rows = jnp.arange(shape[0])
    return jax.vmap(lambda row: jax.random.normal(jax.random.fold_in(rng, row), shape[1:]))(rows)


def _sobel(x) -> jax.Array:
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    # Smoothed along one axis by (1, 2, 1), then differenced along the other.
    down = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    across = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    horizontal = down[:, :, 2:] - down[:, :, :-2]
    vertical = across[:, 2:] - across[:, :-2]
    return sum_channels(jnp.hypot(horizontal, vertical))
