"""What trees see of sessions: header fields as numbers, or the bytes of the first tiles."""

from __future__ import annotations

import numpy as np

from xai_traffic.errors import DatasetError
from xai_traffic.evaluation.baseline_problem import Problem
from xai_traffic.evaluation.field_values import FieldValues

TILES = 8
"""Tiles of a session that trees look at: as many as the small networks do."""

NUMBER = 6
"""Bytes of a field's value that make a number: a MAC address, and exact in float64."""


def tile_features(problem: Problem, fields: FieldValues | None = None) -> np.ndarray:
    """Return the bytes of the first tiles that differ in training, uint8 [N, F]."""
    dataset, rows = problem.dataset, problem.rows
    tiles = np.zeros((len(rows), TILES, dataset.tiles.shape[1]), np.uint8)
    counts = np.minimum(dataset.tile_counts[rows], TILES)
    for place, (first, count) in enumerate(
        zip(dataset.first_tiles[rows].tolist(), counts.tolist(), strict=True)
    ):
        tiles[place, :count] = dataset.tiles[first : first + count]
    return _that_differ(tiles.reshape(len(rows), -1), problem.train)


def header_features(problem: Problem, fields: FieldValues) -> np.ndarray:
    """Return the values of all protocol fields as numbers, float64 [N, F].

    Of each field and side its first NUMBER bytes as a number, big-endian and zero behind shorter
    values (so that texts are in their order), -1 where a session lacks the field; and how long it
    is, where that differs.
    """
    columns = []
    for own in fields.values.values():
        numbers, lengths = np.full((2, fields.sessions), -1.0)
        for session, value in own.items():
            lengths[session] = len(value)
            numbers[session] = int.from_bytes(value[:NUMBER].ljust(NUMBER, b"\0"), "big")
        columns += [numbers, lengths]
    if not columns:
        raise DatasetError(f"{problem.dataset.path}: its packets have no protocol fields")
    return _that_differ(np.stack(columns, 1), problem.train)


def _that_differ(features: np.ndarray, train: slice) -> np.ndarray:
    """Leave out columns that are the same in all of training, and all but one of equal ones."""
    seen = features[train]
    keep = np.flatnonzero((seen != seen[:1]).any(0))
    if not len(keep):
        return features[:, :1]
    _, first = np.unique(np.ascontiguousarray(seen[:, keep].T), axis=0, return_index=True)
    return np.ascontiguousarray(features[:, keep[np.sort(first)]])
