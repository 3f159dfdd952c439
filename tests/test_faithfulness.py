"""Faithfulness: a right order gains more than chance, and values that stand anywhere do not."""

import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain

RNG = np.random.default_rng(3)
WEIGHTS = RNG.normal(size=(60, 3)).astype(np.float32)
BYTES = np.arange(60).reshape(6, 10, 1)
"""Every value a player."""

X = RNG.uniform(1, 2, (100, 6, 10, 1)).astype(np.float32)


def linear(params, x):
    return x.reshape(len(x), -1) @ params


def rough(params, x):
    flat = x.reshape(len(x), -1)
    return jnp.sin(3 * flat) @ params + (flat @ params) ** 2 / 10


def parts(target=0):
    return (X.reshape(100, -1) * WEIGHTS[:, target]).reshape(X.shape)


def test_gain_is_the_sum_by_hand():
    own = parts()[0].reshape(-1)
    ranked = np.sort(own)[::-1]
    cuts = [12, 24, 36, 48]
    by_hand = np.mean([ranked[:cut].sum() - ranked[cut:].sum() for cut in cuts])
    gain, chance = explain.faithfulness(linear, WEIGHTS, X[:1], BYTES, [parts()[:1]], 0)
    assert gain[0, 0] == pytest.approx(by_hand, rel=1e-5)
    assert chance[0, 0] == 1 / 80


def test_what_is_true_passes_and_its_reverse_does_not():
    gain, chance = explain.faithfulness(linear, WEIGHTS, X, BYTES, [parts(), -parts()], 0)
    np.testing.assert_allclose(gain[0], -gain[1], rtol=1e-4)
    assert (chance[0] == 1 / 80).all() and (chance[1] == 1).all()


@pytest.mark.parametrize("model", [linear, rough])
@pytest.mark.parametrize("sparse", [False, True])
def test_shuffled_values_are_as_rare_as_their_chance_says(model, sparse):
    many = np.tile(X, (4, 1, 1, 1))
    values = RNG.normal(size=many.shape)
    # Most of them equal, as in a map that was cut off at zero.
    values = np.maximum(values - 1, 0) if sparse else values
    _, chance = explain.faithfulness(model, WEIGHTS, many, BYTES, [values], 0)
    assert (chance <= 1 / 80).mean() <= 0.04
    assert 0.4 <= (chance <= 0.5).mean() <= 0.6
    assert np.quantile(chance[chance < 0.5], 0.5) == pytest.approx(0.25, abs=0.08)


def test_padding_does_not_matter():
    groups = np.where(np.arange(6)[:, None, None] < 4, BYTES, -1)
    held = np.broadcast_to(groups >= 0, X.shape)
    wild = np.where(held, parts(), 1e9 * RNG.normal(size=X.shape))
    found = explain.faithfulness(linear, WEIGHTS, X, groups, [wild], 0)
    calm = explain.faithfulness(linear, WEIGHTS, X, groups, [np.where(held, parts(), 0)], 0)
    np.testing.assert_array_equal(found, calm)
    assert (found[1] == 1 / 80).all()


def test_players_are_worth_the_sum_of_their_values():
    groups = BYTES // 10
    by_value = explain.faithfulness(linear, WEIGHTS, X, groups, [parts()], 0)
    means = np.broadcast_to(parts().reshape(100, 6, 10).mean(2)[..., None, None], X.shape)
    by_mean = explain.faithfulness(linear, WEIGHTS, X, groups, [means], 0)
    np.testing.assert_array_equal(by_value, by_mean)
    # One player has no order.
    alone = explain.faithfulness(linear, WEIGHTS, X, BYTES * 0, [parts()], 0)
    np.testing.assert_allclose(alone, [np.zeros((1, 100)), np.ones((1, 100))])


def test_pieces_and_company_change_nothing():
    alone = explain.faithfulness(linear, WEIGHTS, X[3:4], BYTES, [parts()[3:4, ..., 0]], 0)
    pieces = explain.faithfulness(linear, WEIGHTS, X[:5], BYTES, [parts()[:5]], 0, memory_budget=1)
    np.testing.assert_allclose(np.stack(alone)[..., 0], np.stack(pieces)[..., 3], rtol=1e-5)


def test_shapes_and_numbers_must_fit():
    with pytest.raises(ValueError, match="shape of the input"):
        explain.faithfulness(linear, WEIGHTS, X, BYTES, [parts()[:, :2]], 0)
    with pytest.raises(ValueError, match="shares between 0 and 1"):
        explain.faithfulness(linear, WEIGHTS, X, BYTES, [parts()], 0, shares=(0.5, 1.0))
