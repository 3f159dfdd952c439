"""Plots of an evaluation: confusion matrix, scores per class, and how far to believe verdicts."""

from __future__ import annotations

import pathlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xai_traffic.report.confidence_plots import (
    reliability_diagram,
    risk_coverage_curve,
    sets_per_class,
)
from xai_traffic.training.pictures import confusion_matrix, label


def write_evaluation_plots(
    result: dict, labels: np.ndarray, logits: np.ndarray, out: pathlib.Path
) -> list[pathlib.Path]:
    """Write the plots of one evaluation as PNG and return their paths.

    Args:
        result: what `evaluation.evaluate.evaluate` returned.
        labels: int32 [N].
        logits: float32 [N, K], not calibrated.
        out: folder, made where it is missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    figures = {
        "confusion_matrix": confusion_matrix(result["confusion_matrix"], result["classes"]),
        "per_class": scores_per_class(result["per_class"]),
        "reliability": reliability_diagram(labels, logits, result["confidence"]),
        "risk_coverage": risk_coverage_curve(result["confidence"]),
    }
    if "sets" in result["confidence"]:
        figures["prediction_sets"] = sets_per_class(result["confidence"]["sets"])
    paths = []
    for name, figure in figures.items():
        if result.get("leaky"):
            mark_leaky(figure, result["split"])
        paths.append(out / f"{name}.png")
        figure.savefig(paths[-1], dpi=150)
    return paths


def mark_leaky(figure: Figure, split: str) -> None:
    """Say above a figure that its numbers are not what they seem."""
    figure.suptitle(f"LEAKY: not what split {split} promises", color="#b00020")


def scores_per_class(per_class: dict[str, dict]) -> Figure:
    """Draw F1 per class, worst first, with the number of sessions beside the name."""
    rows = sorted(
        ((name, row) for name, row in per_class.items() if row["support"]),
        key=lambda item: -item[1]["f1"],
    )
    figure = Figure(figsize=(6.4, max(2.4, 0.28 * len(rows) + 1.2)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.barh(range(len(rows)), [row["f1"] for _, row in rows], color="#3b6ea5")
    names = [f"{label(name)} ({row['support']})" for name, row in rows]
    axes.set_yticks(range(len(rows)), names, parse_math=False)
    axes.set_xlim(0, 1)
    axes.set_xlabel("F1")
    axes.grid(axis="x", alpha=0.3)
    return figure


def forged_drops(result: dict) -> Figure:
    """Draw what each forgery costs in accuracy and macro-F1, with 95 % intervals.

    Args:
        result: what `evaluation.forged.evaluate_forged` returned.
    """
    rows = result["forgeries"]
    figure = Figure(figsize=(6.4, 0.5 * len(rows) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for place, (name, colour) in enumerate((("accuracy", "#3b6ea5"), ("macro_f1", "#d98e32"))):
        drops = [row["drop"][name] for row in rows]
        means = np.array([drop["value"] for drop in drops])
        reach = [[m - d["low"], d["high"] - m] for m, d in zip(means, drops, strict=True)]
        at = np.arange(len(rows)) + 0.4 * place - 0.2
        # a percentile interval need not hold the mean
        errors = np.clip(np.array(reach).T, 0, None)
        said = f"{'macro-F1' if place else name}, unforged {result['unforged'][name]['value']:.4f}"
        axes.barh(at, means, 0.36, xerr=errors, color=colour, label=said)
    axes.set_yticks(range(len(rows)), [row["forgery"] for row in rows])
    axes.invert_yaxis()
    axes.axvline(0, color="0.4", linewidth=1)
    axes.set_xlabel(f"lost when {result['split']} is forged (checksums {result['checksums']})")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    return figure
