"""Integrated gradients along other ways: out of a blur (Blur IG), least gradient first (Guided)."""

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
    target_logits,
)
from xai_traffic.explain.quadrature import quadrature


def blur_ig(
    f: ModelFunction,
    params,
    x,
    target=None,
    *,
    steps: int = 50,
    sigma: float = 50.0,
    memory_budget: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Integrate the gradient while a Gaussian blur recedes: no baseline has to be named.

    Source: Xu et al., Attribution in Scale and Space, 2020. Unlike PAIR's implementation, which
    sums finite differences from the left, this takes Gauss-Legendre nodes and the derivative of the
    blur itself, so that far fewer steps are complete. Outside of the image there are zeros.

    Args:
        f: `f(params, x) -> logits [B, K]` or `(logits, activations)`.
        x: images [B, H, W, C] in the model's own scale.
        target: class, int or int32 [B]; None explains the class with the highest logit at x.
        steps: nodes between no blur and the strongest.
        sigma: standard deviation of the strongest blur in pixels.
        memory_budget: bytes that one call may take, see `examples_at_once`.

    Returns:
        attributions float32 [B, H, W], channels summed, and completeness_error float32 [B], what
        they miss of the target's logit at x less that at the strongest blur.

    Raises:
        ValueError: x is not a batch of images, steps < 1, sigma <= 0, or see `resolve_target`.
    """
    x = as_float(x)
    if x.ndim != 4:
        raise ValueError(f"a blur needs images [B, H, W, C], and x has shape {x.shape}")
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0, and is {sigma}")
    nodes, weights = quadrature("gauss_legendre", steps)
    at_once = examples_at_once(f, params, x, memory_budget)
    target = resolve_target(f, params, x, target, at_once)
    kernel, settle = compiled(_add_blur, f), compiled(_settle_blur, f)
    sizes = x.shape[1:3]

    def integrate(x, target):
        total = jnp.zeros_like(x)
        for node, weight in zip(nodes, weights, strict=True):
            matrices = [blur_matrices(size, sigma * node, sigma) for size in sizes]
            total = kernel(params, total, x, target, *matrices, np.float32(weight * sigma))
        last = [blur_matrices(size, sigma, sigma)[0] for size in sizes]
        return settle(params, total, x, target, *last)

    return map_batches(integrate, at_once, x, target)


def blur_matrices(size: int, sigma: float, widest: float) -> np.ndarray:
    """Return a Gaussian blur of one axis and its derivative by sigma, float32 [2, size, size].

    The samples of the Gaussian are normalised over 6 `widest` to either side of a pixel, beyond
    the image's border too: its zeros darken what is near.
    """
    reach = max(size, int(np.ceil(6 * widest)))
    distances = np.arange(-reach, reach + 1.0) ** 2
    bell = np.exp(-distances / (2 * sigma**2))
    slope = bell * distances / sigma**3
    total = bell.sum()
    rows = np.stack([bell / total, slope / total - bell * slope.sum() / total**2])
    apart = reach + np.arange(size)[:, None] - np.arange(size)
    return rows[:, apart].astype(np.float32)


def guided_ig(
    f: ModelFunction,
    params,
    x,
    target=None,
    *,
    baselines=None,
    steps: int = 100,
    fraction: float = 0.25,
    distance: float = 0.02,
    memory_budget: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Integrate the gradient on a way that moves the values with the least gradient first.

    Source: Kapishnikov et al., Guided Integrated Gradients, 2021. Every step goes the same L1
    distance; the gradient is taken where it begins, so the completeness error falls as 1 / steps.

    Args:
        f, x, target, memory_budget: as `blur_ig`, x of any shape [B, ...].
        baselines: where the way begins, of x's shape or [...] for all examples; None for zero.
        steps: gradients on the way.
        fraction: part of the values that move at a time, those with the least |gradient|.
        distance: how far a value may be from its place on the straight way, as part of the way.

    Returns:
        as `blur_ig`; other shapes keep x's.

    Raises:
        ValueError: steps < 1, fraction or distance not in (0, 1], or see `resolve_target`.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, and is {steps}")
    for name, value in (("fraction", fraction), ("distance", distance)):
        if not 0 < value <= 1:
            raise ValueError(f"{name} must be above 0 and at most 1, and is {value}")
    x = as_float(x)
    start = jnp.broadcast_to(jnp.asarray(0.0 if baselines is None else baselines), x.shape)
    start = start.astype(jnp.float32)
    at_once = examples_at_once(f, params, x, memory_budget)
    target = resolve_target(f, params, x, target, at_once)
    kernel, settle = compiled(_guided_step, f, fraction), compiled(_settle, f)

    def integrate(x, start, target):
        state = (start, jnp.zeros_like(x))
        for step in range(1, steps + 1):
            place = step / steps
            near = np.float32([place, max(place - distance, 0), min(place + distance, 1)])
            state = kernel(params, state, x, start, target, near)
        return settle(params, state[1], x, start, target)

    return map_batches(integrate, at_once, x, start, target)


def _blurred(x, down, across) -> jax.Array:
    return jnp.einsum("hi,biwc,wj->bhjc", down, x, across.T, precision=jax.lax.Precision.HIGHEST)


def _add_blur(f, params, total, x, target, down, across, weight) -> jax.Array:
    gradients = input_gradient(f, params, _blurred(x, down[0], across[0]), target)
    slope = _blurred(x, down[1], across[0]) + _blurred(x, down[0], across[1])
    # The blur recedes: its way is run through backwards.
    return total - weight * gradients * slope


def _settle_blur(f, params, total, x, target, down, across):
    return _settle(f, params, total, x, _blurred(x, down, across), target)


def _settle(f, params, total, x, start, target) -> tuple[jax.Array, jax.Array]:
    rise = target_logits(f, params, x, target) - target_logits(f, params, start, target)
    return sum_channels(total), jnp.abs(total.reshape(x.shape[0], -1).sum(-1) - rise)


def _guided_step(f, fraction, params, state, x, start, target, near):
    """Go on by one step: state is (point, attributions), both in x's shape."""
    point, total = state
    gradients = input_gradient(f, params, point, target)
    flat = [values.reshape(x.shape[0], -1) for values in (point, gradients, x, start)]
    moved = jax.vmap(_move, in_axes=(None, 0, 0, 0, 0, None))(fraction, *flat, near)
    moved = moved.reshape(x.shape)
    return moved, total + (moved - point) * gradients


def _move(fraction, point, gradient, end, start, near) -> jax.Array:
    """Move one example's values [D], those with the least |gradient| first, to its next place."""
    place, least, most = near
    way = end - start
    low, high = start + least * way, jnp.where(most >= 1, end, start + most * way)
    # Values that lag behind catch up first, whatever their gradient.
    point = jnp.where(jnp.abs(end - point) > jnp.abs(end - low), low, point)
    goal = jnp.abs(way).sum() * (1 - place)
    rank = int(fraction * (point.shape[0] - 1))

    def left(point):
        return jnp.abs(end - point).sum() - goal

    def unfinished(carry):
        point, free = carry
        return (left(point) > 1e-6 * jnp.abs(way).sum()) & free.any()

    def go(carry):
        point, free = carry
        strength = jnp.where(free, jnp.abs(gradient), jnp.inf)
        chosen = free & (strength <= jnp.sort(strength)[rank])
        # Fewer than the fraction may be free: then all of them go.
        reach = jnp.where(chosen, jnp.abs(high - point), 0).sum()
        share = jnp.clip(left(point) / jnp.maximum(reach, 1e-30), 0, 1)
        there = jnp.where(share >= 1, high, point + share * (high - point))
        return jnp.where(chosen, there, point), free & ~chosen

    return jax.lax.while_loop(unfinished, go, (point, point != high))[0]
