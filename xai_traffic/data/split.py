"""Deal sessions out to train, validation and test: `KEY:TRAIN/VALIDATION/TEST` in per cent.

    random    stratified by label; the sessions of one 5-tuple of one capture stay together
    capture   whole captures, stratified by label as well as whole captures allow
    hash      by the content hash of the first session of a 5-tuple: stays what it is when
              captures are added; the shares hold on average, not exactly

`random` and `capture` aim at the largest-remainder counts of every class. They are met exactly
where groups allow it: bigger groups are dealt first, each to a split that still has room for it,
drawn in proportion to that room. A class with too few groups to go round gives them to train
first, then to test, then to validation, and is named in a warning.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from xai_traffic.errors import ConfigError

KEYS = ("random", "capture", "hash")
SPLITS = ("train", "validation", "test")
DEFAULT_SPLIT = "random:70/10/20"
_TRAIN_FIRST = (0, 2, 1)


@dataclasses.dataclass(frozen=True)
class SplitSpec:
    """A parsed split: its key and the shares of SPLITS in per cent."""

    key: str
    shares: tuple[float, float, float]

    def __str__(self) -> str:
        return f"{self.key}:{'/'.join(f'{share:g}' for share in self.shares)}"


def parse_split(spec: str) -> SplitSpec:
    """Parse `KEY:TRAIN/VALIDATION/TEST`.

    Raises:
        ConfigError: says what is wrong and shows how a split is written.
    """

    def refuse(reason: str) -> ConfigError:
        return ConfigError(
            f"split {spec!r}: {reason}; write KEY:TRAIN/VALIDATION/TEST in per cent, such as "
            f"{DEFAULT_SPLIT!r}, with KEY one of {', '.join(KEYS)}"
        )

    key, colon, rest = spec.strip().partition(":")
    if not colon:
        raise refuse("there is no ':'")
    if key not in KEYS:
        raise refuse(f"the key {key!r} is unknown")
    try:
        shares = tuple(float(share) for share in rest.split("/"))
    except ValueError:
        raise refuse(f"{rest!r} is not made of numbers") from None
    if len(shares) != 3:
        raise refuse(f"{len(shares)} shares are given, not 3")
    if not all(0 <= share <= 100 for share in shares):
        raise refuse("a share lies between 0 and 100")
    if abs(sum(shares) - 100) > 1e-6:
        raise refuse(f"the shares sum to {sum(shares):g}, not to 100")
    return SplitSpec(key, shares)


def assign_split(table: pa.Table, spec: SplitSpec, seed: int) -> tuple[np.ndarray, list[str]]:
    """Assign every session to a split.

    Args:
        table: sessions with `capture`, `protocol`, `source`, `source_port`, `destination`,
            `destination_port`, `label` and, for the key hash, `content_hash`.
        spec: what to split by, and the shares.
        seed: of the draw; the same table, spec and seed give the same split.

    Returns:
        index into SPLITS int8 [N], and warnings for the user.
    """
    if not len(table):
        return np.zeros(0, np.int8), []
    classes, labels = _encode(table["label"])
    groups = _codes(table, "capture") if spec.key == "capture" else five_tuple_groups(table)

    def hashes(rows: np.ndarray) -> list[str]:
        return table["content_hash"].take(pa.array(rows)).to_pylist()

    return assign_groups(classes, labels, groups, hashes, spec, seed)


def assign_groups(
    classes: Sequence[str],
    labels: np.ndarray,
    groups: np.ndarray,
    hashes: Callable[[np.ndarray], list[str]],
    spec: SplitSpec,
    seed: int,
) -> tuple[np.ndarray, list[str]]:
    """Assign sessions to splits, whole groups at a time; for what is returned see `assign_split`.

    Args:
        classes: names of the labels, sorted.
        labels: int [N] into `classes`.
        groups: int [N], equal for sessions that stay together; what numbers they have is the same.
        hashes: gives the content hashes of some rows.
        spec: what to split by, and the shares.
        seed: of the draw.
    """
    groups, first = by_first_appearance(groups)
    cells = cells_of(groups, labels)
    if spec.key == "hash":
        of_group = deal_by_hash(hashes(first), spec, seed)
    else:
        of_group = deal_cells(cells, classes, spec, seed)
    counts = count_splits(cells, of_group, len(classes))
    number = np.bincount(cells.label, minlength=len(classes))
    return of_group[groups], split_warnings(counts, number, classes, spec)


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


def cells_of(groups: np.ndarray, labels: np.ndarray) -> Cells:
    """Count the sessions of each group and label that occur together; int [N] both."""
    width = int(labels.max(initial=0)) + 1
    cells, sizes = np.unique(groups * width + labels, return_counts=True)
    return Cells(*np.divmod(cells, width), sizes)


def count_splits(cells: Cells, of_group: np.ndarray, classes: int) -> np.ndarray:
    """Return the sessions of each class in each split, int64 [classes, 3]."""
    place = cells.label * len(SPLITS) + of_group[cells.group]
    counts = np.zeros(classes * len(SPLITS), np.int64)
    np.add.at(counts, place, cells.size)
    return counts.reshape(classes, len(SPLITS))


def five_tuple_groups(table: pa.Table) -> np.ndarray:
    """Return int64 [N], equal for sessions of the same capture, protocol and endpoint pair."""
    ends = pa.chunked_array([*table["source"].chunks, *table["destination"].chunks])
    ports = np.concatenate([table[name].to_numpy() for name in ("source_port", "destination_port")])
    a, b = _dense(_encode(ends)[1] << 16 | ports).reshape(2, -1)
    group = _pair(_codes(table, "capture"), _codes(table, "protocol"))
    return _pair(_pair(group, np.minimum(a, b)), np.maximum(a, b))


def _codes(table: pa.Table, name: str) -> np.ndarray:
    return _encode(table[name])[1]


def _encode(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """Return a column's distinct values, sorted, and int64 [N] into them."""
    encoded = column.combine_chunks().dictionary_encode()
    names, where = np.unique(encoded.dictionary.to_numpy(zero_copy_only=False), return_inverse=True)
    return names, where[encoded.indices.to_numpy()].astype(np.int64)


