"""What a model sees of a byte: its raw value, scaled, or in Fourier features."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from xai_traffic.ops.tiles import SIDE

ENCODINGS = ("raw", "scaled", "fourier")

COARSE = 2
"""Octaves of `fourier` behind the header bytes: payload is mostly text, or cannot be read at all,
and finer waves only help to learn it by heart."""


def check_header(header: int, step: int) -> None:
    """Raise ValueError unless `header` is a number of a tile's bytes in whole steps."""
    if header % step or not 0 <= header <= SIDE * SIDE:
        raise ValueError(f"header must be a multiple of {step} up to {SIDE * SIDE}, not {header}")


def encode(images: jax.Array, encoding: str = "raw", frequencies: int = 4) -> jax.Array:
    """Turn bytes into model inputs, differentiable in the bytes.

    `raw` leaves 0..255 as it is (as the study's networks were fed). `scaled` is
    byte / 127.5 - 1. `fourier` adds to `scaled` the sine and cosine of
    2 pi * byte / 256 * 2^k for k = 0..frequencies-1, so that neighbouring codes that mean
    different things (ports, flags, opcodes) can be told apart by a linear layer; eight
    frequencies separate every bit, at the price of a function that oscillates between
    bytes (explanations along a path then need more steps).

    Args:
        images: float32 [..., C], bytes 0..255.
        encoding: one of ENCODINGS.
        frequencies: octaves of `fourier`, 1..8; unused by the others.

    Returns:
        float32 [..., C] for `raw` and `scaled`, [..., C * (1 + 2 * frequencies)] for `fourier`.

    Raises:
        ValueError: an unknown encoding, or frequencies outside 1..8.
    """
    if encoding not in ENCODINGS:
        raise ValueError(f"encoding {encoding!r} is unknown: choose one of {', '.join(ENCODINGS)}")
    if encoding == "raw":
        return images
    scaled = images / 127.5 - 1.0
    if encoding == "scaled":
        return scaled
    if not 1 <= frequencies <= 8:
        raise ValueError(f"frequencies must be 1..8 (a byte has eight bits), not {frequencies}")
    angles = [images * (2.0 * math.pi / 256.0 * 2.0**k) for k in range(frequencies)]
    waves = [wave(angle) for wave in (jnp.sin, jnp.cos) for angle in angles]
    return jnp.concatenate([scaled, *waves], axis=-1)


def encode_tiles(tiles: jax.Array, encoding: str, frequencies: int, header: int) -> jax.Array:
    """Encode tiles with the first bytes finer than the rest.

    Args:
        tiles: float32 [..., 256], bytes 0..255.
        encoding, frequencies: as for `encode`.
        header: bytes that get all `frequencies`, the others get COARSE; 0: all get them all.

    Returns:
        float32 [..., features], byte by byte.
    """
    header = header or tiles.shape[-1]
    parts = [(tiles[..., :header], frequencies), (tiles[..., header:], COARSE)]
    encoded = [encode(part[..., None], encoding, octaves) for part, octaves in parts]
    return jnp.concatenate([part.reshape(*tiles.shape[:-1], -1) for part in encoded], axis=-1)
