"""The training loss and the weights of classes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def one_hot(labels: jax.Array, classes: int) -> jax.Array:
    """Return target probabilities float32 [B, K] of labels int32 [B]."""
    return jax.nn.one_hot(labels, classes, dtype=jnp.float32)


def smooth(targets: jax.Array, share: float) -> jax.Array:
    """Spread a share of target probabilities [B, K] evenly over the classes.

    Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016.
    """
    return targets * (1.0 - share) + share / targets.shape[-1]


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Return the cross-entropy in nats of each session, float32 [B].

    Args:
        logits: float32 [B, K].
        targets: probabilities float32 [B, K].
    """
    return -jnp.sum(targets * jax.nn.log_softmax(logits.astype(jnp.float32)), axis=-1)


def weighted_mean(losses: jax.Array, weights: jax.Array) -> jax.Array:
    """Return the mean over sessions of losses times weights, both float32 [B].

    The divisor is the number of sessions, not the sum of the weights, as in Keras: a batch of
    rare classes then moves the parameters as much as its weights say.
    """
    return jnp.sum(losses * weights) / losses.shape[0]


def balanced_weights(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return weights float32 [K] that give every class the same total weight, 1 on average.

    N / (K * N_k) for K classes seen in the N labels int32; 0 for a class that is not there.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    seen = counts > 0
    weights = np.zeros(classes)
    weights[seen] = counts.sum() / (seen.sum() * counts[seen])
    return weights.astype(np.float32)
