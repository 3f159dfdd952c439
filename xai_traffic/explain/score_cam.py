"""Score-CAM and Ablation-CAM: weigh an activation's channels by what f says, without gradients.

Both ask f once for each channel, so they cost as many forward passes as the activation has
channels. Each takes the arguments of `grad_cam`, options included, and returns and raises what it
does.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from xai_traffic.explain.activations import as_grid, as_images, finish, values_at
from xai_traffic.explain.model_function import (
    ModelFunction,
    compiled,
    examples_at_once,
    map_batches,
    named_activations,
    resolve_target,
    target_logits,
    target_of,
)
from xai_traffic.explain.token_grid import lay_over


def score_cam(f: ModelFunction, params, x, target=None, **options) -> jax.Array:
    """Weigh channels by the target's logit of the image seen through each of them.

    Source: Wang et al., Score-CAM, 2020. A channel is laid over the image as the result is (so
    `resize` counts twice), scaled to 0..1 and multiplied with x; the weights are the softmax of the
    logits over the channels, in which the paper's baseline falls out. pytorch-grad-cam enlarges
    with aligned corners instead. f takes no taps.
    """
    return _by_channel(_masked_logits, _softmax_weights, f, params, x, target, **options)


def ablation_cam(f: ModelFunction, params, x, target=None, **options) -> jax.Array:
    """Weigh channels by how far the target's logit falls, relative to itself, without each.

    Source: Desai and Ramaswamy, Ablation-CAM, 2020. A channel is set to zero everywhere, class
    token included. The fall is divided by the logit's magnitude: the paper and pytorch-grad-cam
    divide by the logit, so that under a negative one what speaks for the target counts against it.
    pytorch-grad-cam sets channels far below zero where the activation's minimum is not 0.
    """
    return _by_channel(_ablated_logits, _fall_weights, f, params, x, target, **options)


def _by_channel(
    judge: Callable,
    weigh: Callable,
    f,
    params,
    x,
    target,
    *,
    layer: str = "last",
    extent: tuple[int, int] | None = None,
    resize: str = "auto",
    positive: bool = True,
    memory_budget: int | None = None,
) -> jax.Array:
    """Ask f about every channel, some at a time, and sum the channels by the answers.

    Args:
        judge: `(f, layer, extent, resize, params, x, target, values, channels) -> [B, c]`, the
            target's logits for c channels.
        weigh: `(those for all channels [B, C], the target's logit [B]) -> weights [B, C]`.
    """
    x = as_images(f, params, x, layer)
    extent = tuple(extent or x.shape[1:3])
    at_once = examples_at_once(f, params, x, memory_budget)
    target = resolve_target(f, params, x, target, at_once)
    look = compiled(values_at, f, layer)
    ask = compiled(judge, f, layer, extent, resize)
    join = compiled(_weighted_maps, weigh, f, extent, resize, positive)

    def explain(x, target):
        values = look(params, x)
        count = values.shape[-1]
        chunks = _chunks(count, at_once // x.shape[0])
        logits = [ask(params, x, target, values, chunk) for chunk in chunks]
        return join(params, x, target, values, jnp.concatenate(logits, axis=1)[:, :count])

    return map_batches(explain, at_once, x, target)


def _chunks(count: int, most: int) -> np.ndarray:
    """Return channels 0..count-1 as int32 [chunks, size], the last one repeated to fill up."""
    chunks = -(-count // max(1, most))
    size = -(-count // chunks)
    return np.minimum(np.arange(chunks * size, dtype=np.int32), count - 1).reshape(chunks, size)


def _masked_logits(f, layer, extent, resize, params, x, target, values, channels) -> jax.Array:
    """Return the target's logit of x seen through each channel: float32 [B, c]."""
    grid = as_grid(values, extent)[..., channels]
    masks = lay_over(jnp.moveaxis(grid, -1, 1), extent, extent, resize)
    least = masks.min((2, 3), keepdims=True)
    span = masks.max((2, 3), keepdims=True) - least
    masks = (masks - least) / jnp.where(span == 0, 1.0, span)
    # Already as large as the extent: only the zeros around it are added.
    masks = lay_over(masks, x.shape[1:3], extent, "nearest")
    seen = x[:, None] * masks[..., None]
    logits = target_logits(
        f, params, seen.reshape(-1, *x.shape[1:]), jnp.repeat(target, channels.shape[0])
    )
    return logits.reshape(x.shape[0], -1)


def _ablated_logits(f, layer, extent, resize, params, x, target, values, channels) -> jax.Array:
    """Return the target's logit of x without each channel of the activation: float32 [B, c]."""
    dtype = named_activations(f, params, x)[layer].dtype

    def without(channel):
        tap = jnp.where(jnp.arange(values.shape[-1]) == channel, -values, 0.0)
        return target_of(f(params, x, taps={layer: tap.astype(dtype)})[0], target)

    # x is not mapped over, so that what lies before the activation runs once for all channels.
    return jax.vmap(without, out_axes=1)(channels)


def _softmax_weights(logits, whole) -> jax.Array:
    return jax.nn.softmax(logits, axis=1)


def _fall_weights(logits, whole) -> jax.Array:
    size = jnp.abs(whole)[:, None]
    return (whole[:, None] - logits) / jnp.where(size == 0, 1.0, size)


def _weighted_maps(
    weigh, f, extent, resize, positive, params, x, target, values, logits
) -> jax.Array:
    weights = weigh(logits, target_logits(f, params, x, target))
    maps = (as_grid(values, extent) * weights[:, None, None]).sum(-1)
    return finish(maps, x.shape[1:3], extent, resize, positive)
