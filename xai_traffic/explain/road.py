"""ROAD: does the logit fall when pixels are replaced by what their neighbours foretell.

Source: Rong et al., A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML
2022. Pixels set to a constant betray by their shape where they were; imputed ones do not.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from xai_traffic.explain.model_function import (
    ModelFunction,
    as_float,
    compiled,
    examples_at_once,
    logits_of,
    resolve_target,
)

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9)
"""Parts of the pixels that are removed."""

NEIGHBOURS = (((0, 1), 1 / 6), ((1, 0), 1 / 6), ((1, 1), 1 / 12), ((1, -1), 1 / 12))
"""Half of the eight neighbours, (down, right), and their weights; the others mirror them."""


@dataclasses.dataclass(frozen=True)
class Road:
    """The target's logit without the pixels that an explanation ranks highest, or lowest.

    Args:
        start: float64 [B], the logit at x.
        most_first: float64 [B, shares], the highest scores removed (MoRF).
        least_first: float64 [B, shares], the lowest removed (LeRF).
        held_most, held_least: bool [B, shares], whether the target's logit is still the highest.
    """

    start: np.ndarray
    most_first: np.ndarray
    least_first: np.ndarray
    held_most: np.ndarray
    held_least: np.ndarray

    def gain(self) -> np.ndarray:
        """Return the mean over shares of LeRF less MoRF, float64 [B], in logits; chance is 0."""
        return (self.least_first - self.most_first).mean(1)

    def accuracy(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the part of examples that keep the target's verdict, MoRF and LeRF [shares]."""
        return self.held_most.mean(0), self.held_least.mean(0)


def road(
    f: ModelFunction,
    params,
    x,
    scores,
    target=None,
    *,
    shares: Sequence[float] = SHARES,
    cells=None,
    noise: float = 0.01,
    seed: int = 0,
    memory_budget: int | None = None,
) -> Road:
    """Replace pixels in the order of their scores by noisy linear imputation.

    Logits, as of the other metrics, since an accuracy moves in steps of one example and a sure
    model's not at all; the paper's accuracy comes with them for nothing.

    Args:
        f, params, target: as for `gradient`.
        x: images [B, H, W, C] or [B, H, W] in the model's own scale.
        scores: float [B, H, W], what the explanation gives each pixel, signed.
        shares: above 0 and below 1, of an example's own pixels, rounded down.
        cells: int [H, W] or [B, H, W], a last axis of 1 allowed: which cell a pixel lies in, such
            as the packets of `packet_groups`. Pixels of two cells are no neighbours, and -1 is
            padding: never removed, nobody's neighbour. None takes the whole image for one cell,
            the paper's own form.
        noise: standard deviation of what is added to imputed values, as part of max(x) - min(x) of
            the example.
        seed: of the noise; that of a pixel depends on its place among its example's own pixels.
        memory_budget: bytes that one call may take, see `examples_at_once`.

    Raises:
        ValueError: shapes, shares or noise are not as above, or see `resolve_target`.
    """
    x = as_float(x)
    if x.ndim not in (3, 4) or np.shape(scores) != x.shape[:3]:
        raise ValueError(
            f"x {x.shape} and scores {np.shape(scores)}: need images and one score for each pixel"
        )
    if not len(shares) or any(not 0 < share < 1 for share in shares) or noise < 0:
        raise ValueError(f"shares {list(shares)} must be in (0, 1), and noise {noise} at least 0")
    at_once = examples_at_once(f, params, x, memory_budget)
    target = np.asarray(resolve_target(f, params, x, target, at_once))
    images = np.asarray(x).reshape(len(x), x.shape[1] * x.shape[2], -1)
    cells = _cells(cells, x.shape[:3])
    made = _imputed(
        images, np.asarray(scores, np.float64), cells, x.shape[1:3], shares, noise, seed
    )
    call, parts = compiled(logits_of, f), []
    total = len(x) * (2 * len(shares) + 1)
    size = min(at_once, total)
    for first in range(0, total, size):
        # Imputing the next piece and computing this one overlap: calls return before they are done.
        piece = [next(made) for _ in range(min(size, total - first))]
        piece += piece[:1] * (size - len(piece))
        parts.append(call(params, np.stack(piece).reshape(size, *x.shape[1:])))
    logits = np.concatenate([np.asarray(part, np.float64) for part in parts])[:total]
    logits = logits.reshape(len(x), 2 * len(shares) + 1, -1)
    own = np.take_along_axis(logits, target[:, None, None], 2)[..., 0]
    held, middle = logits.argmax(2) == target[:, None], 1 + len(shares)
    return Road(own[:, 0], own[:, 1:middle], own[:, middle:], held[:, 1:middle], held[:, middle:])


