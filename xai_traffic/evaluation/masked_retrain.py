"""Train again without what the audit found, and say what is left of the score.

The dataset is derived under the proposed mask and keeps its split; the training has the config of
the audited run, from its own start. Both runs are scored on their own test split, and on the
sessions that both test splits have (a mask makes more sessions duplicates of others).
"""

from __future__ import annotations

import pathlib
import shlex
from typing import Any

import ml_collections
import numpy as np

from xai_traffic.data.derive import derive
from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.errors import ConfigError
from xai_traffic.evaluation.bootstrap import interval
from xai_traffic.evaluation.evaluate import predict_split
from xai_traffic.evaluation.score_intervals import Draws
from xai_traffic.evaluation.split_units import unit_name, units_of
from xai_traffic.training.config import flatten, load_config, load_module
from xai_traffic.training.loop import train
from xai_traffic.training.overlap import leaks_of
from xai_traffic.training.recipe import RECIPES
from xai_traffic.training.run import Run, load_run

DATASET, RUN = "masked-dataset", "masked-run"
"""Folders that a retraining makes."""

_NOT_OURS = ("data.path", "data.mask", "init_from")
"""Fields of the run's config that the new training does not share."""


def retrain_commands(
    dataset: Dataset, mask: str, folder: pathlib.Path, task: str, run: Run | None = None
) -> list[str]:
    """Return the commands that derive the masked dataset and train on it.

    Args:
        mask: of the new dataset.
        folder: where both go.
        task: whose labels.
        run: whose config to train by; by default that of the ViT.
    """
    quoted = {name: shlex.quote(str(folder / name)) for name in (DATASET, RUN)}
    source = dataset.path if dataset.rules.mask == "none" else "UNMASKED_DATASET"
    commands = [
        f"xai-traffic convert {shlex.quote(str(source))} --mask {mask} --out {quoted[DATASET]}"
    ]
    flags = [f"--config configs/vit.py:{task}", f"--config.data.mask={mask}"]
    if run is not None:
        spec, differ = _nearest_config(run.config)
        own = {key: value for key, value in differ.items() if key not in _NOT_OURS}
        flags = [f"--config {spec}", f"--config.data.mask={mask}"]
        flags += [shlex.quote(f"--config.{key}={value}") for key, value in own.items()]
    flags += [f"--config.data.path={quoted[DATASET]}", f"--workdir {quoted[RUN]}"]
    return [*commands, f"xai-traffic train {' '.join(flags)}"]


def retrain(run: Run, dataset: Dataset, mask: str, folder: pathlib.Path) -> dict[str, Any]:
    """Derive the masked dataset, train on it by the run's config, and compare.

    After an interruption the command of `retrain_commands` goes on with the training.

    Args:
        dataset: of the run, without a mask.
        mask: to put on it.
        folder: for the dataset and the run.

    Returns:
        `mask`; `unit` of the bootstrap; `before` and `after`, each with `sessions`, `accuracy` and
        `macro_f1` (`value`, `low`, `high`: 95 %), `run`, `dataset` and `leaky`; and `difference`,
        accuracy after minus before over the test sessions that both have (`mean`, `low`, `high`,
        `sessions`).

    Raises:
        DatasetError: the dataset cannot be masked.
        RunError: the run cannot judge the dataset.
    """
    path = folder / DATASET
    derive(dataset, path, mask)
    masked = open_dataset(path)
    config = ml_collections.ConfigDict(run.config.to_dict())
    config.data.path, config.data.mask, config.init_from = str(path), mask, ""
    train(config.lock(), folder / RUN)
    before, correct_before = _scored(run, dataset)
    after, correct_after = _scored(load_run(folder / RUN), masked)
    rows = dataset.rows("test")
    both = [number for number, key in enumerate(correct_before) if key in correct_after]
    right = np.array(list(correct_before.values()), float)
    still = np.array([correct_after.get(key, False) for key in correct_before], float)
    difference: dict[str, Any] = {"mean": None, "low": None, "high": None, "sessions": 0}
    if both:
        difference = interval((still - right)[both], units_of(dataset, rows[both]))
    return {
        "mask": mask,
        "unit": unit_name(dataset),
        "before": before,
        "after": after,
        "difference": difference,
    }


def _scored(run: Run, dataset: Dataset) -> tuple[dict, dict[tuple[str, int], bool]]:
    """Return scores of a run on the test split, and which of its sessions it judged rightly.

    The latter in the order of the split, by capture and number.
    """
    labels, probabilities = predict_split(run, "test", dataset)
    verdicts = probabilities.argmax(-1)
    rows = dataset.rows("test")
    table = dataset.table.take(rows)
    keys = zip(table["capture"].to_pylist(), table["session"].to_pylist(), strict=True)
    draws = Draws(labels, units_of(dataset, rows), len(run.classes))
    found = {
        "run": str(run.path),
        "dataset": str(dataset.path),
        "leaky": leaks_of(run, "test", dataset),
        "sessions": len(labels),
        **draws.interval(verdicts),
    }
    return found, dict(zip(keys, (verdicts == labels).tolist(), strict=True))


def _nearest_config(config: ml_collections.ConfigDict) -> tuple[str, dict[str, Any]]:
    """Return the config file with words, and the fields of the run that differ from it."""
    own = dict(flatten(config.to_dict()))
    file = f"configs/{config.model.name}.py"
    try:
        sizes = getattr(load_module(file), "SIZES", {})
    except ConfigError:
        return "FILE.py", own
    nearest: tuple[str, dict[str, Any]] | None = None
    for size in ("", *sizes):
        for recipe in RECIPES:
            spec = f"{file}:{','.join(word for word in (config.task, recipe, size) if word)}"
            theirs = dict(flatten(load_config(spec).to_dict()))
            differ = {key: value for key, value in own.items() if theirs.get(key) != value}
            if nearest is None or len(differ) < len(nearest[1]):
                nearest = spec, differ
    return nearest
