"""Scores that training steers by: sums over batches on the device, numbers on the host."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def empty_sums(classes: int) -> dict[str, jax.Array]:
    """Return the sums of no batch: "loss" float32 [], "confusion" int32 [K, K]."""
    return {
        "loss": jnp.zeros((), jnp.float32),
        "confusion": jnp.zeros((classes, classes), jnp.int32),
    }


def add_batch(
    sums: dict[str, jax.Array],
    logits: jax.Array,
    losses: jax.Array,
    labels: jax.Array,
    weights: jax.Array,
) -> dict[str, jax.Array]:
    """Add a batch to the sums.

    Args:
        sums: as `empty_sums` makes them.
        logits: float32 [B, K].
        losses: float32 [B].
        labels: int32 [B].
        weights: float32 [B], 0 where a row only fills the batch up.
    """
    real = weights > 0
    counts = sums["confusion"].at[labels, jnp.argmax(logits, axis=-1)].add(real.astype(jnp.int32))
    return {"loss": sums["loss"] + jnp.sum(jnp.where(real, losses, 0.0)), "confusion": counts}


def scores_of(sums: dict[str, np.ndarray]) -> dict[str, float]:
    """Return loss, accuracy and macro_f1 of the sums over a whole split.

    macro_f1 is the mean over the classes that occur, as a label or as a verdict.
    """
    confusion = np.asarray(sums["confusion"], np.float64)
    total, hits = confusion.sum(), np.diag(confusion)
    either = confusion.sum(axis=0) + confusion.sum(axis=1)
    occurs = either > 0
    return {
        "loss": float(sums["loss"] / total),
        "accuracy": float(hits.sum() / total),
        "macro_f1": float(np.mean(2 * hits[occurs] / either[occurs])),
    }
