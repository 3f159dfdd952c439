"""Plots of an evaluation: confusion matrix, scores per class, reliability."""

from __future__ import annotations

import pathlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xai_traffic.evaluation.calibration import reliability
from xai_traffic.training.pictures import confusion_matrix, label


def write_evaluation_plots(
    result: dict, labels: np.ndarray, probabilities: np.ndarray, out: pathlib.Path
) -> list[pathlib.Path]:
    """Write the plots of one evaluation as PNG and return their paths.

    Args:
        result: what `evaluation.scores.score` returned.
        labels: int32 [N].
        probabilities: float32 [N, K].
        out: folder, made where it is missing.
    """
    out.mkdir(parents=True, exist_ok=True)
    figures = {
        "confusion_matrix": confusion_matrix(result["confusion_matrix"], result["classes"]),
        "per_class": scores_per_class(result["per_class"]),
        "reliability": reliability_diagram(
            labels, probabilities, result["expected_calibration_error"]
        ),
    }
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


def reliability_diagram(labels: np.ndarray, probabilities: np.ndarray, error: float) -> Figure:
    """Draw accuracy over confidence, with the share of sessions in each bin below."""
    confidence, accuracy, count = reliability(labels, probabilities)
    full = count > 0
    figure = Figure(figsize=(5.0, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    above.plot(confidence[full], accuracy[full], "o-", color="#3b6ea5")
    above.set_ylabel("accuracy")
    above.set_ylim(0, 1.02)
    above.set_title(f"expected calibration error {error:.4f}", fontsize=10)
    edges = np.linspace(0, 1, len(count) + 1)
    below.bar(edges[:-1], count / max(count.sum(), 1), np.diff(edges), align="edge", color="0.6")
    below.set_xlabel("confidence")
    below.set_ylabel("sessions")
    below.set_xlim(0, 1)
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
