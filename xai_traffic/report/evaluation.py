"""Evaluate a run and write what came out: JSON, plots, and images for TensorBoard."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from xai_traffic.data.store import open_dataset
from xai_traffic.evaluation.evaluate import evaluate_split, own_dataset
from xai_traffic.evaluation.explainer_benchmark import benchmark_explainers
from xai_traffic.evaluation.explanations import explanation_metrics
from xai_traffic.evaluation.forged import evaluate_forged
from xai_traffic.evaluation.verdicts import write_verdicts
from xai_traffic.report.plots import forged_drops, mark_leaky, write_evaluation_plots
from xai_traffic.training.logging import EventWriter, cut_events
from xai_traffic.training.run import Run
from xai_traffic.whole import write_json


def write_evaluation(
    run: Run, split: str = "test", data: str | pathlib.Path | None = None
) -> tuple[dict, pathlib.Path]:
    """Score a run on a split; write `RUN/evaluation-<split>.json`, verdicts, plots and events.

    Args:
        run: a trained run.
        split: `train`, `validation` or `test`.
        data: folder of another dataset than the run's own.

    Returns:
        (the scores of `evaluation.evaluate`, path of the JSON file).
    """
    dataset = open_dataset(data) if data else own_dataset(run)
    result, labels, logits = evaluate_split(run, split, dataset)
    path = run.path / f"evaluation-{split}.json"
    plots = write_evaluation_plots(result, labels, logits, run.path / f"evaluation-{split}")
    folder = run.path / "events" / f"evaluation-{split}"
    cut_events(folder, -1)  # an earlier evaluation's
    with EventWriter(folder) as events:
        for plot in plots:
            events.png(f"evaluation/{plot.stem}", plot.read_bytes(), step=run.step)
        for name in ("accuracy", "macro_f1", "mcc", "expected_calibration_error"):
            events.scalar(f"evaluation/{name}", result[name], step=run.step)
    write_verdicts(run, dataset, split, labels, run.probabilities(logits))
    write_json(path, result)  # last: where it stands, all stands
    return result, path


def write_forged(
    run: Run,
    forgeries: Sequence[str],
    split: str = "test",
    data: str | pathlib.Path | None = None,
    *,
    checksums: str = "repaired",
    seed: int = 0,
) -> tuple[dict, pathlib.Path]:
    """Score a run on a split that is forged; write `RUN/forged-<split>.json` and `.png`.

    Args:
        run, split, data: as for `write_evaluation`.
        forgeries, checksums, seed: as for `evaluate_forged`.

    Returns:
        (what `evaluation.forged.evaluate_forged` returns, path of the JSON file).
    """
    dataset = open_dataset(data) if data else own_dataset(run)
    result = evaluate_forged(run, dataset, forgeries, split, checksums=checksums, seed=seed)
    path = run.path / f"forged-{split}.json"
    figure = forged_drops(result)
    if result["leaky"]:
        mark_leaky(figure, split)
    figure.savefig(path.with_suffix(".png"), dpi=150)
    write_json(path, result)
    return result, path


def write_explanation_metrics(
    run: Run,
    split: str = "test",
    data: str | pathlib.Path | None = None,
    *,
    methods: Sequence[str] | None = None,
    limit: int | None = None,
) -> tuple[dict, pathlib.Path]:
    """Measure a run's explanations on a split and write `RUN/explanations-<split>.json`.

    Args:
        run, split, data: as for `write_evaluation`.
        methods, limit: as for `explanation_metrics`.

    Returns:
        (what `evaluation.explanations.explanation_metrics` returns, path of the JSON file).
    """
    dataset = open_dataset(data) if data else own_dataset(run)
    result = explanation_metrics(run, dataset, split, methods=methods, limit=limit)
    path = run.path / f"explanations-{split}.json"
    write_json(path, result)
    return result, path


def write_explainer_benchmark(run: Run, **options: Any) -> tuple[dict, pathlib.Path]:
    """Score a run's explanations where the evidence is known and write `RUN/explainers.json`.

    Args:
        run: a binary run that was trained on a lab.
        **options: of `evaluation.explainer_benchmark.benchmark_explainers`.

    Returns:
        (what `benchmark_explainers` returns, path of the JSON file).
    """
    result = benchmark_explainers(run, **options)
    path = run.path / "explainers.json"
    write_json(path, result)
    return result, path
