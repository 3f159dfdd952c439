"""Put tiles together into images and take images apart into tiles, on the device."""

from __future__ import annotations

import jax
import jax.numpy as jnp

SIDE = 16
"""Pixels on a side of a tile: one tile is the first 256 bytes of one packet."""

GRID = 8
"""Tiles on a side of a whole image: 64 packets."""


def images_from_tiles(tiles: jax.Array) -> jax.Array:
    """Lay 64 tiles out as an 8 x 8 grid, packet by packet, row-major.

    Pixel `[y, x]` becomes byte `(y % 16) * 16 + x % 16` of packet `(y // 16) * 8 + x // 16`.

    Args:
        tiles: uint8 or float [B, 64, 256], bytes 0..255.

    Returns:
        float32 [B, 128, 128, 1], the same values.

    Raises:
        ValueError: the shape is another one.
    """
    tiles = jnp.asarray(tiles)
    if tiles.ndim != 3 or tiles.shape[1:] != (GRID * GRID, SIDE * SIDE):
        raise ValueError(f"tiles must be [B, {GRID * GRID}, {SIDE * SIDE}], not {tiles.shape}")
    grid = tiles.reshape(-1, GRID, GRID, SIDE, SIDE).transpose(0, 1, 3, 2, 4)
    return grid.reshape(-1, GRID * SIDE, GRID * SIDE, 1).astype(jnp.float32)


def gather_tiles(tiles: jax.Array, first: jax.Array, count: jax.Array) -> jax.Array:
    """Put dense sessions together of ragged ones whose tiles lie on the device.

    Only two numbers a session travel to the device for a batch.

    Args:
        tiles: uint8 [T, 256], all tiles of a dataset, T at least 1 and below 2**31.
        first: int32 [B], row of each session's first tile.
        count: int32 [B], tiles of each session, 0 to 64; 0 is a session of zeros.

    Returns:
        uint8 [B, 64, 256]; tiles that are missing are zero.
    """
    place = jnp.arange(GRID * GRID)
    row = first[:, None] + jnp.minimum(place, count[:, None] - 1)  # read none that is not shown
    dense = jnp.take(tiles, row, axis=0, mode="clip")
    return jnp.where((place < count[:, None])[..., None], dense, 0)


def tiles_from_images(images: jax.Array) -> jax.Array:
    """Cut images into their tiles, the inverse of `images_from_tiles` up to the dtype.

    Args:
        images: any dtype [B, h, w, C]; h and w multiples of 16 (128 x 128 x 1 for whole images).

    Returns:
        [B, (h / 16) * (w / 16), 256 * C] of the same dtype, channels varying fastest.

    Raises:
        ValueError: the shape is another one.
    """
    images = jnp.asarray(images)
    if images.ndim != 4 or images.shape[1] % SIDE or images.shape[2] % SIDE:
        raise ValueError(
            f"images must be [B, h, w, C] with h and w multiples of {SIDE}, not {images.shape}"
        )
    batch, height, width, channels = images.shape
    rows, columns = height // SIDE, width // SIDE
    grid = images.reshape(batch, rows, SIDE, columns, SIDE, channels).transpose(0, 1, 3, 2, 4, 5)
    return grid.reshape(batch, rows * columns, SIDE * SIDE * channels)


def stream_from_tiles(tiles: jax.Array, size: int, *, strung: bool = True) -> jax.Array:
    """Return the first bytes of sessions, packet behind packet.

    Args:
        tiles: uint8 or float [B, P, 256].
        size: bytes, at most P * 256.
        strung: leave out the zeros at the end of each tile, for they are padding as far as a tile
            can tell; else take the tiles as they are.

    Returns:
        [B, size] of the same dtype, zero behind what a session has.
    """
    batch, packets, width = tiles.shape
    flat = tiles.reshape(batch, packets * width)
    if not strung:
        return flat[:, :size]
    place = jnp.arange(1, width + 1)
    lengths = jnp.where(tiles != 0, place, 0).max(axis=-1)
    ends = jnp.cumsum(lengths, axis=-1)
    wanted = jnp.arange(size)
    packet = (ends[:, None] <= wanted[:, None]).sum(axis=-1)  # the first that ends behind it
    there = packet < packets
    packet = jnp.minimum(packet, packets - 1)
    begin = jnp.take_along_axis(ends - lengths, packet, axis=1)
    found = jnp.take_along_axis(flat, packet * width + wanted - begin, axis=1, mode="clip")
    return jnp.where(there, found, 0)
