"""Does an explanation answer to the model as it claims, and does it hold for inputs nearby.

Source: Yeh et al., On the (In)fidelity and Sensitivity of Explanations, 2019.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from xai_traffic.explain.model_function import (
    ModelFunction,
    as_float,
    compiled,
    examples_at_once,
    map_batches,
    resolve_target,
    target_logits,
)
from xai_traffic.explain.randomisation import Explainer

Perturbation = Callable[[jax.Array, jax.Array], jax.Array]
"""From a key and inputs [B, ...] to what is taken away from them, in their shape."""


def gaussian(deviation: float) -> Perturbation:
    """Return the perturbation by independent normal noise of this standard deviation."""

    def draw(rng: jax.Array, x: jax.Array) -> jax.Array:
        return deviation * jax.random.normal(rng, x.shape, x.dtype)

    return draw


def infidelity(
    f: ModelFunction,
    params,
    x,
    attributions,
    target=None,
    *,
    rng: jax.Array,
    perturbation: Perturbation,
    draws: int = 32,
    scaled: bool = False,
    memory_budget: int | None = None,
) -> np.ndarray:
    """Return the mean square by which attributions miss what perturbations do to the logit.

    The mean over perturbations I of (sum(I * attributions) - (f(x) - f(x - I)))^2, in logits
    squared. Attributions are taken to be per unit of the input, as gradients are; those that
    already hold the input's share of the logit (Integrated Gradients, gradient x input) fit
    perturbations that take a value away whole: then hand over attributions divided by x - baseline.

    Args:
        f, params, x, target: as for `gradient`; x float [B, ...].
        attributions: float, in x's shape, or [B, H, W] for images with one channel.
        rng: key of `jax.random.key`.
        perturbation: draws I; the same draws are made for all examples of a call.
        draws: perturbations of each example.
        scaled: first multiply the attributions of each example by the factor that makes them fit
            best: methods that differ in scale alone are told apart no more.
        memory_budget: bytes that one call may take, see `examples_at_once`.

    Returns:
        float64 [B].

    Raises:
        ValueError: the shapes do not fit, or `draws` is less than 1.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}: at least one is needed")
    x = as_float(x)
    weights = jnp.asarray(attributions, jnp.float32)
    if weights.size != x.size or weights.shape[0] != x.shape[0]:
        raise ValueError(f"attributions {weights.shape} do not fit inputs of shape {x.shape}")
    weights = weights.reshape(x.shape)
    at_once = examples_at_once(f, params, x, memory_budget)
    target = resolve_target(f, params, x, target, at_once)
    kernel = compiled(_claims_and_effects, f)
    claims, effects = [], []
    for draw in range(draws):
        taken = perturbation(jax.random.fold_in(rng, draw), x)
        pair = map_batches(lambda *p: kernel(params, *p), at_once, x, taken, weights, target)
        claims.append(pair[0])
        effects.append(pair[1])
    claims, effects = (np.asarray(jnp.stack(each), np.float64) for each in (claims, effects))
    if scaled:
        squares = (claims**2).sum(0)
        claims = claims * np.divide(
            (claims * effects).sum(0), squares, out=np.zeros_like(squares), where=squares > 0
        )
    return ((claims - effects) ** 2).mean(0)


def _claims_and_effects(f, params, x, taken, weights, target) -> tuple[jax.Array, jax.Array]:
    claim = (taken * weights).reshape(x.shape[0], -1).sum(1)
    effect = target_logits(f, params, x, target) - target_logits(f, params, x - taken, target)
    return claim, effect


def max_sensitivity(
    explain: Explainer,
    params,
    x,
    *,
    rng: jax.Array,
    radius: float,
    draws: int = 10,
    keep: np.ndarray | None = None,
) -> np.ndarray:
    """Return the most by which an explanation changes within a small box around x, float64 [B].

    The largest |explain(x + d) - explain(x)| / |explain(x)| (Euclidean) over `draws` of d, uniform
    in [-radius, radius]. Of inputs that are bytes, a radius is in bytes. NaN where nothing is
    attributed to x.

    Args:
        explain: from parameters and inputs to attributions; it must explain the same target for x
            and x + d, so name the target.
        params: of the model.
        x: float [B, ...].
        rng: key of `jax.random.key`.
        keep: bool, of the shape that `explain` returns: what is no padding; None for all.

    Raises:
        ValueError: `draws` is less than 1 or the radius is not positive.
    """
    if draws < 1 or not radius > 0:
        raise ValueError(f"draws is {draws} and radius {radius}: both must be positive")
    x = as_float(x)

    def explained(inputs: jax.Array) -> np.ndarray:
        found = np.asarray(explain(params, inputs), np.float64)
        found = found if keep is None else np.where(keep, found, 0.0)
        return found.reshape(len(found), -1)

    before = explained(x)
    size, most = np.linalg.norm(before, axis=1), np.zeros(len(before))
    for draw in range(draws):
        key = jax.random.fold_in(rng, draw)
        moved = x + jax.random.uniform(key, x.shape, x.dtype, -radius, radius)
        most = np.maximum(most, np.linalg.norm(explained(moved) - before, axis=1))
    return np.divide(most, size, out=np.full(len(size), np.nan), where=size > 0)
