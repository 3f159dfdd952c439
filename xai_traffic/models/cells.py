"""A stem for small convolutional networks that knows where in a packet it is.

Convolutions treat every place alike, but a header field has its place: byte 22 of most packets is
the time to live. Here each 4 x 4 cell of a tile has a dense layer of its own, the same for every
packet, so that headers are read by place and only then do convolutions look at neighbours.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from xai_traffic.models.encoding import COARSE, check_header, encode
from xai_traffic.models.initial import spread
from xai_traffic.models.layers import batch_norm, crop, dense
from xai_traffic.ops.tiles import SIDE, tiles_from_images

CELL = 4
"""Pixels on a side of a cell."""


def check_cells(stem: str, header: int, channels: int) -> None:
    """Raise ValueError where a network's stem has a value that means nothing."""
    if stem not in ("convolution", "cells"):
        raise ValueError(f"stem {stem!r}: choose convolution, cells")
    if stem == "cells":
        check_header(header, SIDE * CELL)
    if stem == "cells" and channels != 1:
        raise ValueError("cells read one channel: set channels to 1")


class CellStem(nn.Module):
    """Each cell of each tile through its own dense layer, plus a learned place, BN and ReLU.

    Args:
        features: C.
        packets: tiles it reads, 1..8 or a multiple of 8.
        encoding, frequencies, header: see `encoding.encode_tiles`; a row of cells is fine or
            coarse as a whole, so header counts in steps of 64.
        momentum: of the batch normalisation.
        dtype: compute dtype.
    """

    features: int
    packets: int
    encoding: str
    frequencies: int
    header: int
    momentum: float
    dtype: str

    @nn.compact
    def __call__(self, images: jax.Array, train: bool) -> jax.Array:
        """Return [B, height / 4, width / 4, C] of images [B, 128, 128, 1]."""
        pixels = crop(images, packets=self.packets, channels=1)
        rows, columns = pixels.shape[1] // SIDE, pixels.shape[2] // SIDE
        cells = SIDE // CELL
        tiles = tiles_from_images(pixels).reshape(-1, cells, CELL, cells, CELL)
        fine_rows = (self.header or SIDE * SIDE) // (SIDE * CELL)
        parts = []
        # A matrix product a cell: a batched einsum is many times slower on XLA's CPU backend.
        for number in range(cells * cells):
            row, column = divmod(number, cells)
            cell = tiles[:, row, :, column].reshape(-1, CELL * CELL, 1)
            octaves = self.frequencies if row < fine_rows else COARSE
            encoded = encode(cell, self.encoding, octaves).astype(self.dtype)
            encoded = encoded.reshape(encoded.shape[0], -1)
            parts.append(dense(self.features, f"cell_{number:02d}", self.dtype)(encoded))
        x = jnp.stack(parts, axis=1).reshape(-1, rows, columns, cells, cells, self.features)
        x = x.transpose(0, 1, 3, 2, 4, 5)
        x = x.reshape(-1, rows * cells, columns * cells, self.features)
        x = x + self.param("place", spread(0.02), (1, *x.shape[1:])).astype(x.dtype)
        return nn.relu(batch_norm("bn", train, self.dtype, self.momentum)(x))
