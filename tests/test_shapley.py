"""Shapley values: the axioms, the definition by brute force, closed forms, and error bars."""

from itertools import combinations
from math import factorial

import games
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain
from xai_traffic.explain.shapley import all_masks, shapley_of

RNG = np.random.default_rng(6)
ONES = np.ones((2, 5), np.float32)
EACH = np.arange(5)


def test_exact_values_are_the_mean_over_all_orders():
    table = games.random_table(5)
    found = explain.exact_shapley(games.table_game, table, ONES, EACH, np.array([0, 2]))
    for row, target in enumerate((0, 2)):
        expected = games.mean_over_orders(table[:, target], 5)
        np.testing.assert_allclose(found.values[row], expected, atol=1e-12)
    np.testing.assert_allclose(
        found.values.sum(1), np.float64(table[-1, [0, 2]]) - table[0, [0, 2]], atol=1e-6
    )
    assert found.completeness_error.max() < 1e-12 and found.exact.all()
    assert not found.errors.any()


def test_symmetric_players_get_the_same_and_dummies_nothing():
    table = RNG.normal(size=16)
    masks = all_masks(6)
    # Players 0 and 1 count as one number, player 5 counts as nothing.
    game = table[masks[:, 0] * 1 + masks[:, 1] * 1 + masks[:, 2] * 4 + masks[:, 3] * 8]
    values = shapley_of(game + 0.5 * masks[:, 4])
    assert values[0] == pytest.approx(values[1], abs=1e-12)
    assert values[4] == pytest.approx(0.5, abs=1e-12)
    assert values[5] == pytest.approx(0, abs=1e-12)


def test_values_of_a_sum_are_the_sum_of_values():
    a, b = RNG.normal(size=(2, 1 << 7))
    np.testing.assert_allclose(shapley_of(a + 2 * b), shapley_of(a) + 2 * shapley_of(b), atol=1e-12)


@pytest.mark.parametrize("method", [explain.exact_shapley, explain.kernel_shap])
def test_linear_models_are_exact(method):
    n = 12 if method is explain.exact_shapley else 30
    w = RNG.normal(size=(n, 2)).astype(np.float32)
    x, start = RNG.normal(size=(2, 3, n)).astype(np.float32)
    linear = lambda params, x: x @ params  # noqa: E731
    found = method(linear, w, x, np.arange(n), 1, baseline=start)
    np.testing.assert_allclose(found.values, (x - start) * w[:, 1], atol=1e-5)
    assert found.errors.max() < 1e-5 and found.completeness_error.max() < 1e-6


def test_pairs_share_in_halves():
    params = games.random_pairs(8)
    found = explain.exact_shapley(games.pairs_game, params, np.ones((1, 8)), np.arange(8), 1)
    np.testing.assert_allclose(found.values[0], games.values_of_pairs(params, 1), atol=1e-5)


def sharp(params, x):
    """Not additive: products of three and a threshold."""
    triples = x[:, 0::3][:, :4] * x[:, 1::3][:, :4] * x[:, 2::3][:, :4]
    return x @ params + 2 * triples @ params[:4] + (x.sum(1, keepdims=True) > 6.5)


def test_kernel_shap_lies_within_its_error_bars_of_exact():
    params = RNG.normal(size=(12, 2)).astype(np.float32)
    x, each = np.ones((1, 12)), np.arange(12)
    exact = explain.exact_shapley(sharp, params, x, each, 0)
    scores = []
    for seed in range(20):
        found = explain.kernel_shap(sharp, params, x, each, 0, samples=400, seed=seed)
        assert not found.exact.any() and found.completeness_error.max() < 1e-10
        scores.append((found.values - exact.values) / found.errors)
    # 240 standard scores: their spread is 1 where the error bars are honest.
    assert 0.8 < np.std(scores) < 1.25 and np.abs(scores).max() < 5
    many = explain.kernel_shap(sharp, params, x, each, 0, samples=3200)
    assert many.errors.mean() < 0.5 * found.errors.mean()


def test_kernel_shap_on_sixty_four_packets():
    params = games.random_pairs(64, strength=0.05)
    found = explain.kernel_shap(games.pairs_game, params, np.ones((1, 64)), np.arange(64), 0)
    # Pairing takes out all that is of second order: what is left is rounding.
    np.testing.assert_allclose(found.values[0], games.values_of_pairs(params, 0), atol=1e-3)
    assert found.errors.max() < 1e-3


def test_few_players_make_kernel_shap_exact():
    table = games.random_table(5)
    sampled = explain.kernel_shap(games.table_game, table, ONES, EACH, 1)
    assert sampled.exact.all()
    exact = explain.exact_shapley(games.table_game, table, ONES, EACH, 1)
    np.testing.assert_array_equal(sampled.values, exact.values)


@pytest.mark.parametrize("method", [explain.exact_shapley, explain.kernel_shap])
def test_sessions_of_different_length_share_a_batch_and_pieces_are_the_whole(method):
    params = games.random_pairs(10)
    lengths = [10, 3, 1, 0]
    x = (np.arange(10) < np.array(lengths)[:, None]).astype(np.float32)
    groups = np.where(x > 0, np.arange(10), -1)
    options = {} if method is explain.exact_shapley else {"samples": 64}
    whole = method(games.pairs_game, params, x, groups, 0, **options)
    pieces = method(games.pairs_game, params, x, groups, 0, memory_budget=1, **options)
    np.testing.assert_allclose(whole.values, pieces.values, atol=1e-5)
    for row, length in enumerate(lengths):
        assert not whole.values[row, length:].any()
        if length:
            alone = method(games.pairs_game, params, x[[row]], groups[[row]], 0, **options)
            # Pairs with players that are not there have no part in it.
            width = alone.values.shape[1]
            np.testing.assert_allclose(alone.values[0], whole.values[row, :width], atol=1e-5)


def test_too_many_players_and_too_few_samples_are_refused():
    x, each = np.ones((1, 13)), np.arange(13)
    f = lambda params, x: x[:, :2]  # noqa: E731
    with pytest.raises(ValueError, match="take kernel_shap"):
        explain.exact_shapley(f, None, x, each)
    with pytest.raises(ValueError, match="at least 52 samples, not 40"):
        explain.kernel_shap(f, None, x, each, samples=40)


def test_twelve_packets_are_exact_against_brute_force():
    """Shapley's own formula over all subsets, of a network written again in float64."""
    inner = RNG.normal(size=(12, 6)) / 4
    outer = RNG.normal(size=(6, 2)) / 4
    x = RNG.normal(size=(1, 12))

    def network(params, x):
        return jnp.tanh(x @ params[0]) @ params[1]

    def worth(packets) -> float:
        kept = np.zeros(12)
        kept[list(packets)] = x[0, list(packets)]
        return float(np.tanh(kept @ inner) @ outer[:, 0])

    value = {own: worth(own) for size in range(13) for own in combinations(range(12), size)}
    expected = np.zeros(12)
    for packet in range(12):
        for own, without in value.items():
            if packet not in own:
                share = factorial(len(own)) * factorial(11 - len(own)) / factorial(12)
                expected[packet] += share * (value[tuple(sorted((*own, packet)))] - without)
    params = (inner.astype(np.float32), outer.astype(np.float32))
    found = explain.exact_shapley(network, params, x.astype(np.float32), np.arange(12)[None], 0)
    np.testing.assert_allclose(found.values[0], expected, atol=1e-6)
    assert found.values.sum() == pytest.approx(value[tuple(range(12))] - value[()], abs=1e-6)
