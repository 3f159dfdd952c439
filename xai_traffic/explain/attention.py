"""Attention of a vision transformer: what the class token looks at, raw and rolled out."""

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
)
from xai_traffic.explain.token_grid import grid_of, lay_over

PREFIX = "attention_"
"""Activations of this name hold attention [B, heads, T, T], softmaxed over the last axis."""


def attention_layers(f: ModelFunction, params, x) -> tuple[str, ...]:
    """Return the names of f's attention activations in order; empty where it has none."""
    try:
        names = named_activations(f, params, as_float(x)[:1])
    except ValueError:
        return ()
    return tuple(sorted(name for name in names if name.startswith(PREFIX)))


def attention(
    f: ModelFunction,
    params,
    x,
    *,
    extent: tuple[int, int] | None = None,
    memory_budget: int | None = None,
) -> jax.Array:
    """Return the attention of the class token to each patch, in every layer and head.

    What a head looks at is not what the verdict rests on: it holds for every class alike. Look at
    all heads, never at a chosen one.

    Args:
        f: `f(params, x) -> (logits, activations)` with activations "attention_00", ...
            [B, heads, T, T], the class token first.
        x: images [B, H, W, C] in the model's own scale.
        extent: (height, width) of the part of the image that f reads, from its first pixel; None
            for all of it.
        memory_budget: bytes that one call may take, see `examples_at_once`.

    Returns:
        float32 [B, layers, heads, rows, columns], one value a token, hence a packet where a patch
        is a tile. What is missing to 1 is the class token's attention to itself. `lay_over`
        enlarges it to the image.

    Raises:
        ValueError: f has no such activations, or its tokens are no grid.
    """
    return _mapped(_class_rows, f, params, x, extent, memory_budget)


def attention_rollout(
    f: ModelFunction,
    params,
    x,
    *,
    extent: tuple[int, int] | None = None,
    resize: str = "auto",
    memory_budget: int | None = None,
) -> jax.Array:
    """Follow attention through all layers, the skip connections included.

    Source: Abnar and Zuidema, Quantifying Attention Flow in Transformers, 2020: the mean over
    heads, half of it replaced by the identity, multiplied layer by layer. Arguments and errors as
    `attention`, `resize` as in `lay_over`.

    Returns:
        float32 [B, H, W], zero outside the extent; the same for every class.
    """
    return _mapped(_rolled_out, f, params, x, extent, memory_budget, resize)


def attention_names(f: ModelFunction, params, x) -> tuple[jax.Array, tuple[str, ...]]:
    """Return x as float32 images, and the names of f's attention activations in order.

    Raises:
        ValueError: x holds no images, or f has no such activations.
    """
    x = as_float(x)
    if x.ndim != 4:
        raise ValueError(f"attention explains images [B, H, W, C], and x has shape {x.shape}")
    names = attention_layers(f, params, x)
    if not names:
        raise ValueError(f"f has no activation {PREFIX}00: it is no transformer, or hides it")
    return x, names


def token_maps(flow: jax.Array, shape, extent, resize: str) -> jax.Array:
    """Lay what the class token gets of each patch, of flow [B, T, T], over images of `shape`."""
    patches = flow[:, 0, 1:]
    maps = patches.reshape(patches.shape[0], *grid_of(patches.shape[-1], extent))
    return lay_over(maps, shape, extent, resize)


def _mapped(kernel, f, params, x, extent, memory_budget, *options) -> jax.Array:
    x, names = attention_names(f, params, x)
    at_once = examples_at_once(f, params, x, memory_budget)
    call = compiled(kernel, f, names, tuple(extent or x.shape[1:3]), *options)
    return map_batches(lambda piece: call(params, piece), at_once, x)


def _class_rows(f, names, extent, params, x) -> jax.Array:
    activations = f(params, x)[1]
    rows = jnp.stack([activations[name][:, :, 0, 1:] for name in names], axis=1)
    return rows.reshape(*rows.shape[:3], *grid_of(rows.shape[-1], extent)).astype(jnp.float32)


def _rolled_out(f, names, extent, resize, params, x) -> jax.Array:
    activations = f(params, x)[1]
    flow = None
    for name in names:
        mean = activations[name].astype(jnp.float32).mean(1)
        step = (mean + jnp.eye(mean.shape[-1])) / 2
        step = step / step.sum(-1, keepdims=True)
        flow = step if flow is None else step @ flow
    return token_maps(flow, x.shape[1:3], extent, resize)
