"""Deal groups of sessions out to the splits, whole ones always; what each key does.

See split.py for the keys. A draw depends on the seed, on a class's name and its groups' sizes, so
that adding a class leaves the others where they were, as far as groups of several classes allow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xai_traffic.data.split import PLACES, SPLITS, UNUSED, SplitSpec

_TRAIN_FIRST = (0, 2, 1)
_TEST, _UNUSED = SPLITS.index("test"), PLACES.index(UNUSED)
_NEVER = np.iinfo(np.int64).max


class Cells(NamedTuple):
    """How many sessions of each label a group has; a row for each of its labels.

    Args:
        group: int64 [C], from 0 up in the order of first appearance, each at least once.
        label: int64 [C], ascending within a group.
        size: int64 [C], sessions.
    """

    group: np.ndarray
    label: np.ndarray
    size: np.ndarray


class Spans(NamedTuple):
    """When groups begin and end: ns since 1970, int64 [G], of the first and the last packet."""

    first: np.ndarray
    last: np.ndarray


def deal(
    cells: Cells,
    classes: Sequence[str],
    spec: SplitSpec,
    seed: int,
    *,
    points: np.ndarray | None = None,
    spans: Spans | None = None,
) -> tuple[np.ndarray, dict]:
    """Place every group.

    Args:
        cells: what is in the groups.
        classes: names of the labels, sorted.
        spec: what is split by.
        seed: of the draw.
        points: float64 [G] of `hash_points`, under the key hash.
        spans: of the groups, under the key time.

    Returns:
        index into PLACES int8 [G], and what the manifest must say of it as JSON values.
    """
    if spec.key == "time":
        return deal_by_time(np.bincount(cells.group, cells.size).astype(np.int64), spans, spec)
    if spec.key == "family":
        left_out = spec.left_out(classes)
        return _deal_families(cells, classes, left_out, spec, seed), {"left_out": left_out}
    if spec.key == "hash":
        return place_points(points, spec), {}
    if spec.fold is None:
        return deal_cells(cells, classes, spec.shares, seed), {}
    return spec.fold.places()[deal_cells(cells, classes, None, seed, spec.fold.of)], {}


def _deal_families(
    cells: Cells, classes: Sequence[str], left_out: Sequence[str], spec: SplitSpec, seed: int
) -> np.ndarray:
    """Put groups with a session of a class that is left out to the test, deal out the others."""
    chosen = np.array([name in left_out for name in classes], bool)
    of_group = np.full(int(cells.group.max(initial=-1)) + 1, _TEST, np.int8)
    mine = np.zeros(len(of_group), bool)
    mine[cells.group[chosen[cells.label]]] = True
    rest = ~mine[cells.group]
    if rest.any():
        number, group = np.unique(cells.group[rest], return_inverse=True)
        shares = spec.shares if spec.fold is None else _without_test(spec.shares)
        others = Cells(group, cells.label[rest], cells.size[rest])
        of_group[number] = deal_cells(others, classes, shares, seed)
    return of_group


def _without_test(shares: Sequence[float]) -> tuple[float, float, float]:
    train, validation, _ = shares
    return 100 * train / (train + validation), 100 * validation / (train + validation), 0.0


def by_first_appearance(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number groups 0, 1, ... by their first session, so that the draw depends on the order alone.

    Returns:
        int64 [N], and the first session of each group, int64 [G], ascending.
    """
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(first), np.int64)
    rank[order] = np.arange(len(first))
    return rank[inverse], first[order]


def cells_of(groups: np.ndarray, labels: np.ndarray) -> Cells:
    """Count the sessions of each group and label that occur together; int [N] both."""
    width = int(labels.max(initial=0)) + 1
    cells, sizes = np.unique(groups * width + labels, return_counts=True)
    return Cells(*np.divmod(cells, width), sizes)


def count_splits(cells: Cells, of_group: np.ndarray, classes: int) -> np.ndarray:
    """Return the sessions of each class in each place, int64 [classes, 4]."""
    place = cells.label * len(PLACES) + of_group[cells.group]
    counts = np.zeros(classes * len(PLACES), np.int64)
    np.add.at(counts, place, cells.size)
    return counts.reshape(classes, len(PLACES))


