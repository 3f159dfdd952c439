"""Plots of how far verdicts may be believed: reliability, risk and coverage, sets of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xai_traffic.evaluation.calibration import reliability
from xai_traffic.report.intervals import with_interval
from xai_traffic.training.calibration import tempered
from xai_traffic.training.pictures import label

BEFORE, AFTER = "0.55", "#3b6ea5"


def reliability_diagram(
    labels: np.ndarray, logits: np.ndarray, confidence: dict[str, Any]
) -> Figure:
    """Draw accuracy over confidence before and after the temperature, and the sessions of each bin.

    Args:
        labels: int [N].
        logits: float32 [N, K], not calibrated.
        confidence: of `evaluation.confidence.assess_confidence`.
    """
    figure = Figure(figsize=(5.0, 5.8), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    temperature = confidence["temperature"]
    shown = [("before", "as trained", 1.0, BEFORE if temperature else AFTER)]
    if temperature:
        shown.append(("after", f"temperature {temperature:.3g}", temperature, AFTER))
    for number, (when, name, heat, colour) in enumerate(shown):
        sure, accuracy, count = reliability(labels, tempered(logits, heat))
        full = count > 0
        error = confidence[when]["expected_calibration_error"]
        told = f"{name}: error {with_interval(error, '{:.4f}'.format)}"
        above.plot(sure[full], accuracy[full], color=colour, linewidth=1)
        sizes = 12 + 16 * np.log10(count[full])  # what one session says is little
        above.scatter(sure[full], accuracy[full], sizes, color=colour, label=told, zorder=3)
        edges = np.linspace(0, 1, len(count) + 1)
        width = np.diff(edges) / len(shown)
        below.bar(edges[:-1] + number * width, count, width, align="edge", color=colour)
    above.set_ylabel("accuracy")
    above.set_ylim(0, 1.02)
    above.legend(fontsize=8, loc="upper left")
    above.grid(alpha=0.3)
    below.set_xlabel("confidence")
    below.set_ylabel("sessions")
    below.set_yscale("log")  # nearly all are in the last bin, and the errors in the others
    below.set_xlim(0, 1)
    return figure


def risk_coverage_curve(confidence: dict[str, Any]) -> Figure:
    """Draw the part that is judged wrongly over the part that is judged, surest first.

    Args:
        confidence: of `evaluation.confidence.assess_confidence`.
    """
    coverage, risk = np.array(confidence["risk_coverage"]).T
    figure = Figure(figsize=(5.0, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(coverage, risk, color=AFTER)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, max(1.05 * float(risk.max()), 0.001))
    axes.set_xlabel("part of the sessions that is judged, the surest first")
    axes.set_ylabel("of it judged wrongly")
    area = confidence["aurc"]
    axes.set_title(f"area {with_interval(area, '{:.5f}'.format)}", fontsize=10)
    axes.grid(alpha=0.3)
    return figure


def sets_per_class(sets: dict[str, Any]) -> Figure:
    """Draw how often each class is in its sessions' sets, and how many classes these hold.

    Args:
        sets: as `evaluation.confidence.assess_confidence` has them.
    """
    rows = sorted(sets["per_class"].items(), key=lambda item: item[1]["coverage"]["mean"])[::-1]
    figure = Figure(figsize=(7.6, max(2.4, 0.28 * len(rows) + 1.2)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    for axes, name in ((left, "coverage"), (right, "size")):
        mean, spread = means_and_reach([row[name] for _, row in rows])
        axes.errorbar(mean, range(len(rows)), xerr=spread, fmt="o", color=AFTER, markersize=4)
        axes.grid(axis="x", alpha=0.3)
    left.axvline(sets["promised"], color="#b00020", linewidth=1, linestyle="--")
    names = [f"{label(name)} ({row['sessions']})" for name, row in rows]
    left.set_yticks(range(len(rows)), names, parse_math=False)
    left.set_xlabel(f"has its class in the set ({sets['promised']:.4g} promised)")
    right.set_xlabel("classes in the set")
    return figure


def means_and_reach(found: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return means float [n], and how far their intervals reach below and above, float [2, n].

    Nothing where there is no interval, for an error bar of no length is not drawn.
    """
    mean = np.array([one["mean"] for one in found])
    low, high = (
        np.array([one["mean"] if one[end] is None else one[end] for one in found])
        for end in ("low", "high")
    )
    return mean, np.maximum([mean - low, high - mean], 0)
