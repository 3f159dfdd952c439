"""How near the test split lies to the training split, byte by byte.

The distance of two sessions is the part of their bytes that differ (Hamming), over the first
PACKETS packets: differing bytes divided by the bytes of the longer of both, packet by packet.
Padding is zero and differs from other bytes. Near duplicates that straddle a split let a model
score by memory; so does a nearest neighbour, whose accuracy stands beside the distances.
"""

from __future__ import annotations

import numpy as np

from xai_traffic.capture.images import spread
from xai_traffic.capture.records import TILE
from xai_traffic.data.store import Dataset
from xai_traffic.evaluation.field_ranking import Audited
from xai_traffic.evaluation.majority_rule import skill
from xai_traffic.evaluation.score_intervals import Draws
from xai_traffic.terminal import progress

PACKETS = 8
TEST, TRAIN = 2000, 10_000
"""Most sessions of each split that are compared, drawn at random."""

NEAR = (0.0, 0.02, 0.05, 0.1)
"""Distances below which the part of test sessions is told."""

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

_BLOCK = 128  # training sessions compared at once: their bytes stay in the cache
_WORD = 8


def nearest_neighbours(dataset: Dataset, rows: np.ndarray, audited: Audited, seed: int = 0) -> dict:
    """Find the nearest training session of each test session.

    Args:
        rows: int [N], rows of the dataset's table, in the order of `audited`.
        seed: of the sessions drawn where there are more than TEST and TRAIN.

    Returns:
        `test` and `train`, sessions compared; `packets`; `quantiles` of the distance by quantile;
        `within`, part of the test sessions at most so far from training, by distance; `accuracy`
        and `balanced_accuracy` of the nearest neighbour's label, the `intervals` of both (`value`,
        `low`, `high`: 95 %, by units), and its `skill`; and `per_class`, by class: `median`
        distance, `recall`, and its `interval`.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    test = np.sort(rng.permutation(audited.test)[:TEST])
    train = np.sort(rng.permutation(audited.train)[:TRAIN])
    distance, nearest = _nearest(*_bytes(dataset, rows[test]), *_bytes(dataset, rows[train]))
    own, found = audited.labels[test], audited.labels[train[nearest]]
    right = own == found
    present = np.unique(own).tolist()
    recalls = {label: float(right[own == label].mean()) for label in present}
    balanced = float(np.mean(list(recalls.values())))
    units = np.unique(audited.units[test], return_inverse=True)[1]
    draws = Draws(own, units, len(audited.classes), seed)
    ends = draws.recalls(found)
    return {
        "test": len(test),
        "train": len(train),
        "packets": PACKETS,
        "quantiles": {str(q): float(np.quantile(distance, q)) for q in QUANTILES},
        "within": {str(limit): float((distance <= limit).mean()) for limit in NEAR},
        "accuracy": float(right.mean()),
        "balanced_accuracy": balanced,
        "intervals": {
            "accuracy": draws.interval(found)["accuracy"],
            "balanced_accuracy": draws.balanced_accuracy(found),
        },
        "skill": skill(balanced, 1 / len(present)),
        "per_class": {
            audited.classes[label]: {
                "median": float(np.median(distance[own == label])),
                "recall": recalls[label],
                "interval": ends[label],
            }
            for label in present
        },
    }


def _bytes(dataset: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return uint8 [n, PACKETS * 256], lengths of the packets [n, PACKETS], and how many."""
    counts = np.minimum(dataset.tile_counts[rows], PACKETS)
    session, place = spread(counts)
    tiles = dataset.first_tiles[rows][session] + place
    dense = np.zeros((len(rows), PACKETS, TILE), np.uint8)
    dense[session, place] = dataset.tiles[tiles]
    held = np.zeros((len(rows), PACKETS), np.int64)
    held[session, place] = dataset.tile_lengths[tiles]
    return dense.reshape(len(rows), -1), held, counts


def _nearest(
    test: np.ndarray,
    test_held: np.ndarray,
    test_counts: np.ndarray,
    train: np.ndarray,
    train_held: np.ndarray,
    train_counts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distance to the nearest training session, float64 [m], and which it is, int [m].

    Exact. Training sessions are taken in the order of their tiles, so that what is padding in both
    is hardly ever compared.
    """
    order = np.argsort(train_counts, kind="stable")
    blocks = [order[start : start + _BLOCK] for start in range(0, len(order), _BLOCK)]
    held = [(block, np.ascontiguousarray(train[block]), train_held[block]) for block in blocks]
    best, which = np.full(len(test), np.inf), np.zeros(len(test), np.int64)
    for row in progress(range(len(test)), "nearest neighbours"):
        for block, own, sizes in held:
            tiles = max(int(train_counts[block[-1]]), int(test_counts[row]))
            differ = count_different(own[:, : tiles * TILE], test[row, : tiles * TILE])
            parts = differ / np.maximum(np.maximum(sizes, test_held[row]).sum(1), 1)
            at = int(parts.argmin())
            if parts[at] < best[row]:
                best[row], which[row] = parts[at], block[at]
    return best, which


def count_different(many: np.ndarray, one: np.ndarray) -> np.ndarray:
    """Count the bytes in which each row of uint8 [n, w] differs from uint8 [w].

    A multiple of 16 bytes, 255 * 16 at most. The flags of eight bytes are added up as one word,
    whose bytes cannot overflow: several times as fast as a sum of flags.
    """
    differ = np.not_equal(many, one)
    half = differ.shape[1] // (2 * _WORD) * _WORD
    total = np.zeros(len(many), np.int64)
    for part in (differ[:, :half], differ[:, half:]):
        words = np.ascontiguousarray(part).view(np.uint64)
        sums = np.ascontiguousarray(words.sum(1, dtype=np.uint64))
        total += sums.view(np.uint8).reshape(len(many), _WORD).sum(1, dtype=np.int64)
    return total
