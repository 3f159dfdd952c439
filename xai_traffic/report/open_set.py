"""Score a run on what it has never seen and write what came out: JSON, ROC and OSCR curves."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xai_traffic.data.store import open_dataset
from xai_traffic.evaluation.open_set_evaluation import evaluate_open_set
from xai_traffic.report.confidence_plots import means_and_reach
from xai_traffic.report.plots import mark_leaky
from xai_traffic.training.pictures import label
from xai_traffic.training.run import Run
from xai_traffic.whole import write_json

COLOURS = ("0.55", "#c77c11", "#b00020", "#3b6ea5", "#2d7d46")


def write_open_set(
    run: Run, split: str = "test", other: str | pathlib.Path | None = None
) -> tuple[dict[str, Any], pathlib.Path]:
    """Write `RUN/open-set-<split>.json` and its plots, see `evaluate_open_set`.

    Args:
        run: a trained run.
        split: of its own dataset, whose sessions are known.
        other: folder of the dataset that unknown sessions are taken from; none or "" takes those of
            the split.

    Returns:
        (what `evaluate_open_set` returns, path of the JSON file).
    """
    result = evaluate_open_set(run, split, open_dataset(other) if other else None)
    folder = run.path / f"open-set-{split}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in (
        ("curves", acceptance_curves(result)),
        ("per_class", separation_per_class(result)),
    ):
        if result["leaky"]:
            mark_leaky(figure, split)
        figure.savefig(folder / f"{name}.png", dpi=150)
    path = run.path / f"open-set-{split}.json"
    write_json(path, result)
    return result, path


def acceptance_curves(result: dict[str, Any]) -> Figure:
    """Draw the ROC and the OSCR curve of every score.

    Args:
        result: of `evaluate_open_set`.
    """
    figure = Figure(figsize=(10.0, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, curve, area, said in zip(
        figure.subplots(1, 2),
        ("roc", "oscr_curve"),
        ("auroc", "oscr"),
        ("known sessions accepted", "known sessions accepted and judged rightly"),
        strict=True,
    ):
        for (name, own), colour in zip(result["scores"].items(), COLOURS, strict=True):
            x, y = np.array(own[curve]).T
            told = f"{name.replace('_', ' ')} {own[area]['mean']:.3f}"
            style = "--" if name == "energy" else "-"  # it often hides the highest logit
            axes.plot(x, y, style, color=colour, label=told, linewidth=1.4)
        if curve == "roc":
            axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.01)
        axes.set_xlabel("unknown sessions accepted")
        axes.set_ylabel(said)
        axes.grid(alpha=0.3)
        axes.legend(title=f"area ({'AUROC' if area == 'auroc' else 'OSCR'})", loc="lower right")
    return figure


def separation_per_class(result: dict[str, Any]) -> Figure:
    """Draw the AUROC of every class that was never seen, by every score.

    Args:
        result: of `evaluate_open_set`.
    """
    classes = result["unknown"]["classes"]
    figure = Figure(figsize=(6.4, max(2.6, 0.42 * len(classes) + 1.6)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, ((name, own), colour) in enumerate(
        zip(result["scores"].items(), COLOURS, strict=True)
    ):
        areas = [own["auroc_per_class"][one] for one in classes]
        mean, spread = means_and_reach(areas)
        places = np.arange(len(classes)) + 0.14 * (number - 2)
        told = name.replace("_", " ")
        axes.errorbar(mean, places, xerr=spread, fmt="o", color=colour, label=told, markersize=4)
    axes.set_xlim(right=1 + 0.01 * (1 - axes.get_xlim()[0]))
    names = [f"{label(name)} ({count})" for name, count in classes.items()]
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("AUROC against the known sessions")
    axes.grid(axis="x", alpha=0.3)
    figure.legend(fontsize=8, loc="outside lower center", ncols=3)
    return figure
