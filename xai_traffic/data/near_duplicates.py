"""Find sessions that are nearly the same image, before the split.

The likeness of two sessions is the Jaccard index of their words: a word is 4 bytes of a masked
tile that are not all zero, with their place (which packet, which offset). So it is the share of
what either holds that both hold, at the same place, as a model of images sees them; 1 for the same
bytes. A cluster is what pairs of at least the threshold tie together, directly or by others
(single linkage), so no pair of the threshold lies in two clusters.

Pairs are found without comparing all: MinHash with one permutation of 64 bins (Li et al., One
Permutation Hashing, 2012; empty bins filled as Shrivastava, Optimal Densification, 2017), cut in
bands of some rows (locality-sensitive hashing: Leskovec et al., Mining of Massive Datasets, 2014,
section 3.4). Sessions that agree in a band are compared word by word, so a pair below the threshold
is never taken for one. A pair of the threshold agrees in no band with a chance of about 1 in 200,
one above it with less; and of many that agree, 16 are compared with the others, drawn anew in each
band. So a few are missed; test_near_duplicates.py holds them below 1 in 100. Hashes are fixed: the
same sessions give the same clusters, however they are shared out. `ACTION:THRESHOLD` says what is
done:

    keep    they are counted, and a cluster in two splits is a leak (see leaks.py)
    group   the sessions of a cluster stay together
    drop    that, and of each label of a cluster all sessions but the first are in no split
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from xai_traffic.capture.mixing import mix
from xai_traffic.capture.records import TILE
from xai_traffic.data.deal import by_first_appearance
from xai_traffic.data.spool import consecutive
from xai_traffic.errors import ConfigError

ACTIONS = ("keep", "group", "drop")
METHOD = "Jaccard of placed 4-byte words; one-permutation MinHash, LSH bands, each pair verified"
BINS = 64
LISTED = 20
"""Largest clusters that the manifest lists."""

_MISSED = 0.005
"""Chance at which a pair of the threshold may be missed."""

_WORDS = TILE // 4
_EMPTY = np.uint32(2**32 - 1)
_ROUNDS = 16
"""Sessions of a bucket that are compared with the others of it."""

_PAIRS = 1 << 16
"""Pairs whose likeness is asked for at a time."""

_TILES = 1 << 13
"""Tiles that are compared at a time, of both sessions of some pairs."""

_EXAMPLES = 3


@dataclasses.dataclass(frozen=True)
class NearSpec:
    """What is done with near duplicates: one of ACTIONS, and the threshold in (0, 1]."""

    action: str
    threshold: float

    def __str__(self) -> str:
        return f"{self.action}:{self.threshold:g}"

    @property
    def rows(self) -> int:
        """Rows of a band: as many as may be while hardly a pair of the threshold is missed."""
        chances = {
            rows: (1 - self.threshold**rows) ** (BINS // rows) for rows in range(1, BINS // 4 + 1)
        }
        return max((rows for rows, missed in chances.items() if missed <= _MISSED), default=1)


def parse_near(text: str) -> NearSpec:
    """Parse `ACTION:THRESHOLD`.

    Raises:
        ConfigError: it is written otherwise.
    """
    action, _, threshold = text.strip().partition(":")
    try:
        value = float(threshold)
    except ValueError:
        value = -1.0
    if action not in ACTIONS or not 0.2 <= value <= 1:
        raise ConfigError(
            f"near_duplicates {text!r}: write ACTION:THRESHOLD, such as 'group:0.9', ACTION one of "
            f"{', '.join(ACTIONS)}, and the threshold a Jaccard index between 0.2 and 1"
        )
    return NearSpec(action, value)


@dataclasses.dataclass(frozen=True, eq=False)
class Clusters:
    """Near duplicates of a dataset.

    Args:
        cluster: int64 [N], the number of the first session of its cluster.
        labels: int64 [N].
    """

    cluster: np.ndarray
    labels: np.ndarray

    def repeats(self) -> np.ndarray:
        """Return bool [N], False for the first session of each label of a cluster."""
        width = int(self.labels.max(initial=0)) + 1
        _, first = np.unique(self.cluster * width + self.labels, return_index=True)
        repeats = np.ones(len(self.cluster), bool)
        repeats[first] = False
        return repeats

    def of_several(self) -> np.ndarray:
        """Return int64 [N], the cluster where it has two sessions or more, -1 elsewhere."""
        size = np.bincount(self.cluster, minlength=len(self.cluster))
        return np.where(size[self.cluster] > 1, self.cluster, -1)


class NearDuplicates:
    """Sessions that are told one part after the other, and their clusters at the end.

    Memory: 4 bytes for each band (16 at a threshold of 0.8, 9 at 0.9) and 20 more for each session.

    Args:
        spec: what is called near.
    """

    def __init__(self, spec: NearSpec):
        self.spec = spec
        self._bands: list[np.ndarray] = [np.zeros((0, BINS // spec.rows), np.uint32)]
        self._facts: list[np.ndarray] = [np.zeros((3, 0), np.int64)]

    def add(
        self, tiles: np.ndarray, counts: np.ndarray, labels: np.ndarray, sessions: np.ndarray
    ) -> None:
        """Take some sessions.

        Args:
            tiles: uint8 [T, 256], masked.
            counts: int [n], tiles of each session, T in all.
            labels: int [n].
            sessions: int64 [n], their numbers in their capture.
        """
        self._facts.append(np.stack([counts, labels, sessions]).astype(np.int64))
        self._bands.append(band_hashes(tiles, counts, self.spec.rows))

    def find(self, tiles: np.ndarray) -> Clusters:
        """Return the clusters.

        Args:
            tiles: uint8 [T, 256] of all sessions, which may be mapped.
        """
        bands = np.concatenate(self._bands)
        self._bands = [bands[:0]]
        self._facts = [np.concatenate(self._facts, axis=1)]
        counts, labels, _ = self._facts[0]
        first = np.cumsum(counts) - counts
        root = np.arange(len(counts))
        for band in range(bands.shape[1]):
            _tie_band(root, band, bands[:, band], tiles, first, counts, self.spec.threshold)
        return Clusters(root, labels)

    def told(
        self, clusters: Clusters, names: Sequence[str], captures: Sequence[tuple[str, int]]
    ) -> dict:
        """Return what the manifest says of them.

        Args:
            clusters: as found.
            names: of the labels.
            captures: name and number of kept sessions of each, in order.
        """
        near = np.flatnonzero(clusters.of_several() >= 0)
        number, first = by_first_appearance(clusters.cluster[near])
        sizes = np.bincount(number, minlength=len(first))
        pairs = np.unique(number * len(names) + clusters.labels[near]) // max(len(names), 1)
        of_labels = np.bincount(pairs, minlength=len(first))
        largest = np.argsort(-sizes, kind="stable")[:LISTED]
        ends = np.cumsum([count for _, count in captures])
        sessions = self._facts[0][2]

        def example(row: int) -> dict:
            capture = captures[int(np.searchsorted(ends, row, side="right"))][0]
            return {"capture": capture, "session": int(sessions[row])}

        listed = []
        for cluster in largest.tolist():
            rows = near[number == cluster]
            labels = Counter(names[label] for label in clusters.labels[rows].tolist())
            listed.append(
                {
                    "sessions": len(rows),
                    "labels": dict(sorted(labels.items(), key=lambda item: (-item[1], item[0]))),
                    "examples": [example(row) for row in rows[:_EXAMPLES].tolist()],
                }
            )
        dropped = int(clusters.repeats().sum()) if self.spec.action == "drop" else 0
        return {
            "action": self.spec.action,
            "threshold": self.spec.threshold,
            "method": METHOD,
            "bins": BINS,
            "rows": self.spec.rows,
            "bands": BINS // self.spec.rows,
            "clusters": len(first),
            "sessions": len(near),
            "repeats": int(clusters.repeats().sum()),
            "clusters_of_several_labels": int((of_labels > 1).sum()),
            "unused": dropped,
            "largest": listed,
        }


def band_hashes(tiles: np.ndarray, counts: np.ndarray, rows: int) -> np.ndarray:
    """Return the hashes of the bands of each session, uint32 [n, BINS // rows].

    Args:
        tiles: uint8 [T, 256].
        counts: int [n], tiles of each session.
        rows: of a band.
    """
    bins = min_hashes(tiles, counts)
    bands = BINS // rows
    hashes = np.zeros((len(bins), bands), np.uint64)
    for row in range(rows):
        hashes = mix(hashes ^ bins[:, row : rows * bands : rows])
    return (hashes >> np.uint64(32)).astype(np.uint32)


def min_hashes(tiles: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the lowest hash in each bin of each session's words, uint32 [n, BINS].

    A bin without a word takes that of another bin, drawn by its own number: of equal sets the
    same, so two sessions agree in a bin with a chance of their Jaccard index.
    """
    counts = np.asarray(counts, np.int64)
    lowest = np.full(len(counts) * BINS, _EMPTY)
    ends = np.cumsum(counts)
    begins = ends - counts
    session_of_tile = np.repeat(np.arange(len(counts)), counts)
    packet = np.arange(len(tiles)) - begins[session_of_tile]
    words = np.ascontiguousarray(tiles).view("<u4")
    for start in range(0, len(words), 4096):
        part = words[start : start + 4096]
        tile, place = np.nonzero(part)
        seat = (packet[start + tile] * _WORDS + place).astype(np.uint64) << np.uint64(32)
        hashes = mix(seat | part[tile, place])
        slot = session_of_tile[start + tile] * BINS + (hashes >> np.uint64(58)).astype(np.int64)
        np.minimum.at(lowest, slot, (hashes & np.uint64(0xFFFFFFFE)).astype(np.uint32))
    lowest = lowest.reshape(-1, BINS)
    full = lowest != _EMPTY
    filled = lowest.copy()
    session, place = np.nonzero(~full & full.any(1, keepdims=True))
    turn = np.uint64(0)
    while len(session):
        turn += np.uint64(1)
        other = (mix(place.astype(np.uint64) | turn << np.uint64(8)) % BINS).astype(np.int64)
        found = full[session, other]
        filled[session[found], place[found]] = lowest[session[found], other[found]]
        session, place = session[~found], place[~found]
    return filled


def _tie_band(
    root: np.ndarray,
    band: int,
    hashes: np.ndarray,
    tiles: np.ndarray,
    first: np.ndarray,
    counts: np.ndarray,
    threshold: float,
) -> None:
    """Tie sessions that agree in a band and are near enough.

    Some sessions of each bucket are compared with the later ones of it that are not in their
    cluster yet. Which these are is drawn anew in each band.

    Args:
        root: int64 [N], the first member of each session's cluster; changed.
        band: its number.
        hashes: of the band, uint32 [N].
        tiles, first, counts: of all sessions.
        threshold: Jaccard index that is near enough.
    """
    drawn = mix(np.arange(len(hashes), dtype=np.uint64) | np.uint64((band + 1) << 48))
    order = np.lexsort((drawn, hashes))
    bucket = np.cumsum(np.append(True, hashes[order][1:] != hashes[order][:-1])[: len(order)]) - 1
    for turn in range(_ROUNDS):
        # A bucket of one cluster is done.
        begins = np.flatnonzero(np.append(True, bucket[1:] != bucket[:-1])[: len(bucket)])
        if not len(begins):
            return
        low, high = (each.reduceat(root[order], begins) for each in (np.minimum, np.maximum))
        sizes = np.diff(np.append(begins, len(order)))
        open_still = np.repeat((low != high) & (sizes > turn + 1), sizes)
        order, bucket = order[open_still], bucket[open_still]
        sizes = sizes[(low != high) & (sizes > turn + 1)]
        begins = np.repeat(np.cumsum(sizes) - sizes, sizes)
        leads = order[begins + turn]
        later = np.arange(len(order)) > begins + turn
        leads, others = leads[later], order[later]
        apart = root[leads] != root[others]
        leads, others = leads[apart], others[apart]
        for start in range(0, len(leads), _PAIRS):
            a, b = leads[start : start + _PAIRS], others[start : start + _PAIRS]
            near = likeness(tiles, first[a], counts[a], first[b], counts[b]) >= threshold
            _unite(root, a[near], b[near])


def _unite(root: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """Make clusters of what is tied; `root` keeps the lowest member of each."""
    while len(a):
        low, high = np.minimum(root[a], root[b]), np.maximum(root[a], root[b])
        apart = low != high
        a, b = a[apart], b[apart]
        np.minimum.at(root, high[apart], low[apart])
        while not np.array_equal(root, above := root[root]):
            root[:] = above


def likeness(
    tiles: np.ndarray,
    first_a: np.ndarray,
    counts_a: np.ndarray,
    first_b: np.ndarray,
    counts_b: np.ndarray,
) -> np.ndarray:
    """Return the Jaccard index of pairs of sessions, float64 [n]; 1 for two without a word.

    Args:
        tiles: uint8 [T, 256].
        first_a, counts_a: first tile and tiles of one of each pair, int [n].
        first_b, counts_b: of the other.
    """
    both = np.zeros(len(first_a), np.int64)
    either = np.zeros(len(first_a), np.int64)
    for pairs in consecutive(np.maximum(counts_a, counts_b), _TILES):
        most = np.maximum(counts_a[pairs], counts_b[pairs])
        number = np.repeat(np.arange(len(most)), most)
        packet = np.arange(len(number)) - np.repeat(np.cumsum(most) - most, most)
        a = _tiles_at(tiles, first_a[pairs], counts_a[pairs], number, packet)
        b = _tiles_at(tiles, first_b[pairs], counts_b[pairs], number, packet)
        same = ((a == b) & (a != 0)).sum(1)
        words = ((a != 0).sum(1)) + ((b != 0).sum(1)) - same
        np.add.at(both[pairs], number, same)
        np.add.at(either[pairs], number, words)
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def _tiles_at(
    tiles: np.ndarray, first: np.ndarray, counts: np.ndarray, number: np.ndarray, packet: np.ndarray
) -> np.ndarray:
    """Return words of the packets of some sessions, uint32 [n, 64], 0 where there is no packet."""
    there = packet < counts[number]
    words = np.zeros((len(number), _WORDS), np.uint32)
    words[there] = tiles[(first[number] + packet)[there]].view("<u4")
    return words
