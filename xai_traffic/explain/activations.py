"""A named activation of a model function: its values, its gradient, and the map it makes.

All class activation maps begin here. The gradient is taken with respect to a zero array that f adds
to the activation (a tap), so only the part of f behind the activation is differentiated.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from xai_traffic.explain.model_function import (
    ModelFunction,
    as_float,
    compiled,
    examples_at_once,
    map_batches,
    named_activations,
    resolve_target,
    target_of,
)
from xai_traffic.explain.token_grid import grid_of, lay_over

Combine = Callable[[jax.Array, jax.Array], jax.Array]
"""Gradients and values at an activation, both [B, h, w, C], to maps [B, h, w]."""


def values_at(f: ModelFunction, layer: str, params, x: jax.Array) -> jax.Array:
    """Return the activation `layer` at x as float32, in its own shape."""
    return f(params, x)[1][layer].astype(jnp.float32)


def gradients_at(
    f: ModelFunction, layer: str, params, x: jax.Array, target: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return d(target logit)/d(activation) and the activation `layer` at x, both float32."""
    gradients, values = gradients_of(f, (layer,), params, x, target)
    return gradients[layer], values[layer]


def gradients_of(
    f: ModelFunction, layers: tuple[str, ...], params, x: jax.Array, target: jax.Array
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Return the same at several activations, by their names."""
    shapes = named_activations(f, params, x)

    def score(taps):
        logits, activations = f(params, x, taps=taps)
        return target_of(logits, target).sum(), {name: activations[name] for name in layers}

    zeros = {name: jnp.zeros(shapes[name].shape, shapes[name].dtype) for name in layers}
    pair = jax.grad(score, has_aux=True)(zeros)
    gradients, values = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), pair)
    return gradients, values


def as_images(f: ModelFunction, params, x, layer: str) -> jax.Array:
    """Return x as float32 images [B, H, W, C] at which f has the activation `layer`.

    Raises:
        ValueError: x holds no images, or f has no activation of that name.
    """
    x = as_float(x)
    if x.ndim != 4:
        raise ValueError(f"activation maps explain images [B, H, W, C], and x has shape {x.shape}")
    activations = named_activations(f, params, x)
    if layer not in activations:
        raise ValueError(f"f has no activation {layer!r}, only {', '.join(sorted(activations))}")
    return x


def as_grid(values: jax.Array, extent: tuple[int, int]) -> jax.Array:
    """Return tokens [B, T, C] as [B, rows, columns, C], without a class token in front.

    Raises:
        ValueError: the activation is no grid over the extent.
    """
    if values.ndim == 4:
        return values
    if values.ndim != 3:
        raise ValueError(f"an activation of shape {values.shape} is no grid")
    try:
        rows, columns = grid_of(values.shape[1], extent)
    except ValueError:
        values = values[:, 1:]
        rows, columns = grid_of(values.shape[1], extent)
    return values.reshape(values.shape[0], rows, columns, -1)


def gradient_maps(
    combine: Combine,
    f: ModelFunction,
    params,
    x,
    target=None,
    *,
    layer: str = "last",
    extent: tuple[int, int] | None = None,
    resize: str = "auto",
    positive: bool = True,
    memory_budget: int | None = None,
) -> jax.Array:
    """Combine gradients and values at an activation to maps laid over the images, [B, H, W].

    Other arguments, result and errors as `grad_cam`.
    """
    x = as_images(f, params, x, layer)
    extent = tuple(extent or x.shape[1:3])
    at_once = examples_at_once(f, params, x, memory_budget)
    target = resolve_target(f, params, x, target, at_once)
    kernel = compiled(_gradient_maps, combine, f, layer, extent, resize, positive)
    return map_batches(lambda *piece: kernel(params, *piece), at_once, x, target)


def _gradient_maps(combine, f, layer, extent, resize, positive, params, x, target) -> jax.Array:
    pair = gradients_at(f, layer, params, x, target)
    maps = combine(*(as_grid(values, extent) for values in pair))
    return finish(maps, x.shape[1:3], extent, resize, positive)


def finish(maps: jax.Array, shape, extent, resize: str, positive: bool) -> jax.Array:
    """Keep what is positive, if asked, and lay maps [B, h, w] over images of `shape`."""
    return lay_over(jax.nn.relu(maps) if positive else maps, shape, extent, resize)
