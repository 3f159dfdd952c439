"""Owen values: by their definition, consistent with Shapley values within and among coalitions."""

import games
import numpy as np
import pytest

from xai_traffic import explain

UNIONS = np.array([0, 1, 1, 0, 2])
ONES, EACH = np.ones((1, 5), np.float32), np.arange(5)


def together(order):
    """Whether the players of each coalition follow one another."""
    unions = UNIONS[list(order)]
    return (np.diff(unions) != 0).sum() == len(set(unions)) - 1


def test_exact_values_are_the_mean_over_the_orders_that_keep_coalitions_together():
    table = games.random_table(5)
    found = explain.owen_values(games.table_game, table, ONES, EACH, UNIONS, 1)
    expected = games.mean_over_orders(table[:, 1], 5, together)
    np.testing.assert_allclose(found.values[0], expected, atol=1e-12)
    assert found.exact.all() and found.completeness_error[0] < 1e-12


def test_coalitions_get_their_own_shapley_values():
    table = games.random_table(5)
    owen = explain.owen_values(games.table_game, table, ONES, EACH, UNIONS, 0)
    packets = explain.exact_shapley(games.table_game, table, ONES, UNIONS, 0)
    sums = np.bincount(UNIONS, owen.values[0])
    np.testing.assert_allclose(sums, packets.values[0], atol=1e-12)


@pytest.mark.parametrize("unions", [np.arange(5), np.zeros(5, int)])
def test_one_player_a_coalition_or_one_coalition_is_shapley(unions):
    table = games.random_table(5)
    owen = explain.owen_values(games.table_game, table, ONES, EACH, unions, 2)
    shapley = explain.exact_shapley(games.table_game, table, ONES, EACH, 2)
    np.testing.assert_allclose(owen.values, shapley.values, atol=1e-12)


def test_sampled_values_lie_within_their_error_bars():
    table, x, each = games.random_table(10), np.ones((1, 10)), np.arange(10)
    exact = explain.owen_values(games.table_game, table, x, each, each // 2, 0)
    scores = []
    for seed in range(20):
        found = explain.owen_values(
            games.table_game, table, x, each, each // 2, 0, samples=300, seed=seed
        )
        assert exact.exact.all() and not found.exact.any()
        assert found.completeness_error.max() < 1e-10
        scores.append((found.values - exact.values) / found.errors)
    # 200 scores of Student's distribution with 15 degrees of freedom, whose spread is 1.07.
    assert 0.85 < np.std(scores) < 1.3


def test_many_fields_in_many_packets():
    params = games.random_pairs(60, strength=0.05)
    x, each = np.ones((2, 60)), np.arange(60)
    unions = np.repeat(np.arange(12), 5)
    found = explain.owen_values(games.pairs_game, params, x, each, unions, 1)
    # An order and its reverse halve every pair: nothing is left to chance.
    np.testing.assert_allclose(found.values[0], games.values_of_pairs(params, 1), atol=1e-3)
    assert found.errors.max() < 1e-3 and not found.exact.any()
    pieces = explain.owen_values(
        games.pairs_game, params, x, each, unions, 1, memory_budget=1 << 16
    )
    np.testing.assert_allclose(found.values, pieces.values, atol=1e-4)


def test_sessions_lack_players_and_coalitions_must_fit():
    params = games.random_pairs(5)
    x = np.ones((3, 5), np.float32)
    groups = np.stack([EACH, np.where(EACH < 2, EACH, -1), np.full(5, -1)])
    found = explain.owen_values(games.pairs_game, params, x, groups, UNIONS, 0)
    assert not found.values[1, 2:].any() and not found.values[2].any()
    assert found.completeness_error.max() < 1e-6
    with pytest.raises(ValueError, match="as many coalitions"):
        explain.owen_values(games.pairs_game, params, x, groups, UNIONS[:3], 0)
