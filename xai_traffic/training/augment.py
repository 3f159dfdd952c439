"""Augmentation that respects packets: works on tiles, inside the step.

Every function takes tiles uint8 [B, P, 256] and returns the same; an empty tile stays empty.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp


def augment(rng: jax.Array, tiles: jax.Array, rates: Mapping[str, float]) -> jax.Array:
    """Apply what has a rate above 0, in the order of the code.

    Args:
        rng: key of this step.
        tiles: uint8 [B, P, 256].
        rates: the config's group `augment`.
    """
    changes = (
        tail_dropout,
        packet_dropout,
        byte_swap,
        byte_dropout,
        header_dropout,
        payload_dropout,
    )
    for index, change in enumerate(changes):
        rate = rates[change.__name__]
        if rate:
            by_part = change in (header_dropout, payload_dropout)
            part = (rates["header_bytes"],) if by_part else ()
            tiles = change(jax.random.fold_in(rng, index), tiles, rate, *part)
    return tiles


def tail_dropout(rng: jax.Array, tiles: jax.Array, rate: float) -> jax.Array:
    """Cut some sessions to a random prefix of at least one packet, as a cut capture would."""
    which, where = jax.random.split(rng)
    sessions, packets = tiles.shape[:2]
    place = jnp.arange(packets)
    filled = jnp.max(jnp.where(_filled(tiles), place + 1, 0), axis=1)
    kept = 1 + jnp.floor(jax.random.uniform(where, (sessions,)) * filled)
    cut = jax.random.bernoulli(which, rate, (sessions,))
    keep = ~cut[:, None] | (place < kept[:, None])
    return jnp.where(keep[..., None], tiles, 0)


def packet_dropout(rng: jax.Array, tiles: jax.Array, rate: float) -> jax.Array:
    """Zero some tiles, as lost packets; a session that would lose all keeps all."""
    filled = _filled(tiles)
    keep = jax.random.bernoulli(rng, 1.0 - rate, tiles.shape[:2])
    keep |= ~jnp.any(keep & filled, axis=1, keepdims=True)
    return jnp.where(keep[..., None], tiles, 0)


def byte_dropout(rng: jax.Array, tiles: jax.Array, rate: float) -> jax.Array:
    """Zero some bytes."""
    return jnp.where(jax.random.bernoulli(rng, rate, tiles.shape), jnp.uint8(0), tiles)


def header_dropout(rng: jax.Array, tiles: jax.Array, rate: float, header: int) -> jax.Array:
    """Zero some bytes among the first `header` of a packet."""
    drop = jax.random.bernoulli(rng, rate, (*tiles.shape[:2], header))
    return tiles.at[..., :header].set(jnp.where(drop, jnp.uint8(0), tiles[..., :header]))


def payload_dropout(rng: jax.Array, tiles: jax.Array, most: float, header: int) -> jax.Array:
    """Zero bytes behind the first `header`, at a rate of each session's own, from [0, most).

    Ciphertext is easily learnt by heart; a network that often does without must read the rest.
    """
    rate_rng, where = jax.random.split(rng)
    rates = most * jax.random.uniform(rate_rng, (tiles.shape[0], 1, 1))
    drop = jax.random.uniform(where, (*tiles.shape[:2], tiles.shape[2] - header)) < rates
    return tiles.at[..., header:].set(jnp.where(drop, jnp.uint8(0), tiles[..., header:]))


def byte_swap(rng: jax.Array, tiles: jax.Array, rate: float) -> jax.Array:
    """In half of the sessions replace some bytes by those of another session at that place.

    The padding behind a short packet is swapped as well, since packets differ in length too.
    """
    which, where = jax.random.split(rng)
    sessions = jax.random.bernoulli(which, 0.5, (tiles.shape[0], 1, 1))
    swap = jax.random.bernoulli(where, rate, tiles.shape) & sessions & _filled(tiles)[..., None]
    return jnp.where(swap, jnp.roll(tiles, 1, axis=0), tiles)


def mixup(
    rng: jax.Array, images: jax.Array, targets: jax.Array, alpha: float
) -> tuple[jax.Array, jax.Array]:
    """Mix every session with its neighbour in the batch (Zhang et al., ICLR 2018).

    Args:
        images: float32 [B, 128, 128, 1].
        targets: float32 [B, K].
        alpha: of the Beta distribution of the share, one draw a batch.
    """
    share = jax.random.beta(rng, alpha, alpha)
    return tuple(
        share * array + (1.0 - share) * jnp.roll(array, 1, 0) for array in (images, targets)
    )


def _filled(tiles: jax.Array) -> jax.Array:
    """Return which tiles hold a byte that is not zero, bool [B, P]."""
    return jnp.any(tiles != 0, axis=-1)
