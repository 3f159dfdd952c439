"""Pictures for TensorBoard: the confusion matrix, and sessions under their heat maps."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xai_traffic.terminal import printable

DPI = 100


def confusion_matrix_png(confusion: np.ndarray, classes: Sequence[str]) -> bytes:
    """Draw counts over the share of each true class, as PNG.

    Args:
        confusion: int [K, K], rows true, columns judged.
        classes: K names; they come from captures' names and are escaped.
    """
    confusion = np.asarray(confusion)
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    size = 2.5 + 0.35 * len(classes)
    figure = Figure(figsize=(size, size), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    names = [_label(name) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
    axes.set_xlabel("judged")
    axes.set_ylabel("true")
    for row, column in np.argwhere(confusion):
        colour = "white" if share[row, column] > 0.5 else "black"
        text = str(confusion[row, column])
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=6)
    return _png(figure)


def heat_map_png(image: np.ndarray, heat: np.ndarray, title: str) -> bytes:
    """Draw a session's image, and beside it the same under its heat map, as PNG.

    Args:
        image: uint8 [128, 128].
        heat: float32 [128, 128], drawn from zero to its maximum.
        title: escaped.
    """
    figure = Figure(figsize=(6.4, 3.6), dpi=DPI, layout="constrained")
    figure.suptitle(_label(title), fontsize=9, parse_math=False)
    plain, covered = figure.subplots(1, 2)
    for axes in (plain, covered):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_axis_off()
    top = float(heat.max())
    covered.imshow(heat, cmap="jet", alpha=0.4, vmin=0, vmax=top if top > 0 else 1)
    return _png(figure)


def _label(text: str, most: int = 80) -> str:
    text = printable(text)
    return text if len(text) <= most else text[: most - 3] + "..."


def _png(figure: Figure) -> bytes:
    FigureCanvasAgg(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
