"""Find sessions that are the same image: removed within a label, reported across labels.

Two sessions are the same when their masked tiles are, byte for byte and in number. What is
compared is a 128-bit BLAKE2b, which no accident and no attacker brings to collide in practice.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable

import numpy as np


def content_hash(tiles: np.ndarray) -> str:
    """Return the name of a session's image: BLAKE2b-128 over the tile count and the bytes, in hex.

    Args:
        tiles: uint8 [n, 256], masked, in packet order.
    """
    digest = hashlib.blake2b(len(tiles).to_bytes(8, "little"), digest_size=16)
    digest.update(np.ascontiguousarray(tiles))
    return digest.hexdigest()


def content_hashes(tiles: np.ndarray, counts: np.ndarray) -> list[str]:
    """Return the content hash of each of the sessions whose tiles lie one behind the other.

    Args:
        tiles: uint8 [T, 256].
        counts: int [N], tiles of each session, T in all.
    """
    ends = np.cumsum(counts, dtype=np.int64).tolist()
    return (
        [content_hash(tiles[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        if ends
        else []
    )


class Seen:
    """Remember which image each label has had, across captures."""

    def __init__(self) -> None:
        self._images: set[tuple[str, str]] = set()

    def keep(self, labels: Iterable[str], hashes: Iterable[str]) -> np.ndarray:
        """Return bool [N], False for a session whose label already had its image (first kept)."""
        kept = []
        for image in zip(labels, hashes, strict=True):
            kept.append(image not in self._images)
            self._images.add(image)
        return np.asarray(kept, bool)


def label_conflicts(labels: Iterable[str], hashes: Iterable[str]) -> list[dict]:
    """Count the distinct images that two labels share, for each pair, most first.

    An image under three labels counts in three pairs.

    Returns:
        dicts `a`, `b` (labels, a < b) and `images`.
    """
    of_image: dict[str, set[str]] = {}
    for label, image in zip(labels, hashes, strict=True):
        of_image.setdefault(image, set()).add(label)
    pairs = Counter(
        pair
        for shared in of_image.values()
        if len(shared) > 1
        for pair in itertools.combinations(sorted(shared), 2)
    )
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return [{"a": a, "b": b, "images": images} for (a, b), images in ranked]
