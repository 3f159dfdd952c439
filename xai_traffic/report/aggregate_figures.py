"""Figures of aggregates: fields and packet positions by verdict, and the first fields of each."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xai_traffic.explain import METHODS
from xai_traffic.report.aggregate_page import class_shares, heat_columns
from xai_traffic.report.figures import DIRECTION_COLOURS
from xai_traffic.terminal import progress
from xai_traffic.training.pictures import label

DPI = 150
FIELDS = 20
"""Fields of the heat map."""

BARS = 15
"""Fields of one class."""


def write_aggregate_figures(found: Mapping[str, Any], folder: pathlib.Path) -> list[pathlib.Path]:
    """Write `fields-<method>.png`, `packets-<method>.png` and `<class number>-<method>.png`.

    Args:
        found: as `evaluation.aggregates.aggregate` returns it; classes are numbered from 1 in its
            order, for their names are hostile text.
        folder: exists.

    Returns:
        Their paths.
    """
    figures: dict[str, Figure] = {}
    for method in found["methods"]:
        if not class_shares(found, method):
            continue
        figures[f"fields-{method}"] = field_heat_map(found, method)
        figures[f"packets-{method}"] = packet_heat_map(found, method)
        for number, (name, own) in enumerate(found["classes"].items(), 1):
            if own["methods"][method]["sessions"]:
                figures[f"{number:02d}-{method}"] = class_bars(name, own, method)
    paths = []
    for stem, figure in progress(figures.items(), "draw"):
        if found["leaky"]:
            said = f"LEAKY: not what split {found['split']} promises"
            figure.supxlabel(said, color="#b00020", parse_math=False)
        paths.append(folder / f"{stem}.png")
        figure.savefig(paths[-1], dpi=DPI)
    return paths


def field_heat_map(found: Mapping[str, Any], method: str) -> Figure:
    """Draw the mean share of each field, a row a verdict."""
    columns, shares = heat_columns(found, method, FIELDS), class_shares(found, method)
    values = np.array([[own.get(field, 0.0) for field in columns] for own in shares.values()])
    title = f"Mean share of each field by verdict, {METHODS[method]}"
    return _heat_map(100 * values, list(shares), columns, title, numbers=True)


def packet_heat_map(found: Mapping[str, Any], method: str) -> Figure:
    """Draw the mean share of each packet position, a row a verdict."""
    shares = {
        name: [row["share"] for row in own["methods"][method]["packets"]]
        for name, own in found["classes"].items()
        if own["methods"][method]["sessions"]
    }
    reach = max(map(len, shares.values()))
    values = np.array([[*own, *[0.0] * (reach - len(own))] for own in shares.values()])
    title = f"Mean share of each packet position by verdict, {METHODS[method]}"
    names = [str(number) for number in range(reach)]
    return _heat_map(100 * values, list(shares), names, title, numbers=reach <= FIELDS)


def class_bars(name: str, own: Mapping[str, Any], method: str) -> Figure:
    """Draw the first fields of a verdict with their intervals, and its packet positions.

    Args:
        name: of the class; hostile text.
        own: its part of `classes`.
    """
    part = own["methods"][method]
    fields, packets = part["fields"][:BARS], part["packets"]
    figure = Figure(figsize=(9, 3.6 + 0.24 * len(fields)), layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, height_ratios=(0.24 * len(fields) + 0.5, 2.2))
    title = f"{label(name, most=40)}: {part['sessions']:,} sessions, {METHODS[method]}"
    figure.suptitle(title, fontsize=11, parse_math=False)
    places = np.arange(len(fields))[::-1]
    upper.barh(
        places, _percent(fields, "share"), 0.7, color="#d65314", xerr=_reach(fields),
        error_kw={"elinewidth": 1.2, "capsize": 2, "ecolor": "0.15"},
    )  # fmt: skip
    sizes = _percent(fields, "size")
    upper.vlines(sizes, places - 0.4, places + 0.4, color="#1f5fa8", linewidth=2, label="bytes")
    upper.set_yticks(places, [row["field"] for row in fields], fontsize=8, parse_math=False)
    upper.set_xlabel("mean share, %; blue: share of the bytes", fontsize=8)
    lower.bar(
        range(len(packets)), _percent(packets, "initiator"), 0.75, color=DIRECTION_COLOURS[0],
        label="client to server",
    )  # fmt: skip
    lower.bar(
        range(len(packets)), _percent(packets, "responder"), 0.75,
        bottom=_percent(packets, "initiator"), color=DIRECTION_COLOURS[1],
        label="server to client",
    )  # fmt: skip
    lower.errorbar(
        range(len(packets)), _percent(packets, "share"), _reach(packets), fmt="none",
        elinewidth=1.2, ecolor="0.15",
    )  # fmt: skip
    lower.step(
        np.arange(-0.5, len(packets)),
        [*_percent(packets, "frequency"), 0],
        where="post",
        color="0.5",
        linestyle="--",
        linewidth=1,
        label="sessions that have it",
    )
    lower.set_xlim(-0.7, max(len(packets), 8) - 0.3)
    lower.set_ylim(0, 102)
    lower.set_xlabel("packet of the session", fontsize=8)
    lower.set_ylabel("%", fontsize=8)
    lower.legend(fontsize=8, frameon=False)
    for axes, way in ((upper, "x"), (lower, "y")):
        axes.grid(axis=way, alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    return figure


def _percent(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    return 100 * np.array([row[key] for row in rows])


def _reach(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return how far intervals reach below and above their means, in per cent [2, n]."""
    mean, low, high = (_percent(rows, key) for key in ("share", "low", "high"))
    return np.maximum([mean - low, high - mean], 0)


def _heat_map(
    values: np.ndarray, rows: list[str], columns: list[str], title: str, *, numbers: bool
) -> Figure:
    height, width = values.shape
    figure = Figure(
        figsize=(3.2 + max(0.42 * width, 4), 2.6 + 0.3 * height), layout="constrained"
    )  # fmt: skip
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = axes.imshow(values, cmap="Oranges", vmin=0, aspect="auto")
    names = [label(name, most=32) for name in rows]
    axes.set_yticks(range(height), names, fontsize=8, parse_math=False)
    turned = 90 if max(map(len, columns)) > 3 else 0
    axes.set_xticks(range(width), columns, rotation=turned, fontsize=8, parse_math=False)
    axes.set_title(title, fontsize=10)
    if numbers:
        for row, column in np.argwhere(values >= 0.5):
            dark = values[row, column] > 0.6 * values.max()
            axes.text(
                column, row, f"{values[row, column]:.0f}", ha="center", va="center", fontsize=7,
                color="white" if dark else "black",
            )  # fmt: skip
    bar = figure.colorbar(shown, ax=axes, label="mean share, %", fraction=0.03, pad=0.01, aspect=40)
    bar.ax.tick_params(labelsize=8)
    return figure
