"""Split a table of sessions as a whole, which data/groups.py does capture by capture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xai_traffic.data.deal import (
    Spans,
    by_first_appearance,
    cells_of,
    connected,
    count_splits,
    count_taught,
    deal,
    hash_points,
    ties,
)
from xai_traffic.data.split import SplitSpec, split_warnings


def assign_split(table: pa.Table, spec: SplitSpec, seed: int) -> tuple[np.ndarray, list[str]]:
    """Assign every session to a split.

    Args:
        table: sessions with `capture`, `protocol`, `source`, `source_port`, `destination`,
            `destination_port`, `label`, for the key hash `content_hash`, and for the key time
            `first_time` and `last_time`.
        spec: what to split by, and the shares.
        seed: of the draw; the same table, spec and seed give the same split.

    Returns:
        index into PLACES int8 [N], and warnings for the user.
    """
    if not len(table):
        return np.zeros(0, np.int8), []
    classes, labels = _encode(table["label"])
    groups = _codes(table, "capture") if spec.key == "capture" else five_tuple_groups(table)
    spans = None
    if spec.key == "session":
        groups = five_tuple_groups(table, of_capture=False)
    elif spec.key == "host":
        named = table["source"].is_valid().to_numpy()
        hosts = _codes(table, "source")[named]
        groups = connected(*ties(groups[named], hosts), int(groups.max()) + 1)[groups]
    elif spec.key == "time":
        times = (table[name].cast(pa.int64()).to_numpy() for name in ("first_time", "last_time"))
        spans = Spans(*times)

    def hashes(rows: np.ndarray) -> list[str]:
        return table["content_hash"].take(pa.array(rows)).to_pylist()

    return assign_groups(classes.tolist(), labels, groups, hashes, spec, seed, spans)


def assign_groups(
    classes: Sequence[str],
    labels: np.ndarray,
    groups: np.ndarray,
    hashes: Callable[[np.ndarray], list[str]],
    spec: SplitSpec,
    seed: int,
    spans: Spans | None = None,
) -> tuple[np.ndarray, list[str]]:
    """Assign sessions to splits, whole groups at a time; for what is returned see `assign_split`.

    Args:
        classes: names of the labels, sorted.
        labels: int [N] into `classes`.
        groups: int [N], equal for sessions that stay together; what numbers they have is the same.
        hashes: gives the content hashes of some rows.
        spec: what to split by, and the shares.
        seed: of the draw.
        spans: of the sessions, under the key time.
    """
    groups, first = by_first_appearance(groups)
    cells = cells_of(groups, labels)
    points = hash_points(hashes(first), seed) if spec.key == "hash" else None
    if spans is not None:
        begin, end = spans.first[first], spans.last[first]
        np.minimum.at(begin, groups, spans.first)
        np.maximum.at(end, groups, spans.last)
        spans = Spans(begin, end)
    of_group, _ = deal(cells, classes, spec, seed, points=points, spans=spans)
    counts = count_splits(cells, of_group, len(classes))
    number = np.bincount(cells.label, minlength=len(classes))
    taught = count_taught(cells, of_group, len(classes))
    warnings = split_warnings(counts, number, taught, classes, spec)
    return of_group.astype(np.int8)[groups], warnings


def five_tuple_groups(table: pa.Table, *, of_capture: bool = True) -> np.ndarray:
    """Return int64 [N], equal for sessions of the same protocol and endpoint pair.

    Args:
        table: sessions.
        of_capture: only those of the same capture are equal.
    """
    ends = pa.chunked_array([*table["source"].chunks, *table["destination"].chunks])
    ports = np.concatenate([table[name].to_numpy() for name in ("source_port", "destination_port")])
    a, b = _dense(_encode(ends)[1] << 16 | ports).reshape(2, -1)
    group = _codes(table, "protocol")
    if of_capture:
        group = _pair(_codes(table, "capture"), group)
    return _pair(_pair(group, np.minimum(a, b)), np.maximum(a, b))


def _codes(table: pa.Table, name: str) -> np.ndarray:
    return _encode(table[name])[1]


def _encode(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Return a column's distinct values, sorted, and int64 [N] into them."""
    encoded = pc.fill_null(column, "").combine_chunks().dictionary_encode()
    names, where = np.unique(encoded.dictionary.to_numpy(zero_copy_only=False), return_inverse=True)
    return names, where[encoded.indices.to_numpy()].astype(np.int64)


def _dense(values: np.ndarray) -> np.ndarray:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _pair(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _dense(a * (b.max() + 1) + b)
