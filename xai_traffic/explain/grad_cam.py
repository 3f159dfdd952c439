"""Grad-CAM: where in an activation the target's logit finds what it looks for."""

from __future__ import annotations

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
)
from xai_traffic.explain.token_grid import grid_of, lay_over


def grad_cam(
    f: ModelFunction,
    params,
    x,
    target=None,
    *,
    layer: str = "last",
    extent: tuple[int, int] | None = None,
    resize: str = "auto",
    memory_budget: int | None = None,
) -> jax.Array:
    """Weigh an activation's channels by their mean gradient, sum them, keep what is positive.

    Source: Selvaraju et al., Grad-CAM, 2017. The gradient is taken with respect to a zero array
    that f adds to the activation (a tap), so only the part of f behind the activation is
    differentiated.

    Args:
        f: `f(params, x, taps=None) -> (logits [B, K], activations)`; `taps[name]` is added to the
            activation `name` before it is used.
        x: images [B, H, W, C] in the model's own scale.
        target: class, int or int32 [B]; None explains the class with the highest logit.
        layer: name of an activation: [B, h, w, C], or tokens [B, T, C] with or without a class
            token in front.
        extent: (height, width) of the part of the image that f reads, from its first pixel; None
            for all of it.
        resize: see `lay_over`.
        memory_budget: bytes that one call may take, see `examples_at_once`.

    Returns:
        float32 [B, H, W], not negative, zero outside the extent. Not normalised: values of
        several images compare.

    Raises:
        ValueError: f has no activation of that name or it is no grid; see also `resolve_target`.
    """
    x = as_float(x)
    if x.ndim != 4:
        raise ValueError(f"grad_cam explains images [B, H, W, C], and x has shape {x.shape}")
    extent = tuple(extent or x.shape[1:3])
    at_once = examples_at_once(f, params, x, memory_budget)
    target = resolve_target(f, params, x, target, at_once)
    activations = named_activations(f, params, x)
    if layer not in activations:
        raise ValueError(f"f has no activation {layer!r}, only {', '.join(sorted(activations))}")
    kernel = compiled(_maps, f, layer, extent, resize)
    return map_batches(lambda *piece: kernel(params, *piece), at_once, x, target)


def _maps(f, layer, extent, resize, params, x, target) -> jax.Array:
    activation = named_activations(f, params, x)[layer]

    def score(tap):
        logits, activations = f(params, x, taps={layer: tap})
        picked = jnp.take_along_axis(logits.astype(jnp.float32), target[:, None], axis=1)
        return picked.sum(), activations[layer]

    zeros = jnp.zeros(activation.shape, activation.dtype)
    gradients, values = jax.grad(score, has_aux=True)(zeros)
    gradients, values = (_as_grid(a.astype(jnp.float32), extent) for a in (gradients, values))
    weights = gradients.mean((1, 2), keepdims=True)
    maps = jax.nn.relu((weights * values).sum(-1))
    return lay_over(maps, x.shape[1:3], extent, resize)


def _as_grid(values: jax.Array, extent: tuple[int, int]) -> jax.Array:
    """Return tokens [B, T, C] as [B, rows, columns, C], without a class token in front."""
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
