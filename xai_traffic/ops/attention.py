"""Attention over the tokens of a session: one that shows its probabilities, and cuDNN's kernel."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    keep: jax.Array | None,
    show: Callable[[jax.Array], jax.Array] = lambda probabilities: probabilities,
) -> jax.Array:
    """Mix values by softmax(query . key / sqrt(head_dim)), Vaswani et al. 2017.

    Args:
        query, key, value: float [B, T, heads, head_dim].
        keep: bool [B, T, T] or [B, 1, T], keys that a query may look at; None for all. A query that
            may look at none mixes all alike.
        show: is given the probabilities, float32 [B, heads, T, T]; what it returns is used.

    Returns:
        [B, T, heads, head_dim] of value's dtype; scores and softmax are float32.
    """
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
    scores = scores / math.sqrt(query.shape[-1])
    if keep is not None:
        scores = jnp.where(keep[:, None], scores, jnp.finfo(jnp.float32).min)
    probabilities = show(jax.nn.softmax(scores, axis=-1))
    return jnp.einsum("bhqk,bkhd->bqhd", probabilities.astype(value.dtype), value)


def fused_attention(
    query: jax.Array, key: jax.Array, value: jax.Array, keep: jax.Array | None
) -> jax.Array:
    """Do the same by cuDNN's kernel on a GPU in 16 bits, by `attention` anywhere else."""
    if jax.default_backend() == "gpu" and query.dtype in (jnp.bfloat16, jnp.float16):
        return library_attention(query, key, value, keep, "cudnn")
    return attention(query, key, value, keep)


def library_attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    keep: jax.Array | None,
    implementation: str,
) -> jax.Array:
    """Do the same by `jax.nn.dot_product_attention`.

    cuDNN differentiates masked attention over even lengths only: odd ones are filled up by a token
    that nobody looks at.
    """
    batch, length = query.shape[:2]
    odd = length % 2
    if odd:
        keep = jnp.ones((1, 1, length), bool) if keep is None else keep
        query, key, value = (
            jnp.pad(x, ((0, 0), (0, 1), (0, 0), (0, 0))) for x in (query, key, value)
        )
        keep = jnp.pad(keep, ((0, 0), (0, int(keep.shape[1] > 1)), (0, 1)))
    if keep is not None:
        keep = jnp.broadcast_to(keep, (batch, length + odd, length + odd))[:, None]
    mixed = jax.nn.dot_product_attention(
        query, key, value, mask=keep, implementation=implementation
    )
    return mixed[:, :length]
