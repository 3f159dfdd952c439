"""One picture of several sessions, each beside its heat map, drawn in milliseconds."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xai_traffic.explain.token_grid import TILE_SIDE
from xai_traffic.training.pictures import label

SCALE = 3
"""Pixels a byte, each way."""

MARGIN, LINE = 10, 18
FONT_SIZE = 13
MOST = 0.99
"""Part of the bytes whose values colours tell apart; the largest have the last colour."""

INK, QUIET, PAPER, RULE = (30, 30, 30), (110, 110, 110), (255, 255, 255), (150, 150, 150)


@dataclasses.dataclass(frozen=True, eq=False)
class GridRow:
    """One session.

    Args:
        title: hostile text.
        verdict: hostile text.
        image: uint8 [128, 128].
        heat: float32 [128, 128], signed.
        packets: how many of its tiles are filled.
    """

    title: str
    verdict: str
    image: np.ndarray
    heat: np.ndarray
    packets: int


def grid_png(rows: Sequence[GridRow], step: int, epoch: int) -> bytes:
    """Draw sessions, a row each: the bytes in grey, and beside them the heat map, as PNG.

    Red speaks for the label, blue against it; each map has a scale of its own. Rows of the grid
    that hold no packet are left out.
    """
    across = rows[0].image.shape[1] if rows else 0
    wide = across * SCALE
    heights = [_shown(row) * SCALE for row in rows]
    size = (
        2 * wide + 3 * MARGIN,
        MARGIN + LINE + sum(high + 2 * LINE + MARGIN for high in heights),
    )
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(FONT_SIZE)
    draw.text(
        (MARGIN, MARGIN // 2),
        f"step {step:,}, epoch {epoch}: gradient x input, red for the label, blue against it",
        INK,
        font,
    )
    top = MARGIN + LINE
    for row, high in zip(rows, heights, strict=True):
        largest = float(np.abs(row.heat).max(initial=0.0))
        draw.text((MARGIN, top), _plain(row.title), INK, font)
        note = f"{row.verdict}; largest {largest:.2g}"
        draw.text((MARGIN, top + LINE - 3), _plain(note), QUIET, font)
        top += 2 * LINE
        shown = slice(0, high // SCALE)
        grey = np.repeat(row.image[shown, :, None], 3, axis=-1)
        for column, pixels in enumerate((grey, heat_colours(row.heat[shown]))):
            left = MARGIN + column * (wide + MARGIN)
            canvas.paste(Image.fromarray(_enlarged(pixels)), (left, top))
        top += high + MARGIN
    buffer = io.BytesIO()
    canvas.save(buffer, "png")
    return buffer.getvalue()


def heat_colours(heat: np.ndarray) -> np.ndarray:
    """Return signed values as RGB uint8, white at zero; they are cut where the largest begin."""
    heat = np.nan_to_num(np.asarray(heat, np.float64))  # a training that diverges is shown too
    sizes = np.abs(heat)
    held = sizes[sizes > 0]
    top = float(np.quantile(held, MOST)) if held.size else 1.0
    # The last shades of the scale are as good as black.
    painted = matplotlib.colormaps["RdBu_r"](0.5 + 0.42 * np.clip(heat / top, -1, 1))
    return np.rint(255 * painted[..., :3]).astype(np.uint8)


def _shown(row: GridRow) -> int:
    """Return the height of the part of the image that holds packets, in bytes."""
    across = row.image.shape[1] // TILE_SIDE
    return min(TILE_SIDE * max(1, -(-row.packets // across)), row.image.shape[0])


def _enlarged(pixels: np.ndarray) -> np.ndarray:
    """Return pixels SCALE times as large, with the borders of the packets drawn."""
    large = pixels.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
    side = TILE_SIDE * SCALE
    large[::side] = large[:, ::side] = large[-1] = large[:, -1] = RULE
    return large


def _plain(text: str) -> str:
    """Return text that the built-in font has: escaped, cut and ASCII."""
    return label(text, most=110).encode("ascii", "backslashreplace").decode("ascii")
