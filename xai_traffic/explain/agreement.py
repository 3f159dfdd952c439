"""How far explanations agree: methods with one another, and sessions with one another.

Values that are padding take part in nothing here: two maps that are zero on the same padding would
agree there by construction.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata


def spearman(a, b, keep=None) -> np.ndarray:
    """Return the rank correlation of two explanations of each example, float64 [B].

    Source: Spearman 1904; ties share their mean rank. NaN where one of the two is constant, for
    then no order is there to agree with.

    Args:
        a, b: float [B, ...], signed or not, as they shall be compared.
        keep: bool [B, ...], what is no padding; None for all.

    Raises:
        ValueError: the shapes differ.
    """
    return np.array([_correlation(rankdata(x), rankdata(y)) for x, y in _pairs(a, b, keep)])


def top_k_overlap(a, b, k: int, keep=None) -> np.ndarray:
    """Return which part of the k largest values two explanations have in common, float64 [B].

    By |value|. Where several values tie for the last places each counts in part, so that a map
    without an order (all values equal) overlaps as much as a draw by chance would on average.

    Args:
        a, b, keep: as for `spearman`.
        k: places; examples with fewer values take all they have.

    Raises:
        ValueError: the shapes differ, or k is less than 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}: the top holds at least one value")
    found = []
    for x, y in _pairs(a, b, keep):
        places = min(k, len(x))
        both = _in_top(np.abs(x), places) * _in_top(np.abs(y), places)
        found.append(both.sum() / places if places else np.nan)
    return np.array(found)


def input_dependence(maps, keep=None, apart=None) -> np.ndarray:
    """Return each explanation's mean correlation with those of other examples, float64 [B].

    Near 1 the maps say the same of every input, and so nothing of any: a pair of heat maps that
    was published for two sessions has 0.987. Pearson's correlation over the values that are
    padding in neither of the two. NaN where there is no other one, or none that varies.

    Args:
        maps: float [B, ...], one explanation each, of one target or many.
        keep: bool [B, ...], what is no padding; None for all.
        apart: [B], such as verdicts: only examples that differ in it are compared. Sessions of one
            class may be alike, and their maps with good reason.
    """
    maps = np.asarray(maps, np.float64)
    maps = maps.reshape(len(maps), -1)
    held = np.ones_like(maps) if keep is None else np.asarray(keep, bool).reshape(maps.shape)
    w, x = np.asarray(held, np.float64), np.where(held, maps, 0.0)
    # Sums over what two maps share, for all pairs at once: [B, B] each.
    count, sums, squares, products = w @ w.T, x @ w.T, (x * x) @ w.T, x @ x.T
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = products - sums * sums.T / count
        variance = squares - sums * sums / count
        scale = np.sqrt(np.maximum(variance, 0) * np.maximum(variance.T, 0))
        varies = scale > 1e-12 * np.maximum(np.sqrt(squares * squares.T), 1e-300)
        correlation = np.where(varies, covariance / scale, np.nan)
    names = np.arange(len(maps)) if apart is None else np.asarray(apart)
    counted = np.isfinite(correlation) & (names[:, None] != names)
    total = np.where(counted, correlation, 0.0).sum(1)
    return np.divide(total, counted.sum(1), out=np.full(len(maps), np.nan), where=counted.any(1))


def _pairs(a, b, keep):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or keep is not None and np.shape(keep) != a.shape:
        shapes = [str(np.shape(each)) for each in (a, b, keep) if each is not None]
        raise ValueError(f"explanations that are compared have one shape, not {', '.join(shapes)}")
    held = np.ones(a.shape, bool) if keep is None else np.asarray(keep, bool)
    for x, y, part in zip(a, b, held, strict=True):
        yield x[part], y[part]


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _in_top(sizes: np.ndarray, places: int) -> np.ndarray:
    """Return how far each value is in the top, 0 to 1; the sum is `places`."""
    if not places:
        return np.zeros(len(sizes))
    last = np.partition(sizes, -places)[-places]
    above, ties = sizes > last, sizes == last
    return above + ties * (places - above.sum()) / ties.sum()
