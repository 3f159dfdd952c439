"""Plain gradients: how the target's logit answers to each input value."""

from __future__ import annotations

import jax

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


def gradient(
    f: ModelFunction, params, x, target=None, *, memory_budget: int | None = None
) -> jax.Array:
    """Return the gradient of the target's logit at x.

    Source: Simonyan et al., Deep Inside Convolutional Networks, 2014.

    Args:
        f: `f(params, x) -> logits [B, K]` or `(logits, activations)`.
        x: images [B, H, W, C] in the model's own scale, or any shape [B, ...].
        target: class, int or int32 [B]; None explains the class with the highest logit.
        memory_budget: bytes that one call may take, see `examples_at_once`.

    Returns:
        float32 [B, H, W], channels summed (other shapes: that of x), signed.

    Raises:
        ValueError: see `resolve_target`.
    """
    return _mapped(_plain, f, params, x, target, memory_budget)


def gradient_x_input(
    f: ModelFunction, params, x, target=None, *, memory_budget: int | None = None
) -> jax.Array:
    """Return gradient times input, the first-order share of each input value in the logit.

    Source: Shrikumar et al., Not Just a Black Box, 2016. Arguments, result and errors as
    `gradient`.
    """
    return _mapped(_times_input, f, params, x, target, memory_budget)


def _plain(f, params, x, target) -> jax.Array:
    return sum_channels(input_gradient(f, params, x, target))


def _times_input(f, params, x, target) -> jax.Array:
    return sum_channels(input_gradient(f, params, x, target) * x)


def _mapped(kernel, f, params, x, target, memory_budget) -> jax.Array:
    x = as_float(x)
    at_once = examples_at_once(f, params, x, memory_budget)
    target = resolve_target(f, params, x, target, at_once)
    call = compiled(kernel, f)
    return map_batches(lambda *piece: call(params, *piece), at_once, x, target)