def count_taught(cells: Cells, of_group: np.ndarray, classes: int) -> np.ndarray:
    """Return how many groups training has of each class, int64 [classes]."""
    taught = of_group[cells.group] == SPLITS.index("train")
    return np.bincount(cells.label[taught], minlength=classes)


def connected(a: np.ndarray, b: np.ndarray, count: int) -> np.ndarray:
    """Return the lowest member of what each of `count` things is tied to, int64 [count].

    Args:
        a: int64 [E], one end of each tie.
        b: int64 [E], its other end.
        count: things, numbered from 0.
    """
    root = np.arange(count)
    while len(a):
        low, high = np.minimum(root[a], root[b]), np.maximum(root[a], root[b])
        apart = low != high
        a, b = a[apart], b[apart]
        np.minimum.at(root, high[apart], low[apart])
        while not np.array_equal(root, above := root[root]):
            root = above
    return root


def ties(groups: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for `connected` what ties groups that share a token.

    Args:
        groups: int64 [P].
        tokens: [P], what each of them has.
    """
    order = np.argsort(tokens, kind="stable")
    groups, tokens = groups[order], tokens[order]
    same = tokens[1:] == tokens[:-1]
    return groups[:-1][same], groups[1:][same]


def largest_remainder(total: int, shares: Sequence[float]) -> np.ndarray:
    """Return integers that sum to `total` and lie nearest to the shares (per cent); ties first."""
    exact = total * np.asarray(shares, np.float64) / 100
    counts = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - counts).round(9), kind="stable")
    counts[order[: total - counts.sum()]] += 1
    return counts


def _targets(total: int, shares: Sequence[float]) -> np.ndarray:
    counts = largest_remainder(total, shares)
    if counts[0] == 0 and shares[0] > 0 and total:
        counts[np.argmax(counts)] -= 1
        counts[0] = 1
    return counts


def _fold_targets(total: int, folds: int, turn: int) -> np.ndarray:
    """Return how many sessions of a class each fold should get; which get more is by the class."""
    return np.roll(largest_remainder(total, [100 / folds] * folds), turn % folds)


def hash_points(names: Sequence[str], seed: int) -> np.ndarray:
    """Return a point in [0, 1) for each content hash, float64 [G]."""
    key = str(seed).encode()
    points = [
        int.from_bytes(hashlib.blake2b(name.encode(), key=key, digest_size=8).digest(), "big")
        for name in names
    ]
    return np.asarray(points) / 2.0**64


def place_points(points: np.ndarray, spec: SplitSpec) -> np.ndarray:
    """Place groups by the point of the first session of each, into SPLITS int8 [G]."""
    if spec.fold is not None:
        fold = np.minimum(points * spec.fold.of, spec.fold.of - 1).astype(np.int64)
        return spec.fold.places()[fold]
    bounds = np.cumsum(spec.shares)[:2] / 100
    return np.searchsorted(bounds, points, side="right").astype(np.int8)


def deal_by_time(sizes: np.ndarray, spans: Spans, spec: SplitSpec) -> tuple[np.ndarray, dict]:
    """Place groups by when they begin; those that last across a boundary are unused.

    Args:
        sizes: int64 [G], sessions.
        spans: of the groups.
        spec: its shares, or its folds of equal size.

    Returns:
        index into PLACES int8 [G], and the instants at which blocks begin.
    """
    places = np.arange(len(SPLITS), dtype=np.int8)
    shares: Sequence[float] = spec.shares
    if spec.fold is not None:
        places, shares = spec.fold.places(), [100 / spec.fold.of] * spec.fold.of
    order = np.argsort(spans.first, kind="stable")
    before = np.cumsum(sizes[order]) - sizes[order]
    wanted = np.cumsum(largest_remainder(int(sizes.sum()), shares))[:-1]
    begins = np.append(spans.first[order], _NEVER)[np.searchsorted(before, wanted)]
    first, last = (np.searchsorted(begins, each, side="right") for each in spans)
    changes = np.append(0, np.cumsum(places[1:] != places[:-1]))
    inside = changes[first] == changes[last]
    shown = begins[(places[1:] != places[:-1]) & (begins != _NEVER)]
    told = [f"{each}Z" for each in np.datetime_as_string(shown.astype("datetime64[ns]")).tolist()]
    return np.where(inside, places[first], _UNUSED).astype(np.int8), {"begins": told}


def deal_cells(
    cells: Cells,
    classes: Sequence[str],
    shares: Sequence[float] | None,
    seed: int,
    folds: int = len(SPLITS),
) -> np.ndarray:
    """Deal out whole groups so that every class comes near its shares.

    Args:
        cells: what is in the groups.
        classes: names of the labels, sorted.
        shares: of SPLITS in per cent; None deals to so many folds of equal size.
        seed: of the draw.
        folds: how many there are.

    Returns:
        index into SPLITS, or the fold, int16 [G].
    """
    group, label, sizes = cells
    total = np.zeros(len(classes), np.int64)
    np.add.at(total, label, sizes)
    need = np.stack(
        [
            _fold_targets(int(n), folds, _number(name)) if shares is None else _targets(n, shares)
            for n, name in zip(total.tolist(), classes, strict=True)
        ]
    )
    labels_of_group = np.bincount(group)
    of_group = np.full(len(labels_of_group), -1, np.int16)
    mixed = np.flatnonzero(labels_of_group > 1)
    if len(mixed):
        begin, end = (np.searchsorted(group, mixed, side) for side in ("left", "right"))
        spans = [slice(*span) for span in zip(begin.tolist(), end.tolist(), strict=True)]
        for span in sorted(spans, key=lambda span: -int(sizes[span].sum())):
            of, size = label[span], sizes[span, None]
            wanted = need[of]
            gain = (np.clip(wanted, 0, size) / total[of, None]).sum(0)
            choice = max(
                range(need.shape[1]),
                key=lambda split: (gain[split], wanted[:, split].sum(), -split),
            )
            of_group[group[span.start]] = choice
            need[of, choice] -= sizes[span]
    pure = labels_of_group[group] == 1
    for number, name in enumerate(classes):
        cell = np.flatnonzero(pure & (label == number))
        rng = np.random.Generator(np.random.Philox(key=philox_key(seed, _number(name))))
        of_group[group[cell]] = _deal(sizes[cell], need[number], rng)
    return of_group


def philox_key(seed: int, stream: int) -> np.ndarray:
    """Return the two words of a Philox key: one draw for each (seed, stream)."""
    return np.asarray([seed % 2**64, stream % 2**64], np.uint64)


def _number(name: str) -> int:
    """Return 64 bits of a class name: adding a class leaves the draw of the others as it was."""
    return int.from_bytes(hashlib.blake2b(str(name).encode(), digest_size=8).digest(), "big")


def _deal(sizes: np.ndarray, need: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal the groups of one class out to the splits.

    Args:
        sizes: int [G], sessions of each group.
        need: int [S], sessions each split should still get; may be negative.

    Returns:
        which split, int16 [G].
    """
    result = np.zeros(len(sizes), np.int16)
    need = need.copy()
    first = _TRAIN_FIRST if len(need) == len(SPLITS) else np.argsort(-need, kind="stable").tolist()
    empty = [split for split in first if need[split] > 0]
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    for place, group in enumerate(order):
        left, size = len(order) - place, sizes[group]
        if size == 1 and left == need.sum() and need.min() >= 0:
            result[order[place:]] = rng.permutation(np.repeat(np.arange(len(need)), need))
            break
        room = np.where(need >= size, need, 0)
        if left <= len(empty):
            choice = empty[0]
        elif room.any():
            choice = int(rng.choice(len(need), p=room / room.sum()))
        else:
            choice = int(np.argmax(need))
        result[group] = choice
        need[choice] -= size
        if choice in empty:
            empty.remove(choice)
    return result
