"""The small networks and sessions that the comparison with Quantus shares; NumPy alone."""

from __future__ import annotations

import numpy as np

SIZES = {
    "tiny": ((8, 5, 4), (16, 3, 2)),
    "small": ((16, 3, 2), (32, 3, 2), (64, 3, 2)),
}
"""Convolutions (channels, kernel, stride), each with a ReLU; then mean over places, then logits."""

CLASSES, SIDE, TARGET = 20, 128, 3
STEP = 64
"""Pixels that go in one step of a deletion curve: 256 steps an image."""

RUNS, SUBSET = 100, 224
"""Subsets of the faithfulness correlation and pixels in each: the defaults of Quantus."""

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
"""Parts of the pixels that ROAD removes."""

METRICS = ("forward", "deletion", "correlation", "road")


def weights(size: str, seed: int) -> list[np.ndarray]:
    """Return the kernels [height, width, in, out] and the head's matrix, float32."""
    rng, channels, made = np.random.default_rng(seed), 1, []
    for width, kernel, _ in SIZES[size]:
        shape = (kernel, kernel, channels, width)
        made.append(rng.normal(scale=np.prod(shape[:3]) ** -0.5, size=shape).astype(np.float32))
        channels = width
    return [*made, rng.normal(size=(channels, CLASSES)).astype(np.float32)]


def sessions(batch: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images [B, 128, 128] of 0 to 1, of full sessions, and attributions of their shape."""
    rng = np.random.default_rng([seed, batch])
    images = rng.integers(0, 256, (batch, SIDE, SIDE)) / np.float32(255)
    return images.astype(np.float32), rng.normal(size=images.shape).astype(np.float32)


def evaluations(metric: str, batch: int) -> int:
    """Return how many images Quantus judges for a metric of so many sessions."""
    steps = {"forward": 1, "deletion": SIDE * SIDE // STEP, "correlation": RUNS + 1}
    return batch * steps.get(metric, len(SHARES))
