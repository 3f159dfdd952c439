"""Completeness: do attributions add up to what the logit rises from the baseline to x."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from xai_traffic.explain.integrated_gradients import FLOOR
from xai_traffic.explain.model_function import (
    ModelFunction,
    as_float,
    compiled,
    examples_at_once,
    map_batches,
    resolve_target,
    target_logits,
)


def completeness_error(
    f: ModelFunction,
    params,
    x,
    attributions,
    target=None,
    *,
    baseline=0.0,
    keep: np.ndarray | None = None,
    floor: float = FLOOR,
    memory_budget: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return |sum of attributions - (f(x) - f(baseline))|, in logits and as part of that rise.

    Source: Sundararajan et al., Axiomatic Attribution for Deep Networks, 2017. Of attributions of
    any method; those that are per unit of the input, as gradients are, do not mean to add up.

    Args:
        f, params, x, target: as for `gradient`.
        attributions: float [B, ...]: of input values or of players, all that an example has.
        baseline: what they are counted from, broadcast to x's shape.
        keep: bool [B, ...], what is no padding, of the shape of `attributions` (images: without
            channels) and of x: the rest is not summed and is x's own in the baseline too. None for
            all.
        floor: logits; a rise that is less counts as this in the relative error.
        memory_budget: bytes that one call may take, see `examples_at_once`.

    Returns:
        error and error / max(|f(x) - f(baseline)|, floor), both float64 [B].

    Raises:
        ValueError: shapes do not fit, the floor is not positive, or see `resolve_target`.
    """
    x = as_float(x)
    found = np.asarray(attributions, np.float64)
    if found.ndim < 2 or len(found) != len(x) or not floor > 0:
        raise ValueError(
            f"attributions {found.shape} and floor {floor}: need one row for each of {len(x)} "
            f"examples, and more than 0"
        )
    start = jnp.broadcast_to(jnp.asarray(baseline, jnp.float32), x.shape)
    if keep is not None:
        keep = np.asarray(keep, bool)
        if keep.shape != found.shape or keep.shape not in (x.shape, x.shape[:-1]):
            raise ValueError(
                f"keep {keep.shape} must have the shape of attributions, {found.shape}, and of x, "
                f"{x.shape}"
            )
        found = np.where(keep, found, 0.0)
        start = jnp.where(keep.reshape(*keep.shape, *(1,) * (x.ndim - keep.ndim)), start, x)
    at_once = examples_at_once(f, params, x, memory_budget)
    target = resolve_target(f, params, x, target, at_once)
    kernel = compiled(target_logits, f)

    def logits(inputs) -> np.ndarray:
        each = map_batches(lambda *piece: kernel(params, *piece), at_once, inputs, target)
        return np.asarray(each, np.float64)

    rise = logits(x) - logits(start)
    error = np.abs(found.reshape(len(found), -1).sum(1) - rise)
    return error, error / np.maximum(np.abs(rise), floor)
