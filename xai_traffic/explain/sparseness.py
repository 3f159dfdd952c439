"""How few values an explanation rests on."""

from __future__ import annotations

import numpy as np


def gini(maps, keep=None) -> np.ndarray:
    """Return the Gini index of |attribution| of each example, float64 [B].

    0: all values weigh alike; near 1: one value carries everything. Source: Hurley and Rickard,
    Comparing Measures of Sparsity, 2009; used of explanations by Chalasani et al., 2020. NaN where
    nothing is attributed at all.

    Args:
        maps: float [B, ...].
        keep: bool [B, ...], what is no padding; None for all. Padding would make every map of a
            short session look sparse.
    """
    maps = np.abs(np.asarray(maps, np.float64))
    held = np.ones(maps.shape, bool) if keep is None else np.asarray(keep, bool)
    found = []
    for values, part in zip(maps, held, strict=True):
        ordered = np.sort(values[part])
        total, count = ordered.sum(), len(ordered)
        if not total:
            found.append(np.nan)
            continue
        places = np.arange(1, count + 1)
        found.append(1 - 2 * np.sum(ordered / total * (count - places + 0.5) / count))
    return np.array(found)
