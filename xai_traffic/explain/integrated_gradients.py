"""Integrated Gradients: what each input value adds to the logit on the way from a baseline."""

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
    logits_of,
    map_batches,
    resolve_target,
    sum_channels,
)
from xai_traffic.explain.quadrature import RULES, nested_quadrature, quadrature

__all__ = ["RULES", "empty_packets", "integrated_gradients", "quadrature", "uniform_baselines"]

NODES_AT_ONCE = 25
"""Most nodes in one call: more gain nothing, and 50 are two calls of one size."""

NESTED_AT_ONCE = 8
"""Nodes in one call where their number is not known before: what the first level has, and one."""

FLOOR = 0.1
"""Rise of a logit below which `tolerance` is no longer relative: it is then part of this."""


def uniform_baselines(shape, count: int = 2, seed: int = 0, high: float = 255.0) -> jax.Array:
    """Draw the seed study's baselines: `count` arrays of `shape`, uniform in [0, high)."""
    return jax.random.uniform(jax.random.key(seed), (count, *shape), maxval=high)


def empty_packets(x, least: float = 1e-3) -> jax.Array:
    """Return the baseline of the same packets with all bytes as good as zero: [B, 1, ...].

    Exact zeros are more than zero bytes: a model that leaves empty tiles out of its attention or
    its mean jumps where the last byte of a packet vanishes, and no gradient on the way sees the
    jump. Here every byte that is not zero becomes `least`, so that the packets stay there.

    Args:
        x: bytes 0..255, [B, ...].
    """
    return jnp.where(as_float(x) > 0, least, 0.0)[:, None]


