"""Find sessions that are the same image: removed within a label, reported across labels.

Two sessions are the same when their masked tiles are, byte for byte and in number. What is
compared is a 128-bit BLAKE2b, which no accident and no attacker brings to collide in practice.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np

DIGEST = 16
"""Bytes of a content hash."""


def content_hash(tiles: np.ndarray) -> str:
    """Return the name of a session's image: BLAKE2b-128 over the tile count and the bytes, in hex.

    Args:
        tiles: uint8 [n, 256], masked, in packet order.
    """
    digest = hashlib.blake2b(len(tiles).to_bytes(8, "little"), digest_size=DIGEST)
    digest.update(np.ascontiguousarray(tiles))
    return digest.hexdigest()


def content_digests(tiles: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the content hashes, uint8 [N, 16], of sessions whose tiles lie one behind the other.

    Args:
        tiles: uint8 [T, 256].
        counts: int [N], tiles of each session, T in all.
    """
    data = memoryview(np.ascontiguousarray(tiles).reshape(-1))
    width = tiles.shape[1]
    digests = bytearray()
    begun = {
        count: hashlib.blake2b(count.to_bytes(8, "little"), digest_size=DIGEST)
        for count in set(counts.tolist())
    }
    start = 0
    for count in counts.tolist():
        digest = begun[count].copy()
        end = start + count * width
        digest.update(data[start:end])
        digests += digest.digest()
        start = end
    return np.frombuffer(bytes(digests), np.uint8).reshape(-1, DIGEST)


def hex_names(digests: np.ndarray) -> list[str]:
    """Return content hashes, uint8 [N, 16], as `content_hash` writes them."""
    text, size = digests.tobytes().hex(), 2 * DIGEST
    return [text[start : start + size] for start in range(0, len(text), size)]


class Seen:
    """Remember which image each label has had, across captures, in 16 bytes an image."""

    def __init__(self) -> None:
        self._of_label: dict[str, _Images] = {}

    def keep(self, labels: np.ndarray, digests: np.ndarray) -> np.ndarray:
        """Return bool [N], False for a session whose label already had its image (first kept).

        Args:
            labels: object [N].
            digests: uint8 [N, 16].
        """
        kept = np.zeros(len(labels), bool)
        for label in set(labels.tolist()):
            rows = np.flatnonzero(labels == label)
            images = self._of_label.setdefault(label, _Images())
            kept[rows] = images.add(*words(digests[rows]))
        return kept

    def conflicts(self) -> list[dict]:
        """Return what `label_conflicts` does of the images so far."""
        runs = [
            (label, *run)
            for label, images in enumerate(self._of_label.values())
            for run in images.runs
        ]
        if not runs:
            return []
        labels, high, low = zip(*runs, strict=True)
        labels = np.repeat(labels, [len(each) for each in high])
        pairs = shared_images(
            list(self._of_label), labels, np.concatenate(high), np.concatenate(low)
        )
        return ranked(pairs)


class _Images:
    """A set of digests in sorted runs, of which each is more than twice as long as the next."""

    def __init__(self) -> None:
        self.runs: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, high: np.ndarray, low: np.ndarray) -> np.ndarray:
        """Add digests, uint64 [N] twice; return bool [N], True for the first of each new one."""
        order = np.lexsort((low, high))  # stable: of equal ones the first comes first
        high, low = high[order], low[order]
        new = np.ones(len(order), bool)
        new[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        for run in self.runs:
            new &= ~_found(run, high, low)
        if new.any():
            self.runs.append((high[new], low[new]))
        while len(self.runs) > 1 and len(self.runs[-2][0]) <= 2 * len(self.runs[-1][0]):
            high, low = (np.concatenate(pair) for pair in zip(*self.runs[-2:], strict=True))
            merged = np.lexsort((low, high))
            self.runs[-2:] = [(high[merged], low[merged])]
        first = np.empty(len(order), bool)
        first[order] = new
        return first


def words(digests: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return digests, uint8 [N, 16], as two words of their bits: uint64 [N] twice."""
    both = np.ascontiguousarray(digests).view(np.uint64)
    return both[:, 0], both[:, 1]


def _found(run: tuple[np.ndarray, np.ndarray], high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Return bool [N]: which digests are in a sorted run."""
    place = np.searchsorted(run[0], high)
    found = np.zeros(len(high), bool)
    looking = np.arange(len(high))
    while len(looking):
        looking = looking[place[looking] < len(run[0])]
        looking = looking[run[0][place[looking]] == high[looking]]
        found[looking] = run[1][place[looking]] == low[looking]
        looking = looking[~found[looking]]
        place[looking] += 1
    return found


def label_conflicts(names: Sequence[str], labels: np.ndarray, digests: np.ndarray) -> list[dict]:
    """Count the distinct images that two labels share, for each pair, most first.

    An image under three labels counts in three pairs.

    Args:
        names: of the labels.
        labels: int [N] into `names`.
        digests: uint8 [N, 16].

    Returns:
        dicts `a`, `b` (labels, a < b) and `images`.
    """
    return ranked(shared_images(names, labels, *words(digests)))


def shared_images(
    names: Sequence[str], labels: np.ndarray, high: np.ndarray, low: np.ndarray
) -> Counter[tuple[str, str]]:
    """Do as `label_conflicts`, of digests uint64 [N] twice; counts of separate digests add up."""
    pairs: Counter[tuple[str, str]] = Counter()
    if not len(labels):
        return pairs
    order = np.lexsort((labels, low, high))
    high, low, labels = high[order], low[order], labels[order]
    same = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
    image = np.cumsum(np.append(True, ~same))
    shared = np.flatnonzero(np.append(same, False) | np.append(False, same))
    members = zip(image[shared].tolist(), labels[shared].tolist(), strict=True)
    for _, of_image in itertools.groupby(members, key=lambda member: member[0]):
        under = sorted({names[label] for _, label in of_image})
        pairs.update(itertools.combinations(under, 2))
    return pairs


def ranked(pairs: Counter[tuple[str, str]]) -> list[dict]:
    """Return the counts of `shared_images` as `label_conflicts` does."""
    order = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [{"a": a, "b": b, "images": images} for (a, b), images in order]
