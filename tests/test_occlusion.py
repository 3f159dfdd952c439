"""Occlusion on games with known values."""

import games
import numpy as np

from xai_traffic import explain


def test_it_is_the_fall_when_one_is_left_out():
    table = games.random_table(5)
    x = np.ones((2, 5), np.float32)
    found = explain.occlusion(games.table_game, table, x, np.arange(5), np.array([1, 2]))
    for row, target in enumerate((1, 2)):
        expected = [table[31, target] - table[31 ^ 1 << i, target] for i in range(5)]
        np.testing.assert_allclose(found[row], expected, atol=1e-6)


def test_linear_models_are_exact_and_pieces_are_the_whole():
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(9, 2)).astype(np.float32), rng.normal(size=(4, 9)).astype(np.float32)
    groups = np.array([0, 0, 1, 1, 1, 2, 3, -1, -1])
    linear = lambda params, x: x @ params  # noqa: E731
    found = explain.occlusion(linear, w, x, groups, 0, baseline=0.5)
    parts = (x - 0.5) * w[:, 0]
    expected = np.stack([parts[:, groups == player].sum(1) for player in range(4)], 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    pieces = explain.occlusion(linear, w, x, groups, 0, baseline=0.5, memory_budget=1)
    np.testing.assert_allclose(found, pieces, atol=1e-6)


def test_of_two_that_say_the_same_neither_counts_and_missing_players_are_zero():
    either = lambda params, x: x[:, :2].max(1, keepdims=True) * np.array([1.0, -1.0])  # noqa: E731
    x = np.ones((2, 3), np.float32)
    groups = np.array([[0, 1, 2], [0, -1, -1]])
    found = explain.occlusion(either, None, x, groups, 0)
    np.testing.assert_array_equal(found, np.zeros((2, 3)))
