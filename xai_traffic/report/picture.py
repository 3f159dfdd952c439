"""A session's picture for the page: one pixel a byte, its attribution laid over it in colour."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from xai_traffic.capture.images import grid_images
from xai_traffic.capture.records import GRID, TILE
from xai_traffic.report.explained import Explained
from xai_traffic.report.session_data import FULL, byte_levels

FOR, AGAINST = (240, 98, 28), (60, 130, 230)
"""Colours of what speaks for and against the verdict; `picture.js` has the same."""

STRONGEST = 0.9
"""Opacity of the largest attribution."""

COLOURS = 64


def picture_png(explained: Explained, method: str) -> bytes:
    """Return the rows of the grid that hold packets as a small PNG, to be scaled up.

    Args:
        method: whose attributions lie over the bytes.
    """
    levels = np.zeros((GRID, TILE))
    levels[: len(explained.packets)] = byte_levels(explained.shares[method].signed) / FULL
    signed = grid_images(levels)[0][..., None]
    grey = explained.image[..., None] * np.array([0.55, 0.55, 0.55])
    colour = np.where(signed > 0, FOR, AGAINST)
    opacity = STRONGEST * np.abs(signed)
    height, width = explained.shown
    pixels = np.rint(grey * (1 - opacity) + colour * opacity)[:height, :width]
    buffer = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels.astype(np.uint8)))
    image.quantize(COLOURS, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return buffer.getvalue()
