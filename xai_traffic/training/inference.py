"""Judge any number of images by programs of a few shapes, the device always busy."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from xai_traffic.capture.images import filled_tiles
from xai_traffic.data.packing import Packing, find_places, row_length, slots
from xai_traffic.models import Model

DENSE = (8, 64)
"""Images judged at once, few or many; short batches are filled up: two shapes are compiled."""

PACKED = (4, 16, 64)
"""Rows of packed tokens judged at once; three shapes are compiled."""

SESSIONS = 12
"""Sessions that a row holds on average, at most."""

AHEAD = 2
"""Batches that the device has before it when the host waits for one."""


def compile_judge(model: Model) -> Callable:
    """Return the function that `judge_images` calls: of variables, images and packing or None."""
    return jax.jit(model.logits)


def compile_features(model: Model) -> Callable:
    """Return one for `judge_images` that gives the penultimate activations beside the logits."""
    return jax.jit(model.logits_and_features)


def judge_images(judge: Callable, model: Model, variables: Any, images: np.ndarray) -> Any:
    """Return the logits of images uint8 or float [N, 128, 128, 1], float32 [N, K].

    Args:
        judge: of `compile_judge`; of `compile_features`, then (logits, features float32 [N, D])
            are returned.
    """
    if not len(images):
        like = jax.eval_shape(judge, variables, np.zeros((1, 128, 128, 1), np.uint8), None)
        return jax.tree.map(lambda leaf: np.zeros((0, *leaf.shape[1:]), leaf.dtype), like)
    found = []
    running: deque[tuple[Any, int]] = deque()
    for part, packing in _packed(model, images) if model.packs else _dense(images):
        size = packing.head.shape[0] if packing else DENSE[len(images) > DENSE[-1] // 2]
        filled = np.zeros((size, *part.shape[1:]), part.dtype)
        filled[: len(part)] = part
        running.append((judge(variables, filled, packing), len(part)))
        if len(running) > AHEAD:
            found.append(_fetch(*running.popleft()))
    found += [_fetch(*batch) for batch in running]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)


def warm_up(judge: Callable, model: Model, variables: Any) -> None:
    """Compile whatever `judge_images` runs for any number of images."""
    for size in PACKED if model.packs else DENSE:
        judge_images(judge, model, variables, np.full((size, 128, 128, 1), 255, np.uint8))


def _fetch(judged: Any, count: int) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:count], judged)


def _dense(images: np.ndarray) -> Iterator[tuple[np.ndarray, None]]:
    size = DENSE[len(images) > DENSE[-1] // 2]
    for start in range(0, len(images), size):
        yield images[start : start + size], None


def _packed(model: Model, images: np.ndarray) -> Iterator[tuple[np.ndarray, Packing]]:
    """Yield as many images at a time as fit in the rows, and where their tokens stand."""
    length = row_length(model.packets)
    sizes = 1 + filled_tiles(images, model.packets)
    start = 0
    while start < len(images):
        # Where rows would stay empty, fewer: 19 rows' worth go as 16 and 4, not as 64.
        tried = {
            rows: find_places(sizes[start : start + SESSIONS * rows], length, rows)
            for rows in PACKED
        }
        rows = max(tried, key=lambda rows: (len(tried[rows][0]) / rows, rows))
        row, begin = tried[rows]
        count = len(row)
        packing = slots(row, begin, sizes[start : start + count], rows, length)
        head = np.zeros(SESSIONS * rows, np.int32)
        head[:count] = packing.head
        yield images[start : start + count], packing._replace(head=head)
        start += count
