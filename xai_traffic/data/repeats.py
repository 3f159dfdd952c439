"""Find the sessions of several shards that are the same image, one range of digests at a time.

Each shard leaves its digests in order, and none of them twice under one label. So the digests of
all shards that begin alike are found without reading others, and what they have in common is all
there is to know of them: no more than one range is in memory, and a bit for each session.
"""

from __future__ import annotations

import pathlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from xai_traffic.data.duplicates import ranked, shared_images
from xai_traffic.data.shard_notes import SortedDigests

_RANGE = 2 << 20
"""Digests in a range, of all shards together: comparing them takes about 100 bytes of each."""


class Repeats:
    """Which sessions repeat the image of an earlier one of their label; asked for in order.

    Args:
        sessions: of all shards, one behind the other.
    """

    def __init__(self, sessions: int):
        self._bits = np.zeros(-(-sessions // 8), np.uint8)
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._told = 0

    def mark(self, rows: np.ndarray) -> None:
        """Note sessions, int64 [n], that repeat an image."""
        np.bitwise_or.at(self._bits, rows >> 3, (1 << (rows & 7)).astype(np.uint8))

    def count(self, pairs: Counter[tuple[str, str]]) -> None:
        """Add images that two labels share, see `shared_images`."""
        self._pairs.update(pairs)

    def keep(self, labels: np.ndarray, digests: np.ndarray) -> np.ndarray:
        """Return what `Seen.keep` does, of the sessions that follow those asked for before."""
        first, self._told = self._told, self._told + len(labels)
        octets = self._bits[first >> 3 : (self._told + 7) >> 3]
        bits = np.unpackbits(octets, bitorder="little")
        return bits[first & 7 :][: len(labels)] == 0

    def conflicts(self) -> list[dict]:
        """Return what `label_conflicts` does of all sessions."""
        return ranked(self._pairs)


def find_repeats(
    shards: Sequence[tuple[pathlib.Path, int, Sequence[str]]], names: Sequence[str]
) -> Repeats:
    """Compare the digests of shards.

    Args:
        shards: folder, sessions and classes of each, in the order in which the first is kept.
        names: all classes.

    Raises:
        DatasetError: the digests of a shard cannot be read.
    """
    sessions = [count for _, count, _ in shards]
    before = np.cumsum(sessions) - sessions
    repeats = Repeats(sum(sessions))
    ranges = max(1, -(-sum(sessions) // _RANGE))
    bounds = np.array([number * 2**64 // ranges for number in range(ranges)], np.uint64)
    files = [SortedDigests(path, count, bounds) for path, count, _ in shards]
    places = {name: place for place, name in enumerate(names)}
    classes = [np.array([places[name] for name in of], np.int64) for _, _, of in shards]
    for number in range(ranges):
        parts = []
        for file, of_shard, begin in zip(files, classes, before, strict=True):
            high, low, label, row = file.read(number)
            parts.append((high, low, of_shard[label], row + begin))
        high, low, labels, rows = (np.concatenate(each) for each in zip(*parts, strict=True))
        alike = _neighbours(high)
        high, low, labels, rows = high[alike], low[alike], labels[alike], rows[alike]
        order = np.lexsort((labels, low, high))  # stable: the first shard's comes first
        high, low, labels, rows = high[order], low[order], labels[order], rows[order]
        again = np.zeros(len(rows), bool)
        again[1:] = (high[1:] == high[:-1]) & (low[1:] == low[:-1]) & (labels[1:] == labels[:-1])
        repeats.mark(rows[again])
        repeats.count(shared_images(names, labels[~again], high[~again], low[~again]))
    return repeats


def _neighbours(values: np.ndarray) -> np.ndarray:
    """Return where values are that occur more than once, int64 [n]; most digests do not."""
    order = np.argsort(values)
    same = values[order[1:]] == values[order[:-1]]
    return np.sort(order[np.append(same, False) | np.append(False, same)]) if len(order) else order
