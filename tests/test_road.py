"""ROAD: imputation by hand and by a dense solver, cells that are no neighbours, and its gain."""

import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain
from xai_traffic.explain.road import impute, neighbour_weights

RNG = np.random.default_rng(2)
X = RNG.random((6, 12, 12, 1)).astype("f4")
W = np.zeros((144, 2), "f4")
W[:, 0] = RNG.normal(size=144)


def linear(params, x):
    return x.reshape(len(x), -1) @ params


def oracle(x):
    """What each pixel adds to the logit, above the mean: removing it foretells about the mean."""
    return (x[..., 0] - x.mean((1, 2, 3))[:, None, None]) * W[:, 0].reshape(12, 12)


def dense(values, removed, cells):
    """Solve the same system without sparse matrices, pixel by pixel."""
    height, width = cells.shape
    places = {pixel: place for place, pixel in enumerate(removed)}
    matrix, right = np.zeros((len(removed), len(removed))), np.zeros(len(removed))
    for pixel, place in places.items():
        y, x = divmod(pixel, width)
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                v, u = y + down, x + across
                if (v, u) == (y, x) or not (0 <= v < height and 0 <= u < width):
                    continue
                if cells[v, u] != cells[y, x]:
                    continue
                weight = 1 / 12 if down and across else 1 / 6
                matrix[place, place] += weight
                if v * width + u in places:
                    matrix[place, places[v * width + u]] -= weight
                else:
                    right[place] += weight * values[v * width + u]
    return np.linalg.solve(matrix, right)


@pytest.mark.parametrize("parts", [1, 2])
def test_imputation_solves_the_papers_system(parts):
    cells = np.repeat(np.arange(parts), 144 // parts).reshape(12, 12)
    values, removed = np.float64(X[0]).reshape(-1), RNG.permutation(144)[:70]
    found = impute(values[:, None], removed, neighbour_weights(cells))
    np.testing.assert_allclose(found[:, 0], dense(values, removed, cells), rtol=1e-9)


def test_one_pixel_is_the_weighted_mean_of_its_neighbours():
    values = np.arange(9.0)[:, None] ** 2
    inner = impute(values, np.array([4]), neighbour_weights(np.zeros((3, 3), int)))
    np.testing.assert_allclose(inner, [[(1 + 9 + 25 + 49) / 6 + (0 + 4 + 36 + 64) / 12]])
    corner = impute(values, np.array([0]), neighbour_weights(np.zeros((3, 3), int)))
    np.testing.assert_allclose(corner, [[(1 / 6 + 9 / 6 + 16 / 12) / (5 / 12)]])


def test_what_no_neighbour_foretells_gets_the_mean_of_what_is_left():
    cells = np.repeat([[0, 0, 1, 1, -1, -1]], 4, axis=0)
    values = np.where(cells < 0, 99.0, cells + 1.0).reshape(-1, 1)
    removed = np.flatnonzero(cells == 1)
    found = impute(values, removed, neighbour_weights(cells))
    # Cell 0 is left, whose values are 1; padding is not looked at.
    np.testing.assert_allclose(found, 1.0)


def test_an_oracle_gains_and_shuffled_scores_do_not():
    scores = oracle(X)
    good = explain.road(linear, W, X, scores, 0)
    assert (good.most_first < good.least_first).all()
    assert good.gain().min() > 0
    np.testing.assert_allclose(good.start, linear(W, X)[:, 0], rtol=1e-5)
    reverse = explain.road(linear, W, X, -scores, 0, noise=0.0)
    straight = explain.road(linear, W, X, scores, 0, noise=0.0)
    # Removing the lowest of the one is removing the highest of the other.
    np.testing.assert_allclose(reverse.most_first, straight.least_first, atol=1e-5)
    mixed = RNG.permuted(scores.reshape(6, -1), axis=1).reshape(scores.shape)
    assert explain.road(linear, W, X, mixed, 0).gain().mean() < 0.3 * good.gain().mean()


def test_accuracy_counts_the_verdicts_that_hold():
    params = np.stack([W[:, 0], W[:, 0] * 0], 1)
    found = explain.road(linear, params, X, oracle(X), 0, shares=(0.1, 0.5))
    most, least = found.accuracy()
    np.testing.assert_allclose(most, (found.most_first > 0).mean(0))
    np.testing.assert_allclose(least, (found.least_first > 0).mean(0))


def test_padding_and_memory_change_nothing():
    cells = np.repeat(np.arange(4), 36).reshape(4, 6, 6)
    cells = np.block([[cells[0], cells[1]], [cells[2], cells[3]]])
    options = {"shares": (0.2, 0.6), "noise": 0.05}
    plain = explain.road(linear, W, X, oracle(X), 0, cells=cells, **options)
    wide, large = RNG.random((6, 20, 16, 1)).astype("f4"), np.zeros((20, 16, 2), "f4")
    wide[:, :12, :12], large[:12, :12] = X, W.reshape(12, 12, 2)
    held = np.full((20, 16, 1), -1)
    held[:12, :12, 0] = cells
    wide[:, 12:] = wide[:, :, 12:] = 0.5  # within the range that the noise is a part of
    scores = RNG.normal(size=(6, 20, 16)) * 9
    scores[:, :12, :12] = oracle(X)
    for budget in (None, 6000):
        found = explain.road(
            *(linear, large.reshape(-1, 2), wide, scores, 0),
            cells=held,
            memory_budget=budget,
            **options,
        )
        np.testing.assert_allclose(found.most_first, plain.most_first, atol=1e-4)
        np.testing.assert_allclose(found.least_first, plain.least_first, atol=1e-4)


def test_a_session_without_bytes_stays_as_it_is():
    cells = np.full((6, 12, 12), -1)
    cells[0] = 0
    found = explain.road(linear, W, X, oracle(X), 0, cells=cells)
    np.testing.assert_allclose(found.most_first[1:], found.start[1:, None] + np.zeros(7), rtol=1e-5)
    assert np.abs(found.most_first[0] - found.start[0]).min() > 1e-3


def test_channels_of_a_pixel_go_together():
    x = np.concatenate([X, 2 * X], -1)
    params = np.repeat(W, 2, 0)
    single = explain.road(lambda p, v: linear(p, v[..., :1]) * 3, W, X, oracle(X), 0, noise=0.0)
    double = explain.road(linear, params, x, oracle(X), 0, noise=0.0)
    np.testing.assert_allclose(double.most_first, single.most_first, rtol=1e-4, atol=1e-4)


def test_wrong_wishes_are_explained():
    with pytest.raises(ValueError, match="one score for each pixel"):
        explain.road(linear, W, X, oracle(X)[:, :3], 0)
    with pytest.raises(ValueError, match="shares"):
        explain.road(linear, W, X, oracle(X), 0, shares=(0.5, 1.0))
    with pytest.raises(ValueError, match="cells must be integers"):
        explain.road(linear, W, X, oracle(X), 0, cells=np.zeros((3, 3), int))
    assert jnp.isfinite(explain.road(linear, W, X, oracle(X), 0).gain()).all()
