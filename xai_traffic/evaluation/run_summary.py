"""What a run's folder tells without its model: settings, state, scores; finished or not."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from xai_traffic.errors import RunError
from xai_traffic.training.config import flatten
from xai_traffic.training.default_run import run_folder
from xai_traffic.training.run import CONFIG, READING, RESULT, read_config, read_reading
from xai_traffic.training.stopping import Stopping

METRICS = "metrics.csv"
SCORES = ("loss", "accuracy", "macro_f1")
"""Of the validation split, in metrics.csv and result.json."""
TEST_SCORES = ("accuracy", "macro_f1", "mcc", "expected_calibration_error")
LOWER_IS_BETTER = ("loss", "expected_calibration_error")


@dataclasses.dataclass(frozen=True, eq=False)
class RunSummary:
    """A run as its files tell it.

    Args:
        path: its folder.
        config: of its training, by dotted key.
        reading: what `reading.json` holds: rules, classes, task, dataset.
        step, epoch: done so far.
        best: validation scores of the best epoch, empty before the first.
        best_step, best_epoch: of those scores.
        result: what `result.json` holds, None where the run is not finished.
        evaluation: what `evaluation-<split>.json` holds, None where there is none.
    """

    path: pathlib.Path
    config: dict[str, Any]
    reading: dict[str, Any]
    step: int
    epoch: int
    best: dict[str, float]
    best_step: int
    best_epoch: int
    result: dict[str, Any] | None
    evaluation: dict[str, Any] | None

    @property
    def state(self) -> str:
        """One of `finished`, `unfinished`, `not begun`; whether it runs now no file can tell."""
        if self.result is not None:
            return "finished"
        return "unfinished" if self.step else "not begun"

    @property
    def data(self) -> str:
        """SHA-256 of its dataset's manifest."""
        return self.reading["dataset"]["manifest_sha256"]

    @property
    def evaluated_data(self) -> str | None:
        """SHA-256 of the manifest of the dataset it was evaluated on, else what stands for it."""
        if self.evaluation is None:
            return None
        known = self.evaluation.get("manifest_sha256")  # not in files of earlier versions
        own = self.evaluation["dataset"] == self.reading["dataset"]["path"]
        return known or (self.data if own else self.evaluation["dataset"])

    def scored_on(self, column: str) -> tuple | None:
        """Return what must be the same for two runs' scores to be comparable, None without scores.

        Args:
            column: one of `score_columns`.
        """
        task = self.config["task"]
        if not column.startswith("validation/"):
            return (task, self.evaluated_data) if self.evaluation else None
        limit = self.config.get("data.limit", 0)  # draws by the seed
        key = task, self.data, limit, self.config["seed"] if limit else None
        return key if self.best else None


def score_columns(split: str) -> list[str]:
    """Return the columns that hold scores, in their order."""
    return [
        *(f"validation/{name}" for name in SCORES),
        # A split that is validated and evaluated has scores of both; they may differ by `limit`.
        *(f"{'evaluated ' if split == 'validation' else ''}{split}/{name}" for name in TEST_SCORES),
    ]


def lower_is_better(column: str) -> bool:
    """Return whether a score is the better the lower it is."""
    return column.rpartition("/")[2] in LOWER_IS_BETTER


def find_runs(paths: Sequence[str | os.PathLike]) -> tuple[list[pathlib.Path], list[RunError]]:
    """Find the runs among folders and below them, each once; `default` is the packaged one.

    Returns:
        (folders in the order given, those below one folder sorted; what holds no run).
    """
    found: dict[pathlib.Path, pathlib.Path] = {}
    faults = []
    for path in map(run_folder, paths):
        runs = [path] if os.path.exists(path / CONFIG) else sorted(_below(path), key=_natural)
        if not runs:
            faults.append(
                RunError(f"{path} is no run and holds none: name folders of `xai-traffic train`")
            )
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values()), faults


def _below(path: pathlib.Path) -> list[pathlib.Path]:
    runs = []
    for folder, names, files in os.walk(path):
        if CONFIG in files and READING in files:
            runs.append(pathlib.Path(folder))
            names.clear()
    return runs


def _natural(path: pathlib.Path) -> list[tuple[float, str]]:
    """Sort run-2 before run-10, and rate=0.0015 before rate=0.003."""
    words = re.findall(r"\d+(?:\.\d+)?|\D+", str(path))
    return [(float(word), "") if word[0].isdecimal() else (-1.0, word) for word in words]


def summarise_run(path: pathlib.Path, split: str = "test") -> RunSummary:
    """Read what a run's folder tells.

    Args:
        path: the run's folder.
        split: whose evaluation to read.

    Raises:
        RunError: the folder is no run, or a file of it is damaged.
    """
    try:
        config = dict(flatten(read_config(path)))
        reading = read_reading(path)
        result = read_json(path / RESULT)
        evaluation = read_json(path / f"evaluation-{split}.json")
        step, epoch, known = _progress(path / METRICS, config["early_stopping.metric"])
        if result is not None:
            step, epoch = result["step"], result["epoch"]
            known = Stopping("", 0, result["best"], result["best_step"], result["best_epoch"])
        summary = RunSummary(
            path=path,
            config=config,
            reading=reading,
            step=step,
            epoch=epoch,
            best=known.best,
            best_step=known.best_step,
            best_epoch=known.best_epoch,
            result=result,
            evaluation=evaluation,
        )
        _ = summary.data, summary.evaluated_data, reading["rules"]["mask"]
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise RunError(f"{path} cannot be told: {type(error).__name__}: {error}") from error
    return summary


def read_json(path: pathlib.Path) -> dict[str, Any] | None:
    """Return the object that a file of a run holds, None where there is no such file.

    Raises:
        RunError: it cannot be read.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise RunError(f"{path} cannot be read: it holds no JSON object")
    return value


def _progress(path: pathlib.Path, metric: str) -> tuple[int, int, Stopping]:
    """Return (last step, last epoch that ended, what is known of the best) of metrics.csv."""
    step, epoch, stopping = 0, 0, Stopping(metric, 0)
    if not path.exists():
        return step, epoch, stopping
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if None in row.values():
                break  # the last row of a run that was killed, or is writing it
            step = int(row["step"])
            if row["validation/loss"]:
                epoch = int(row["epoch"])
                scores = {name: float(row[f"validation/{name}"]) for name in SCORES}
                stopping = stopping.after(step, epoch, scores)
    return step, epoch, stopping