def impute(values: np.ndarray, removed: np.ndarray, weights: sparse.csr_array) -> np.ndarray:
    """Return what neighbours foretell of removed pixels: float64 [removed, C].

    Each is the weighted mean of its neighbours, removed ones included: a sparse linear system.
    Those from which no way over removed pixels leads to one that is left get the mean of all that
    are left, in cells or not.

    Args:
        values: float [pixels, C].
        removed: int [removed], pixels.
        weights: [pixels, pixels], symmetric, of `neighbour_weights`.
    """
    left = np.ones(len(values), bool)
    left[removed] = False
    degrees = weights.sum(1)
    left &= degrees > 0
    inner = weights[removed][:, removed]
    known = weights[removed] @ np.where(left[:, None], values, 0.0)
    anchored = weights[removed] @ left.astype(float) > 0
    _, parts = connected_components(inner, directed=False)
    reached = np.isin(parts, parts[anchored])
    fallback = values[left].mean(0) if left.any() else np.zeros(values.shape[1])
    result = np.broadcast_to(fallback, known.shape).copy()
    if reached.any():
        matrix = sparse.diags_array(degrees[removed][reached]) - inner[reached][:, reached]
        # Symmetric and positive: pivots on the diagonal keep the factors sparse.
        solver = splu(
            sparse.csc_array(matrix),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        result[reached] = solver.solve(known[reached])
    return result


def neighbour_weights(cells: np.ndarray) -> sparse.csr_array:
    """Return the weights of the neighbours within each cell, [H * W, H * W] for cells [H, W]."""
    height, width = cells.shape
    places = np.arange(cells.size).reshape(cells.shape)
    rows, columns, weights = [], [], []
    for (down, right), weight in NEIGHBOURS:
        here = np.s_[: height - down, max(0, -right) : width - max(0, right)]
        there = np.s_[down:, max(0, right) : width + min(0, right)]
        joined = (cells[here] == cells[there]) & (cells[here] >= 0)
        rows.append(places[here][joined])
        columns.append(places[there][joined])
        weights.append(np.full(joined.sum(), weight))
    one_way = (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns)))
    half = sparse.csr_array(one_way, shape=(cells.size, cells.size))
    return sparse.csr_array(half + half.T)


def _imputed(images, scores, cells, shape, shares, noise, seed):
    """Yield for each example itself, then MoRF and LeRF at all shares: float32 [pixels, C]."""
    before, weights = None, None
    for image, score, cell in zip(images, scores, cells, strict=True):
        if before is None or not np.array_equal(cell, before):
            before, weights = cell, neighbour_weights(cell.reshape(shape))
        own = np.flatnonzero(cell >= 0)
        order = own[np.argsort(-score.reshape(-1)[own], kind="stable")]
        shaken = np.zeros(image.shape)
        drawn = np.random.Generator(np.random.Philox(seed)).normal(size=(len(own), image.shape[1]))
        shaken[own] = drawn * noise * np.ptp(image)
        yield image
        for way in (order, order[::-1]):
            for share in shares:
                gone = way[: int(share * len(own) + 1e-9)]
                result = image.copy()
                if len(gone):
                    result[gone] = impute(np.float64(image), gone, weights) + shaken[gone]
                yield result


def _cells(cells, shape: tuple[int, int, int]) -> np.ndarray:
    """Return cells as int [B, pixels]."""
    if cells is None:
        return np.zeros((shape[0], shape[1] * shape[2]), np.int8)
    cells = np.asarray(cells)
    bare = cells[..., 0] if cells.shape[-1] == 1 and cells.ndim > 2 else cells
    if not np.issubdtype(bare.dtype, np.integer) or bare.shape not in (shape, shape[1:]):
        raise ValueError(
            f"cells must be integers [H, W] or [B, H, W] of x's {shape}, and are {cells.dtype} "
            f"{cells.shape}"
        )
    return np.broadcast_to(bare, shape).reshape(shape[0], -1)
