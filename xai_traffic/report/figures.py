"""Figures of explained sessions: overlays with the packet grid, attention heads, share bars."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from xai_traffic.evaluation.answers import verdict_words
from xai_traffic.explain import METHODS, PER_BYTE, lay_over
from xai_traffic.explain.token_grid import TILE_SIDE
from xai_traffic.report import overlays
from xai_traffic.report.explained import Explained
from xai_traffic.training.pictures import label

DPI = 100
TILE_PIXELS = {2: 144, 4: 112, 8: 80}
"""Pixels of one packet's side in a picture of up to so many rows: 9, 7 or 5 a byte."""

HEADS = {4: (2, 64), 8: (4, 32)}
"""Attention heads side by side, and a packet's side in pixels, for up to so many rows."""

ATTENTION = ("attention", "gradient_weighted_attention")
"""Methods that weigh packets by attention: shown by opacity, not in colours of heat."""

LEFT_OUT = "rows without packets are left out"

DIRECTION_COLOURS = ("#2f77c0", "#d9791c")
"""Client to server, server to client; on white."""

LABEL_COLOURS = ("#8cc8ff", "#ffbd70")
"""The same on the dark image."""

OUTLINE = "#45ff6a"


def write_figures(explained: Explained, folder: pathlib.Path, stem: str) -> None:
    """Write `<stem>-<method>.png`, `-attention_heads.png` and `-shares.png`."""
    title = _title(explained)
    for method in explained.attributions:
        _save(_framed(explained, method, title), folder / f"{stem}-{method}.png")
    if explained.heads is not None:
        _save(attention_heads(explained), folder / f"{stem}-attention_heads.png")
    _save(share_bars(explained), folder / f"{stem}-shares.png")


def overlay(explained: Explained, method: str) -> np.ndarray:
    """Return the session's image under one explanation, RGB uint8 [128, 128, 3]."""
    image = explained.image
    values = explained.attributions[method]
    if method in PER_BYTE:
        return overlays.grey(image)
    if method in ATTENTION:
        return overlays.attention_overlay(image, values)
    return overlays.heat_overlay(image, values)