def integrated_gradients(
    f: ModelFunction,
    params,
    x,
    target=None,
    *,
    steps: int = 50,
    rule: str = "gauss_legendre",
    tolerance: float | None = None,
    baselines=None,
    memory_budget: int | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Integrate the gradient along the straight way from each baseline to x.

    Source: Sundararajan et al., Axiomatic Attribution for Deep Networks, 2017. The attributions of
    an example sum to the target's logit at x less its mean over the baselines (completeness), up
    to the error of the quadrature.

    Args:
        f: `f(params, x) -> logits [B, K]` or `(logits, activations)`.
        x: images [B, H, W, C] in the model's own scale, or any shape [B, ...].
        target: class, int or int32 [B]; None explains the class with the highest logit at x.
        steps: nodes of the rule (`trapezoid`: intervals).
        rule: one of RULES. Gauss-Legendre is the exact one for smooth functions.
        tolerance: None, or the completeness error to reach in place of `steps` and `rule`: at most
            tolerance * max(|rise of the logit|, FLOOR). Each example takes as many of 7, 15, 31,
            ..., 511 nodes as it needs, and one that needs more keeps those 511: its error tells.
            A sum may agree before its parts do: the tolerance bounds the sum alone. Not inside
            `jax.jit`, which cannot decide on values.
        baselines: None for zero; [K, ...] for K baselines common to all examples; [B, K, ...] for
            K baselines of each example's own. Attributions are the mean over the K.
        memory_budget: bytes that one call may take, see `examples_at_once`.

    Returns:
        attributions float32 [B, H, W], channels summed (other shapes: that of x), and
        completeness_error float32 [B], the absolute difference of both sides in logits.

    Raises:
        ValueError: rule, steps, tolerance <= 0, baselines' shape, or see `resolve_target`.
    """
    x = as_float(x)
    starts = _as_baselines(baselines, x)
    nodes, weights = quadrature(rule, steps)
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance must be above 0, and is {tolerance}")
    at_once = examples_at_once(f, params, x, memory_budget)
    target = resolve_target(f, params, x, target, at_once)

    logits = compiled(logits_of, f)
    high, low = (
        map_batches(lambda piece: logits(params, piece), at_once, values)
        for values in (x, starts.reshape(-1, *x.shape[1:]))
    )
    rise = compiled(_rise, starts.shape[0])(high, low, target)
    own = [starts] if starts.shape[0] == x.shape[0] > 1 else []

    if tolerance is None:
        kernel = compiled(_add_part, f)
        nodes_at_once = max(1, at_once // min(at_once, x.shape[0]))
        schedule = _chunks(nodes, weights, starts.shape[1], nodes_at_once)

        def integrate(x, target, rise, *own):
            attributions = jnp.zeros_like(x)
            for chunk in schedule:
                attributions = kernel(params, attributions, x, *(own or (starts,)), *chunk, target)
            return attributions
    else:

        def integrate(x, target, rise, *own):
            places = (x, *(own or (starts,)), target, rise)
            return _integrate_to(tolerance, f, params, *places, at_once)

    attributions = map_batches(integrate, at_once, x, target, rise, *own)
    return compiled(_settle)(attributions, rise)


def _as_baselines(baselines, x: jax.Array) -> jax.Array:
    """Return baselines as float32 [1, K, ...] or [B, K, ...]."""
    if baselines is None:
        return jnp.asarray(np.zeros((1, 1, *x.shape[1:]), np.float32))
    starts = jnp.asarray(baselines, jnp.float32)
    if starts.shape[1:] == x.shape[1:]:
        starts = starts[None]
    if starts.shape[2:] != x.shape[1:] or starts.shape[0] not in (1, x.shape[0]):
        raise ValueError(
            f"baselines must have shape [K, {', '.join(map(str, x.shape[1:]))}] or "
            f"[{x.shape[0]}, K, ...], and have {starts.shape}"
        )
    return starts


def _chunks(nodes, weights, number: int, at_once: int) -> list[tuple[np.ndarray, ...]]:
    """Cut all (baseline, node) pairs into chunks of one size; fill the last with weight 0."""
    which = np.repeat(np.arange(number), len(nodes))
    places, factors = np.tile(nodes, number), np.tile(weights, number) / number
    count = -(-len(which) // min(at_once, NODES_AT_ONCE))
    size = -(-len(which) // count)
    missing = count * size - len(which)
    columns = (
        np.pad(which, (0, missing)).astype(np.int32),
        np.pad(places, (0, missing)).astype(np.float32),
        np.pad(factors, (0, missing)).astype(np.float32),
    )
    return list(zip(*(column.reshape(count, size) for column in columns), strict=True))


def _along(f, params, x, starts, which, places, target) -> tuple[jax.Array, jax.Array]:
    """Return the way from each pair's baseline and the gradient there, both [B, pairs, ...]."""
    start = starts[:, which]  # [B or 1, pairs, ...]
    way = x[:, None] - start
    points = start + places.reshape(1, -1, *(1,) * (x.ndim - 1)) * way
    gradients = input_gradient(
        f, params, points.reshape(-1, *x.shape[1:]), jnp.repeat(target, places.shape[0])
    )
    return way, gradients.reshape(points.shape)


def _add_part(f, params, attributions, x, starts, which, places, factors, target) -> jax.Array:
    """Add this chunk's part of the integral to the attributions, both in x's shape."""
    way, gradients = _along(f, params, x, starts, which, places, target)
    part = gradients * way * factors.reshape(1, -1, *(1,) * (x.ndim - 1))
    return attributions + jnp.sum(part, axis=1)


def _integrate_to(tolerance, f, params, x, starts, target, rise, at_once) -> np.ndarray:
    """Integrate by finer and finer rules, with fewer and fewer examples, and return x's shape."""
    levels, number = nested_quadrature(), starts.shape[1]
    kernel, errors = compiled(_add_to_levels, f), compiled(_error_of_level)
    allowed = tolerance * np.maximum(np.abs(np.asarray(rise)), FLOOR)
    attributions = np.zeros(x.shape, np.float32)
    rows = np.arange(x.shape[0])
    sums = jnp.zeros((x.shape[0], len(levels), *x.shape[1:]), jnp.float32)
    for level, (nodes, weights) in enumerate(levels):
        size = max(1, min(NESTED_AT_ONCE, at_once // x.shape[0]))
        # Filled up to whole chunks: a batch has one shape, whatever the level.
        for which, places, factors in _nested_chunks(nodes, weights, number, size):
            sums = kernel(params, sums, x, starts, which, places, factors, target)
        error = np.asarray(errors(sums, rise, np.int32(level)))[: len(rows)]
        done = (error <= allowed[rows]) | (level == len(levels) - 1)
        if done.any():
            attributions[rows[done]] = np.asarray(sums[:, level])[: len(rows)][done]
        keep = np.flatnonzero(~done)
        if not len(keep):
            break
        rows = rows[keep]
        # Halved as often as the rest allows: few shapes compile. Copies of one row fill it up.
        half = x.shape[0]
        while -(-half // 2) >= len(keep) and half > 1:
            half = -(-half // 2)
        keep = np.pad(keep, (0, half - len(keep)), mode="edge")
        x, target, rise, sums = (array[keep] for array in (x, target, rise, sums))
        starts = starts[keep] if starts.shape[0] > 1 else starts
    return attributions


def _nested_chunks(nodes, weights, number: int, size: int):
    """Cut all (baseline, node) pairs of a level into chunks; weights [nodes, levels]."""
    which = np.repeat(np.arange(number, dtype=np.int32), len(nodes))
    columns = which, np.tile(nodes, number), np.tile(weights, (number, 1)) / number
    for start in range(0, len(which), size):
        chunk = [column[start : start + size] for column in columns]
        missing = size - len(chunk[0])
        which_, places, factors = (
            np.pad(part, [(0, missing)] + [(0, 0)] * (part.ndim - 1)) for part in chunk
        )
        yield which_, places.astype(np.float32), factors.astype(np.float32)


def _add_to_levels(f, params, sums, x, starts, which, places, factors, target) -> jax.Array:
    """Add each node to the sums of all levels that it belongs to: sums [B, levels, ...]."""
    way, gradients = _along(f, params, x, starts, which, places, target)
    part = (gradients * way).reshape(x.shape[0], places.shape[0], -1)
    # Highest precision: accelerators multiply float32 matrices in fewer bits by default.
    added = jnp.einsum("bnd,nl->bld", part, factors, precision=jax.lax.Precision.HIGHEST)
    return sums + added.reshape(sums.shape)


def _error_of_level(sums, rise, level) -> jax.Array:
    return jnp.abs(sums[:, level].reshape(sums.shape[0], -1).sum(-1) - rise)


def _rise(groups, high, low, target) -> jax.Array:
    """Return the target's logit at x less its mean over the baselines, float32 [B].

    Args:
        high: logits at x, float32 [B, K].
        low: logits at the baselines, float32 [groups * baselines, K].
        groups: B where each example has baselines of its own, 1 where they are common.
    """
    low = low.reshape(groups, -1, low.shape[-1]).mean(1)
    return jnp.take_along_axis(high - low, target[:, None], axis=1)[:, 0]


def _settle(attributions, rise) -> tuple[jax.Array, jax.Array]:
    """Sum channels, and hold the attributions against the rise of the target's logit."""
    reached = attributions.reshape(attributions.shape[0], -1).sum(-1)
    return sum_channels(attributions), jnp.abs(reached - rise)
