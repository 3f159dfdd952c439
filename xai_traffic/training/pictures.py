"""Pictures of a training: the confusion matrix, and sessions under their heat maps."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xai_traffic.terminal import printable

DPI = 100


def confusion_matrix(confusion: np.ndarray, classes: Sequence[str]) -> Figure:
    """Draw counts over the share of each true class.

    Args:
        confusion: int [K, K], rows true, columns judged.
        classes: K names; they come from captures' names and are escaped.
    """
    confusion = np.asarray(confusion)
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    size = max(4.0, 2.5 + 0.35 * len(classes))
    figure = Figure(figsize=(size + 0.8, size), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    names = [label(name) for name in classes]
    # Names may hold dollar signs, which matplotlib would read as formulas.
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
    axes.set_xlabel("judged")
    axes.set_ylabel("true")
    for row, column in np.argwhere(confusion):
        colour = "white" if share[row, column] > 0.5 else "black"
        text = str(confusion[row, column])
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=6)
    figure.colorbar(image, ax=axes, label="share of the true class", fraction=0.046)
    return figure


def confusion_matrix_png(confusion: np.ndarray, classes: Sequence[str]) -> bytes:
    """Draw the same as PNG."""
    return _png(confusion_matrix(confusion, classes))


def heat_map_png(image: np.ndarray, heat: np.ndarray, title: str) -> bytes:
    """Draw a session's image, and beside it the same under its heat map, as PNG.

    Args:
        image: uint8 [128, 128].
        heat: float32 [128, 128], drawn from zero to its maximum.
        title: escaped.
    """
    figure = Figure(figsize=(6.4, 3.6), dpi=DPI, layout="constrained")
    figure.suptitle(label(title), fontsize=9, parse_math=False)
    plain, covered = figure.subplots(1, 2)
    for axes in (plain, covered):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_axis_off()
    top = float(heat.max())
    covered.imshow(heat, cmap="jet", alpha=0.4, vmin=0, vmax=top if top > 0 else 1)
    return _png(figure)


def label(text: str, most: int = 80) -> str:
    """Return text of captures fit for a picture: escaped and cut; draw it with parse_math=False."""
    text = printable(text)
    return text if len(text) <= most else text[: most - 3] + "..."


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