def share_bars(explained: Explained) -> Figure:
    """Draw the share of each packet, one panel a method, coloured by direction."""
    count = len(explained.packets)
    names = list(explained.shares)
    figure = Figure(figsize=(8, 0.9 + 1.6 * len(names)), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    panels = np.atleast_1d(figure.subplots(len(names), 1, sharex=True))
    numbers = explained.packets["packet"].astype(int)
    colours = [DIRECTION_COLOURS[int(way)] for way in explained.packets["direction"]]
    for axes, name in zip(panels, names, strict=True):
        axes.bar(numbers, 100 * explained.shares[name].packets(), 0.8, color=colours)
        axes.set_title(METHODS[name], fontsize=9, loc="left")
        axes.set_ylabel("share, %", fontsize=8)
        axes.grid(axis="y", alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    panels[-1].set_xlim(-0.7, max(count, 8) - 0.3)
    panels[-1].set_xticks(numbers if count <= 32 else numbers[::2])
    panels[-1].set_xlabel("packet of the session", fontsize=8)
    figure.suptitle(_title(explained), fontsize=10, parse_math=False)
    handles = [panels[0].bar([0], [0], color=colour) for colour in DIRECTION_COLOURS]
    panels[0].legend(
        handles, ["client to server", "server to client"], fontsize=8, frameon=False, ncols=2,
        loc="lower right", bbox_to_anchor=(1, 0.98),
    )  # fmt: skip
    figure.canvas.draw()
    return figure


def attention_heads(explained: Explained) -> Figure:
    """Draw the class token's attention in every head of the last layer, and all layers small."""
    layers, heads = explained.heads.shape[:2]
    across, tile = _for_rows(explained, HEADS)
    wide, high = _size(explained, tile)
    across = min(heads, across)
    last = 20 + (high + 20) * -(-heads // across)
    small = max(40, min(wide // 2, across * wide // heads))
    low = small * high // wide
    width, height = across * (wide + 4), last + 24 + layers * (low + 4)
    figure = _figure(width, height)
    maps = np.asarray(lay_over(explained.heads[-1], explained.image.shape, explained.extent))
    for head in range(heads):
        row, column = divmod(head, across)
        left, top = column * (wide + 4), 20 + row * (high + 20)
        axes = _place(figure, left, top, wide, high)
        shown = overlays.attention_overlay(explained.image, maps[head])
        axes.imshow(shown, interpolation="nearest")
        _draw_grid(axes, explained, size=5.5)
        _note(figure, left + 2, top - 5, f"layer {layers - 1}, head {head}")
    note = "all layers (rows, the first on top) and heads (columns)"
    if explained.shown != explained.extent:
        note += f"; {LEFT_OUT}"
    _note(figure, 2, last + 14, note)
    rows = explained.shown[0] // TILE_SIDE
    for layer in range(layers):
        for head in range(heads):
            axes = _place(figure, head * (small + 4), last + 24 + layer * (low + 4), small, low)
            strength = overlays.unit(explained.heads[layer, head])[:rows]
            axes.imshow(strength, cmap="inferno", aspect="auto", vmin=0, vmax=1)
    figure.canvas.draw()
    return figure


def _framed(explained: Explained, method: str, title: str) -> Figure:
    """Draw one picture with title and, where there are colours, their scale."""
    wide, high = _size(explained, _for_rows(explained, TILE_PIXELS))
    right = 8 if method in PER_BYTE else 78
    width, height = wide + 8 + right, high + 50 + 8
    figure = _figure(width, height)
    axes = _place(figure, 8, 50, wide, high)
    shown = axes.imshow(overlay(explained, method), interpolation="nearest")
    _draw_grid(axes, explained, size=8.5)
    name = METHODS[method]
    if method in PER_BYTE:
        mask = overlays.regions(explained.attributions[method])
        borders = overlays.outline_segments(mask) - 0.5
        axes.add_collection(LineCollection(borders, colors="black", linewidths=3.2))
        axes.add_collection(LineCollection(borders, colors=OUTLINE, linewidths=1.7))
        name += f", the {overlays.REGIONS} strongest regions outlined"
    if explained.shown != explained.extent:
        name += f"; {LEFT_OUT}"
    if right > 8:
        shown.set_cmap("inferno" if method in ATTENTION else "jet")
        shown.set_clim(0, float(max(explained.attributions[method].max(), 1e-30)))
        bar = figure.add_axes(((wide + 18) / width, 8 / height, 14 / width, high / height))
        figure.colorbar(shown, cax=bar)
        bar.tick_params(labelsize=7)
        bar.yaxis.get_offset_text().set_fontsize(7)
    _note(figure, 8, 20, title, 10)
    _note(figure, 8, 40, name, 8.5, "0.35")
    figure.canvas.draw()
    return figure


def _size(explained: Explained, tile: int) -> tuple[int, int]:
    """Return width and height in pixels of what a picture shows."""
    height, width = explained.shown
    return width // TILE_SIDE * tile, height // TILE_SIDE * tile


def _for_rows(explained: Explained, sizes: dict[int, Any]) -> Any:
    """Return the first of the sizes that is meant for so many rows."""
    rows = explained.shown[0] // TILE_SIDE
    return next(size for most, size in sizes.items() if rows <= most)


def _figure(width: int, height: int) -> Figure:
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _place(figure: Figure, left: float, top: float, width: float, height: float):
    """Add bare axes at pixels from the figure's upper left corner."""
    across, down = figure.get_size_inches() * DPI
    axes = figure.add_axes(
        (left / across, 1 - (top + height) / down, width / across, height / down)
    )
    axes.set_axis_off()
    return axes


def _note(figure: Figure, left: float, base: float, text: str, size=7.5, colour="black") -> None:
    across, down = figure.get_size_inches() * DPI
    figure.text(
        left / across, 1 - base / down, text, fontsize=size, color=colour, parse_math=False
    )  # fmt: skip


def _draw_grid(axes, explained: Explained, size: float) -> None:
    """Draw the borders of the tiles, and in each that holds a packet its number.

    Numbers take the colour of the packet's direction. What is not to be shown is cut off.
    """
    height, width = explained.shown
    lines = [[(x, -0.5), (x, height - 0.5)] for x in np.arange(0, width + 1, TILE_SIDE) - 0.5]
    lines += [[(-0.5, y), (width - 0.5, y)] for y in np.arange(0, height + 1, TILE_SIDE) - 0.5]
    axes.add_collection(LineCollection(lines, colors="#ffffff", linewidths=0.6, alpha=0.4))
    across = explained.image.shape[1] // TILE_SIDE
    for row in explained.packets:
        y, x = (TILE_SIDE * part for part in divmod(int(row["packet"]), across))
        if y < height and x < width:
            colour = LABEL_COLOURS[int(row["direction"])]
            axes.text(
                x + 0.3, y + 0.3, str(row["packet"]), fontsize=size, fontweight="bold",
                color=colour, ha="left", va="top",
                bbox={"facecolor": "black", "alpha": 0.6, "pad": 0.8, "linewidth": 0},
            )  # fmt: skip
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _title(explained: Explained) -> str:
    verdict = explained.verdict
    said = f"session {verdict['session']}: {verdict_words(verdict)}, {verdict['probability']:.1%}"
    return label(said, most=72)


def _save(figure: Figure, path: pathlib.Path) -> None:
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, "png")
