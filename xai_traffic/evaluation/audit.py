"""Audit a dataset: what in it gives the label away that has nothing to do with behaviour.

`audit.json` holds what `audit` returns:

    dataset, manifest_sha256, task, classes, mask, split
                                           what was audited
    sessions                               looked at, by split, and `of`, how many there are
    baseline, chance                       accuracy of the most frequent class; balanced accuracy
                                           of guessing
    fields                                 ranked, see `field_ranking.rank_fields`
    positions                              ranked byte positions, with `intervals` as fields have
                                           them, and `name` of the field that most often stands
                                           there; and `position_skill` [8][256]
    shared_identifiers, nearest_neighbours, label_conflicts, capture_times
                                           see the modules of these names
    captures                               of each class, and `classes_of_one`, how many have one
    proposal                               see `mask_proposal.propose_mask`, with `commands`
    run                                    None, or see `field_reliance`
    retrain                                None, or see `masked_retrain`
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from xai_traffic.capture.fields import dissect
from xai_traffic.capture.layouts import TILE_LAYOUTS
from xai_traffic.capture.sessions import packet_rows_of
from xai_traffic.data.folder import manifest_sha256
from xai_traffic.data.split import SPLITS
from xai_traffic.data.store import Dataset
from xai_traffic.errors import ConfigError, DatasetError
from xai_traffic.evaluation.byte_positions import add_intervals, score_positions
from xai_traffic.evaluation.capture_times import capture_times
from xai_traffic.evaluation.field_ranking import Audited, rank_fields
from xai_traffic.evaluation.field_values import field_values
from xai_traffic.evaluation.label_conflicts import find_conflicts
from xai_traffic.evaluation.mask_proposal import propose_mask
from xai_traffic.evaluation.nearest_neighbours import nearest_neighbours
from xai_traffic.evaluation.session_values import session_values
from xai_traffic.evaluation.shared_identifiers import shared_identifiers
from xai_traffic.evaluation.split_units import units_of

SESSIONS = 10_000
"""Most sessions of each split that are looked at, drawn at random."""

TOP_POSITIONS = 64
"""Byte positions that are listed."""

_NAMED = 200  # sessions that tell which field stands at a position


def audit_dataset(
    dataset: Dataset, task: str = "multiclass", *, limit: int = SESSIONS, seed: int = 0
) -> dict[str, Any]:
    """Audit a dataset, without a run.

    Args:
        task: `binary` or `multiclass`.
        limit: most sessions of each split.
        seed: of all that is drawn.

    Raises:
        DatasetError: its tiles are no packets, it lacks a training or test split, sessions have no
            label of that task, or all have the same.
        ConfigError: unknown task, or the limit is less than 1.
    """
    if dataset.rules.layout not in TILE_LAYOUTS:
        raise DatasetError(
            f"{dataset.path} has layout {dataset.rules.layout!r}, whose bytes belong to no field "
            "any more: convert the captures with --layout tiles"
        )
    if limit < 1:
        raise ConfigError(f"limit is {limit}: at least one session of each split is needed")
    classes, every = dataset.task_classes(task), dataset.task_labels(task)
    rows, audited = choose_sessions(dataset, every, classes, limit, seed)
    if len(np.unique(audited.labels)) < 2:
        raise DatasetError(
            f"{dataset.path} has sessions of class {classes[audited.labels[0]]} alone: nothing can "
            "tell them from others"
        )
    fields = field_values(dataset, rows)
    ranked = rank_fields(audited, fields, session_values(dataset, rows), seed)
    positions = score_positions(dataset, rows, audited, seed)
    top = positions.ranked(TOP_POSITIONS)
    add_intervals(dataset, rows, audited, top, seed)
    _name_positions(dataset, rows, top)
    return {
        "dataset": str(dataset.path),
        "manifest_sha256": manifest_sha256(dataset.manifest),
        "task": task,
        "classes": classes,
        "mask": dataset.rules.mask,
        "rule": dataset.rules.rule,
        "split": dataset.manifest.get("split"),
        "leaky": dataset.leaky(task),
        "seed": seed,
        "sessions": {split: len(getattr(audited, split)) for split in SPLITS},
        "of": {split: len(dataset.rows(split)) for split in SPLITS},
        "packets": fields.packets,
        "baseline": audited.baseline(),
        "chance": audited.chance,
        "fields": ranked,
        "positions": top,
        "position_skill": np.round(positions.skill.astype(float), 4).tolist(),
        "shared_identifiers": shared_identifiers(dataset, rows, audited, fields),
        "nearest_neighbours": nearest_neighbours(dataset, rows, audited, seed),
        "label_conflicts": find_conflicts(dataset, every, classes),
        "captures": _captures(dataset, every, classes),
        "capture_times": capture_times(dataset, every, classes),
        "proposal": propose_mask(ranked, dataset.rules.mask),
        "run": None,
        "retrain": None,
    }


def choose_sessions(
    dataset: Dataset, labels: np.ndarray, classes: list[str], limit: int, seed: int
) -> tuple[np.ndarray, Audited]:
    """Return rows of the dataset's table, int64 [N], and which of them are of which split.

    Args:
        labels: int of all rows.

    Raises:
        DatasetError: the training or the test split is empty.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    parts = [np.sort(rng.permutation(dataset.rows(split))[:limit]) for split in SPLITS]
    for split, part in zip(SPLITS, parts, strict=True):
        if not len(part) and split != "validation":
            raise DatasetError(
                f"{dataset.path} has no sessions in split {split!r}, and what training gives away "
                "of the test is what is asked: convert with another --split"
            )
    rows = np.concatenate(parts)
    ends = np.cumsum([len(part) for part in parts])
    places = {
        split: np.arange(end - len(part), end)
        for split, part, end in zip(SPLITS, parts, ends.tolist(), strict=True)
    }
    return rows, Audited(labels[rows], classes, **places, units=units_of(dataset, rows))


def _name_positions(dataset: Dataset, rows: np.ndarray, top: list[dict]) -> None:
    """Add to each position the name of the field that most often stands there."""
    wanted: dict[int, list[dict]] = {}
    for position in top:
        wanted.setdefault(position["packet"], []).append(position)
    every = max(len(rows) // _NAMED, 1)
    tallies: dict[tuple[int, int], Counter[str]] = {}
    for packet, positions in wanted.items():
        for row in rows[dataset.tile_counts[rows] > packet][::every].tolist():
            at = int(dataset.first_tiles[row]) + packet
            own = packet_rows_of(dataset.packets.slice(at, 1))[0]
            for field in dissect(np.asarray(dataset.tiles[at]), own):
                for position in positions:
                    if field.start <= position["byte"] < field.end:
                        key = packet, position["byte"]
                        tallies.setdefault(key, Counter())[field.name] += 1
    for position in top:
        tally = tallies.get((position["packet"], position["byte"]))
        position["name"] = tally.most_common(1)[0][0] if tally else None


def _captures(dataset: Dataset, labels: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """Say how many captures hold each class: one capture a class means that they are the same."""
    held: dict[str, set[str]] = {name: set() for name in classes}
    for capture, label in set(
        zip(dataset.table["capture"].to_pylist(), labels.tolist(), strict=True)
    ):
        held[classes[label]].add(capture)
    counts = {name: len(captures) for name, captures in held.items() if captures}
    return {"per_class": counts, "classes_of_one": sum(n == 1 for n in counts.values())}
