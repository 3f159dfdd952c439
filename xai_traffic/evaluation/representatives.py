"""The sessions that a class of verdicts is best shown by, and those that are like none of them.

Two sessions are as far apart as the part of their shares that would have to move from field to
field to make them equal: half the sum of the absolute differences, 0 (the same fields to the same
part) to 1 (no field in common).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import sparse
from scipy.spatial.distance import cdist

COMPARED = 1000
"""Sessions, drawn at random where there are more, among which the typical ones are sought."""

_AT_ONCE = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class Representatives:
    """Typical and atypical rows among n.

    Args:
        typical: rows, the one that stands for most first.
        stand_for: of each, the part of all rows that is nearer to it than to the others.
        spread: of each, the mean distance of those rows to it.
        atypical: rows, the farthest from every typical one first.
        distances: of each atypical row to its nearest typical one.
    """

    typical: np.ndarray
    stand_for: np.ndarray
    spread: np.ndarray
    atypical: np.ndarray
    distances: np.ndarray


def representatives(
    shares: sparse.csr_array, most: int = 3, seed: int = 0, compared: int = COMPARED
) -> Representatives:
    """Choose typical rows as medoids one by one, and atypical ones by their distance to those.

    The first medoid is the row of the least distance to all; each next one is the row that brings
    the rows nearest to a medoid, until that gains nothing. Source: the building phase of PAM,
    Kaufman and Rousseeuw, Finding Groups in Data, 1990, ch. 2.

    Args:
        shares: float [n, F], rows that sum to 1; n at least 1.
        most: typical rows, and atypical ones, at most.
        seed: of the draw of `compared` rows.
    """
    count = shares.shape[0]
    rng = np.random.Generator(np.random.Philox(seed))
    pool = np.sort(rng.permutation(count)[:compared])
    among = distances(shares[pool], shares[pool])
    nearest = np.full(len(pool), np.inf)
    chosen: list[int] = []
    for _ in range(most):
        sums = np.minimum(among, nearest).sum(axis=1)
        best = int(sums.argmin())
        if chosen and nearest.sum() - sums[best] < 1e-6 * len(pool):
            break
        chosen.append(best)
        nearest = np.minimum(nearest, among[best])
    typical = pool[chosen]
    to_typical = distances(shares, shares[typical])
    own, distance = to_typical.argmin(axis=1), to_typical.min(axis=1)
    own[typical] = np.arange(len(typical))
    members = [distance[own == number] for number in range(len(typical))]
    ranked = sorted(range(len(typical)), key=lambda number: -len(members[number]))
    far = np.argsort(-distance, kind="stable")[:most]
    far = far[distance[far] > 1e-6]
    return Representatives(
        typical=typical[ranked],
        stand_for=np.array([len(members[number]) / count for number in ranked]),
        spread=np.array([members[number].mean() for number in ranked]),
        atypical=far,
        distances=distance[far],
    )


def distances(first: sparse.csr_array, second: sparse.csr_array) -> np.ndarray:
    """Return how far rows are apart, float64 [n, m] from 0 to 1, see above; in bounded memory.

    Args:
        first, second: float [n, F] and [m, F], rows that sum to 1.
    """
    dense = second.toarray()
    parts = [
        cdist(first[start : start + _AT_ONCE].toarray(), dense, "cityblock") / 2
        for start in range(0, first.shape[0], _AT_ONCE)
    ]
    return np.concatenate(parts)
