"""Deletion and insertion curves on a linear function, where the best order is known."""

import numpy as np
import pytest

from xai_traffic import explain

WEIGHTS = np.array([[3.0, 0], [1.0, 0], [-2.0, 0], [0.5, 0]], np.float32)
X = np.ones((2, 4), np.float32)
GROUPS = np.array([[0, 1, 2, 3], [0, -1, -1, -1]])


def linear(params, x):
    return x @ params


def test_curves_are_the_sums_by_hand():
    scores = np.tile(WEIGHTS[:, 0], (2, 1))
    found = explain.deletion_curves(linear, WEIGHTS, X, GROUPS, scores, 0)
    np.testing.assert_allclose(found.deletion[0], [2.5, -0.5, -1.5, -2, 0], atol=1e-6)
    np.testing.assert_allclose(found.insertion[0], [0, 3, 4, 4.5, 2.5], atol=1e-6)
    np.testing.assert_allclose(found.deletion[1], [2.5, -0.5], atol=1e-6)
    assert found.random_deletion[0].shape == found.random_insertion[0].shape == (10, 5)
    np.testing.assert_allclose(found.random_deletion[0][:, [0, -1]], [[2.5, 0]] * 10, atol=1e-6)
    pieces = explain.deletion_curves(linear, WEIGHTS, X, GROUPS, scores, 0, memory_budget=1)
    np.testing.assert_allclose(found.gain(), pieces.gain(), atol=1e-6)


def test_good_orders_gain_and_bad_ones_lose():
    scores = np.tile(WEIGHTS[:, 0], (2, 1))
    gain = explain.deletion_curves(linear, WEIGHTS, X, GROUPS, scores, 0, draws=30).gain()
    loss = explain.deletion_curves(linear, WEIGHTS, X, GROUPS, -scores, 0, draws=30).gain()
    assert gain[0] > 0 > loss[0]
    # With one player there is but one order.
    assert gain[1] == loss[1] == 0


def test_scores_must_fit():
    with pytest.raises(ValueError, match="draws and scores"):
        explain.deletion_curves(linear, WEIGHTS, X, GROUPS, WEIGHTS[:, 0])


def test_steps_are_points_of_the_whole_curve():
    rng = np.random.default_rng(0)
    x, weights = rng.random((3, 40)).astype("f4"), rng.normal(size=(40, 2)).astype("f4")
    scores, groups = x * weights[:, 0], np.tile(np.arange(40), (3, 1))
    groups[2, 25:] = -1
    whole = explain.pixel_flipping(linear, weights, x, groups, scores, 0)
    steps = explain.pixel_flipping(linear, weights, x, groups, scores, 0, steps=5)
    np.testing.assert_allclose(steps[0], whole[0][::8], atol=1e-5)
    np.testing.assert_allclose(steps[2], whole[2][::5], atol=1e-5)
    found = explain.deletion_curves(linear, weights, x, groups, scores, 0, steps=5, draws=2)
    np.testing.assert_allclose(found.places[2], np.linspace(0, 1, 6))
    for row in range(3):
        np.testing.assert_allclose(found.deletion[row], steps[row], atol=1e-5)
    assert (found.gain() > 0).all()
    # Evenly as far as it goes: ten players in four steps.
    odd = explain.deletion_curves(linear, weights, x, groups // 4, scores[:, :10], 0, steps=4)
    np.testing.assert_allclose(odd.places[0], [0, 0.2, 0.5, 0.8, 1])


def test_flipping_leaves_padding_and_others_alone():
    scores = np.tile(WEIGHTS[:, 0], (2, 1))
    found = explain.pixel_flipping(linear, WEIGHTS, X, GROUPS, scores, 0)
    np.testing.assert_allclose(found[0], [2.5, -0.5, -1.5, -2, 0], atol=1e-6)
    np.testing.assert_allclose(found[1], [2.5, -0.5], atol=1e-6)
    pieces = explain.pixel_flipping(linear, WEIGHTS, X, GROUPS, scores, 0, memory_budget=1)
    np.testing.assert_allclose(found[0], pieces[0], atol=1e-6)
    with pytest.raises(ValueError, match="steps"):
        explain.pixel_flipping(linear, WEIGHTS, X, GROUPS, scores, 0, steps=0)


def test_removed_logits_are_those_of_masks():
    rng = np.random.default_rng(1)
    orders = [rng.permutation(4)[None].repeat(2, 0), np.array([[0]])]
    orders[0][1] = orders[0][1][::-1]
    counts = [np.array([[0, 1, 3], [4, 2, 0]]), np.array([[1, 0]])]
    found = explain.removed_logits(linear, WEIGHTS, X, GROUPS, orders, counts, baseline=0.5)
    for row in range(2):
        for order, count, values in zip(orders[row], counts[row], found[row], strict=True):
            masks = np.ones((len(count), 4), bool)
            for mask, gone in zip(masks, count, strict=True):
                mask[order[:gone]] = False
            expected = explain.masked_logits(linear, WEIGHTS, X, GROUPS, masks, baseline=0.5)
            np.testing.assert_allclose(values, expected[row], atol=1e-6)
    with pytest.raises(ValueError, match="as many arrays"):
        explain.removed_logits(linear, WEIGHTS, X, GROUPS, orders[:1], counts)
