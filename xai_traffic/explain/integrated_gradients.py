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

RULES = ("gauss_legendre", "trapezoid", "midpoint")

NODES_AT_ONCE = 25
"""Most nodes in one call: on CPU larger chunks leave the caches and gain nothing."""


def quadrature(rule: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes and weights (float64, weights sum to 1) of a rule on [0, 1].

    `gauss_legendre` and `midpoint` have `steps` nodes, `trapezoid` has `steps` intervals and
    therefore steps + 1 nodes.

    Raises:
        ValueError: the rule is not one of RULES, or steps < 1.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, and is {steps}")
    if rule == "gauss_legendre":
        nodes, weights = np.polynomial.legendre.leggauss(steps)
        return (nodes + 1) / 2, weights / 2
    if rule == "midpoint":
        return (np.arange(steps) + 0.5) / steps, np.full(steps, 1 / steps)
    if rule == "trapezoid":
        weights = np.full(steps + 1, 1 / steps)
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, steps + 1), weights
    raise ValueError(f"rule {rule!r} is unknown: choose one of {', '.join(RULES)}")


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
        baselines: None for zero; [K, ...] for K baselines common to all examples; [B, K, ...] for
            K baselines of each example's own. Attributions are the mean over the K.
        memory_budget: bytes that one call may take, see `examples_at_once`.

    Returns:
        attributions float32 [B, H, W], channels summed (other shapes: that of x), and
        completeness_error float32 [B], the absolute difference of both sides in logits.

    Raises:
        ValueError: rule, steps, baselines' shape, or see `resolve_target`.
    """
    x = as_float(x)
    starts = _as_baselines(baselines, x)
    nodes, weights = quadrature(rule, steps)
    at_once = examples_at_once(f, params, x, memory_budget)
    target = resolve_target(f, params, x, target, at_once)

    number = starts.shape[1]
    schedule = _chunks(nodes, weights, number, max(1, at_once // min(at_once, x.shape[0])))
    kernel = compiled(_add_part, f)

    def integrate(x, target, *own):
        attributions = jnp.zeros_like(x)
        for chunk in schedule:
            attributions = kernel(params, attributions, x, *(own or (starts,)), *chunk, target)
        return attributions

    own = [starts] if starts.shape[0] == x.shape[0] > 1 else []
    attributions = map_batches(integrate, at_once, x, target, *own)

    logits = compiled(logits_of, f)
    high, low = (
        map_batches(lambda piece: logits(params, piece), at_once, values)
        for values in (x, starts.reshape(-1, *x.shape[1:]))
    )
    return compiled(_settle, starts.shape[0])(attributions, high, low, target)


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


def _add_part(f, params, attributions, x, starts, which, places, factors, target) -> jax.Array:
    """Add this chunk's part of the integral to the attributions, both in x's shape."""
    start = starts[:, which]  # [B or 1, nodes, ...]
    way = x[:, None] - start
    column = (1, -1, *(1,) * (x.ndim - 1))
    points = start + places.reshape(column) * way
    gradients = input_gradient(
        f, params, points.reshape(-1, *x.shape[1:]), jnp.repeat(target, places.shape[0])
    )
    part = gradients.reshape(points.shape) * way * factors.reshape(column)
    return attributions + jnp.sum(part, axis=1)


def _settle(groups, attributions, high, low, target) -> tuple[jax.Array, jax.Array]:
    """Sum channels, and hold the attributions against the rise of the target's logit.

    Args:
        high: logits at x, float32 [B, K].
        low: logits at the baselines, float32 [groups * baselines, K].
        groups: B where each example has baselines of its own, 1 where they are common.
    """
    low = low.reshape(groups, -1, low.shape[-1]).mean(1)
    rise = jnp.take_along_axis(high - low, target[:, None], axis=1)[:, 0]
    reached = attributions.reshape(attributions.shape[0], -1).sum(-1)
    return sum_channels(attributions), jnp.abs(reached - rise)
