"""Probabilities by counting instead of drawing.

Sources: McNemar, Psychometrika 1947; Fisher, "The Design of Experiments", 1935 (paired differences
whose signs are changed); Clopper and Pearson, Biometrika 1934.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, signal, stats

from xai_traffic.evaluation.bootstrap import LOW


def sign_flip(ahead: np.ndarray) -> float:
    """Return the part of all sign changes of integers whose sum is as far from 0 or farther.

    Of integers that are all 1 or -1 that is McNemar's exact test.

    Args:
        ahead: int [n].
    """
    sizes, counts = np.unique(np.abs(ahead[ahead != 0]), return_counts=True)
    chances = np.ones(1)  # of the sums from -total to total
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        own = np.zeros(2 * size * count + 1)
        own[:: 2 * size] = stats.binom.pmf(np.arange(count + 1), count, 0.5)
        chances = signal.convolve(chances, own)
    total = len(chances) // 2
    far = np.abs(np.arange(-total, total + 1)) >= abs(int(ahead.sum()))
    return float(np.clip(chances[far].sum(), 0, 1))


def hidden_rates(units: np.ndarray) -> float:
    """Return the largest mean rate that classes may have of what none of their units shows.

    Of all rates under which nothing is seen with a probability of 2.5 %, the class that has been
    seen least bears most. Of one class the upper end is Clopper and Pearson's.

    Args:
        units: of each class, int [K], at least 1.
    """
    if not len(units):
        return 0.0
    counts = np.asarray(units, np.float64)

    def seen(most: float) -> float:
        return float((counts * np.log(np.minimum(counts / most, 1))).sum() - np.log(LOW))

    # Lagrange: 1 - rate is units / most, but no more than 1.
    least = counts.min()
    most = optimize.brentq(seen, least, least * LOW ** (-1 / least) * (1 + 1e-9))
    return float((1 - np.minimum(counts / most, 1)).mean())
