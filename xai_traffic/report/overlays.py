"""Pictures of a session's image under its explanation, in the seed study's style, as RGB arrays.

Nothing here draws text or knows of files; `figures` frames these pictures and labels the grid.
"""

from __future__ import annotations

import matplotlib
import numpy as np
from scipy import ndimage

ALPHA = 0.4
"""Opacity of the Grad-CAM colours, as in the seed."""

CLIP_ABOVE, CLIP_BELOW = 95.0, 28.0
"""Percentage of all positive attribution that the values from the clip on hold; see `clip`."""

REGIONS = 3
"""Regions that are outlined."""


def grey(image: np.ndarray) -> np.ndarray:
    """Return an image uint8 [H, W] as RGB uint8 [H, W, 3]."""
    return np.repeat(np.asarray(image, np.uint8)[..., None], 3, axis=-1)


def unit(values: np.ndarray) -> np.ndarray:
    """Scale values from [0, largest] to [0, 1]; all zero where nothing is positive."""
    values = np.maximum(np.asarray(values, np.float64), 0)
    largest = values.max(initial=0.0)
    return values / largest if largest else values


def heat_overlay(
    image: np.ndarray, heat: np.ndarray, colours: str = "jet", alpha: float = ALPHA
) -> np.ndarray:
    """Lay a heat map float [H, W] over an image in `colours`: RGB uint8 [H, W, 3]."""
    painted = matplotlib.colormaps[colours](unit(heat))[..., :3]
    mixed = (1 - alpha) * grey(image) / 255 + alpha * painted
    return np.rint(255 * mixed).astype(np.uint8)


def attention_overlay(image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Lay attention over an image in inferno, more opaque where it is stronger."""
    strength = unit(weights)
    painted = matplotlib.colormaps["inferno"](strength)[..., :3]
    opacity = (0.45 + 0.4 * strength)[..., None]
    mixed = (1 - opacity) * grey(image) / 255 + opacity * painted
    return np.rint(255 * mixed).astype(np.uint8)


def threshold(values: np.ndarray, percentage: float) -> float:
    """Return the value from which on the largest values hold `100 - percentage` % of the sum.

    Args:
        values: not negative.
        percentage: 0 to 100; 0 returns the smallest positive value.
    """
    ordered = np.sort(np.asarray(values, np.float64).ravel())[::-1]
    if not ordered.size or ordered[0] <= 0:
        return 0.0
    held = 100 * np.cumsum(ordered) / ordered.sum()
    reach = int(np.searchsorted(held, 100 - percentage))
    return float(ordered[min(reach, int(np.count_nonzero(ordered)) - 1)])


def clip(attributions: np.ndarray) -> np.ndarray:
    """Keep what is positive and large, scaled to [0, 1]: PAIR's linear transformation.

    Values that hold the upper 5 % of the positive sum become 1, those below the lower 28 % become
    0, between them it is linear, as the seed showed its Integrated Gradients.
    """
    positive = np.maximum(np.asarray(attributions, np.float64), 0)
    high, low = threshold(positive, CLIP_ABOVE), threshold(positive, CLIP_BELOW)
    if high <= 0:
        return positive
    scaled = np.clip((positive - low) / (high - low), 0, 1) if high > low else positive >= high
    return np.where(positive >= low, np.maximum(scaled, 1e-9), 0.0)


def regions(attributions: np.ndarray, most: int = REGIONS) -> np.ndarray:
    """Return where the strongest regions lie, bool [H, W].

    What `clip` leaves is closed and opened (3 x 3), holes are filled, and the connected regions of
    the largest sums are kept. A picture too sparse for an opening is used as it is.
    """
    kept = clip(attributions)
    square = np.ones((3, 3), bool)
    # Closing at the border would erase it: work within a margin.
    closed = ndimage.binary_closing(np.pad(kept > 0, 2), square)[2:-2, 2:-2]
    opened = ndimage.binary_opening(closed, square)
    mask = ndimage.binary_fill_holes(opened if opened.any() else closed)
    labels, count = ndimage.label(mask, square)
    if not count:
        return mask
    sums = ndimage.sum_labels(kept, labels, np.arange(1, count + 1))
    strongest = 1 + np.argsort(-sums, kind="stable")[:most]
    return np.isin(labels, strongest[sums[strongest - 1] > 0])


def outline_segments(mask: np.ndarray) -> np.ndarray:
    """Return the borders of a mask as line segments, float [n, 2, 2] of (x, y) pixel corners."""
    padded = np.pad(np.asarray(mask, bool), 1)
    ys, xs = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    upright = np.stack([np.stack([xs, ys], -1), np.stack([xs, ys + 1], -1)], 1)
    ys, xs = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    level = np.stack([np.stack([xs, ys], -1), np.stack([xs + 1, ys], -1)], 1)
    return np.concatenate([upright, level]).astype(float)