def _dense(values: np.ndarray) -> np.ndarray:
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _pair(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return _dense(a * (b.max() + 1) + b)


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


def deal_by_hash(names: Sequence[str], spec: SplitSpec, seed: int) -> np.ndarray:
    """Place each group by the content hash of its first session.

    Returns:
        index into SPLITS int8 [G].
    """
    key = str(seed).encode()
    points = [
        int.from_bytes(hashlib.blake2b(name.encode(), key=key, digest_size=8).digest(), "big")
        for name in names
    ]
    bounds = np.cumsum(spec.shares)[:2] / 100
    return np.searchsorted(bounds, np.asarray(points) / 2.0**64, side="right").astype(np.int8)


def deal_cells(cells: Cells, classes: Sequence[str], spec: SplitSpec, seed: int) -> np.ndarray:
    """Deal out whole groups so that every class comes near its shares.

    Returns:
        index into SPLITS int8 [G].
    """
    group, label, sizes = cells
    total = np.zeros(len(classes), np.int64)
    np.add.at(total, label, sizes)
    need = np.stack([_targets(int(n), spec.shares) for n in total])
    labels_of_group = np.bincount(group)
    of_group = np.full(len(labels_of_group), -1, np.int8)
    mixed = np.flatnonzero(labels_of_group > 1)
    if len(mixed):
        begin, end = (np.searchsorted(group, mixed, side) for side in ("left", "right"))
        spans = [slice(*span) for span in zip(begin.tolist(), end.tolist(), strict=True)]
        for span in sorted(spans, key=lambda span: -int(sizes[span].sum())):
            of, size = label[span], sizes[span, None]
            wanted = need[of]
            gain = (np.clip(wanted, 0, size) / total[of, None]).sum(0)
            choice = max(range(3), key=lambda split: (gain[split], wanted[:, split].sum(), -split))
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
        need: int [3], sessions each split should still get; may be negative.

    Returns:
        index into SPLITS int8 [G].
    """
    result = np.zeros(len(sizes), np.int8)
    need = need.copy()
    empty = [split for split in _TRAIN_FIRST if need[split] > 0]
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    for place, group in enumerate(order):
        left, size = len(order) - place, sizes[group]
        if size == 1 and left == need.sum() and need.min() >= 0:
            result[order[place:]] = rng.permutation(np.repeat(np.arange(3), need))
            break
        room = np.where(need >= size, need, 0)
        if left <= len(empty):
            choice = empty[0]
        elif room.any():
            choice = int(rng.choice(3, p=room / room.sum()))
        else:
            choice = int(np.argmax(need))
        result[group] = choice
        need[choice] -= size
        if choice in empty:
            empty.remove(choice)
    return result


def split_warnings(
    counts: np.ndarray, groups: np.ndarray, classes: Sequence[str], spec: SplitSpec
) -> list[str]:
    """Name every class that one of the wanted splits has nothing of.

    Args:
        counts: int [classes, 3], see `count_splits`.
        groups: int [classes], groups that have sessions of each class.
        classes: their names.
        spec: what was split by.
    """
    warnings = []
    for label, name in enumerate(classes):
        missing = [
            SPLITS[index] for index in range(3) if spec.shares[index] and not counts[label, index]
        ]
        if missing:
            number = int(groups[label])
            kind = "capture" if spec.key == "capture" else "5-tuple"
            kind += "s" * (number > 1)
            trouble = " (nothing to learn it from!)" if "train" in missing else ""
            warnings.append(
                f"class {name}: no session in {' and '.join(missing)}{trouble}: it has "
                f"{counts[label].sum()} sessions in {number} {kind}, split {spec}"
            )
    return warnings
