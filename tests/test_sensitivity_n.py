"""Sensitivity-n, ERASER's two, completeness: known on a linear function, padding left out."""

import numpy as np
import pytest

from xai_traffic import explain

RNG = np.random.default_rng(4)
X = RNG.random((3, 12)).astype("f4") + 0.5
W = RNG.normal(size=(12, 2)).astype("f4")
GROUPS = np.array([np.arange(12), np.arange(12), [0, 1, 2, 3, 4, 5] + [-1] * 6])
OWN = GROUPS >= 0
SCORES = np.where(OWN, X * W[:, 0], 0.0)
"""What each player adds to logit 0, exactly."""


def linear(params, x):
    return x @ params


def shuffled(scores):
    result = scores.copy()
    for row, own in zip(result, OWN, strict=True):
        row[own] = RNG.permutation(row[own])
    return result


def wider(array, fill):
    """Add four values of padding to each example, that the model looks at too."""
    return np.concatenate([array, np.full((len(array), 4), fill, array.dtype)], 1)


WIDE = np.concatenate([W, RNG.normal(size=(4, 2)).astype("f4")])


def test_sensitivity_n_of_what_players_add_is_one_at_every_size():
    found = explain.sensitivity_n(linear, W, X, GROUPS, SCORES, [1, 3, 0.5, 6], 0)
    assert found.shape == (3, 4)
    np.testing.assert_allclose(found[:2], 1, atol=1e-6)
    np.testing.assert_allclose(found[2, :3], 1, atol=1e-6)
    # Six of six players: one subset, and nothing varies.
    assert np.isnan(found[2, 3])
    opposite = explain.sensitivity_n(linear, W, X, GROUPS, -SCORES, [3], 0)
    np.testing.assert_allclose(opposite, -1, atol=1e-6)


def test_sensitivity_n_is_lower_for_shuffled_scores():
    found = [
        explain.sensitivity_n(linear, W, X, GROUPS, shuffled(SCORES), [3], 0).mean()
        for _ in range(8)
    ]
    assert np.mean(found) < 0.6


def test_sensitivity_n_of_constant_scores_is_no_number():
    found = explain.sensitivity_n(linear, W, X, GROUPS, np.ones((3, 12)), [2], 0)
    assert np.isnan(found).all()


def test_subsets_have_their_size_and_do_not_depend_on_others():
    drawn = explain.random_subsets(9, 4, 50, seed=3)
    assert drawn.shape == (50, 9) and (drawn.sum(1) == 4).all()
    np.testing.assert_array_equal(explain.random_subsets(9, 4, 20, seed=3), drawn[:20])
    assert drawn.mean(0).min() > 0.3 and drawn.mean(0).max() < 0.6


def probability(logits):
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return (odds / odds.sum(-1, keepdims=True))[..., 0]


def test_comprehensiveness_and_sufficiency_are_their_definitions():
    shares = (0.1, 0.3, 1.0)
    needed, each = explain.comprehensiveness(linear, W, X, GROUPS, SCORES, 0, shares=shares)
    enough, left = explain.sufficiency(linear, W, X, GROUPS, SCORES, 0, shares=shares)
    for row, own in enumerate(OWN):
        order = np.flatnonzero(own)[np.argsort(-SCORES[row, own])]
        for place, share in enumerate(shares):
            top = order[: int(np.ceil(round(share * len(order), 6)))]
            without, alone = X[row].copy(), X[row].copy()
            without[top] = 0
            alone[np.setdiff1d(order, top)] = 0
            before = probability(X[row] @ W)
            np.testing.assert_allclose(
                each[row, place], before - probability(without @ W), atol=1e-5
            )
            np.testing.assert_allclose(left[row, place], before - probability(alone @ W), atol=1e-5)
    np.testing.assert_allclose(needed, each.mean(1))
    np.testing.assert_allclose(enough, left.mean(1))
    np.testing.assert_allclose(left[:, -1], 0, atol=1e-6)


def test_in_logits_they_add_up_to_the_sum_of_scores():
    options = {"shares": (0.2, 0.5), "logits": True}
    _, each = explain.comprehensiveness(linear, W, X, GROUPS, SCORES, 0, **options)
    _, left = explain.sufficiency(linear, W, X, GROUPS, SCORES, 0, **options)
    np.testing.assert_allclose(each + left, np.repeat(SCORES.sum(1)[:, None], 2, 1), atol=1e-5)
    single = explain.sufficiency(linear, W[:, :1], X, GROUPS, SCORES, 0, **options)[1]
    np.testing.assert_allclose(single, left, atol=1e-6)


def test_shuffled_scores_are_less_comprehensive_and_less_sufficient():
    needed = explain.comprehensiveness(linear, W, X, GROUPS, SCORES, 0, logits=True)[0]
    enough = explain.sufficiency(linear, W, X, GROUPS, SCORES, 0, logits=True)[0]
    for _ in range(5):
        mixed = shuffled(SCORES)
        assert (
            explain.comprehensiveness(linear, W, X, GROUPS, mixed, 0, logits=True)[0].mean()
            < needed.mean()
        )
        assert (
            explain.sufficiency(linear, W, X, GROUPS, mixed, 0, logits=True)[0].mean()
            > enough.mean()
        )


@pytest.mark.parametrize("metric", ["comprehensiveness", "sufficiency", "sensitivity_n"])
def test_padding_and_memory_change_nothing(metric):
    method = getattr(explain, metric)
    rest = ([2, 0.5],) if metric == "sensitivity_n" else ()
    padded = wider(X, 0.0), wider(GROUPS, -1), SCORES
    plain = method(linear, W, X, GROUPS, SCORES, *rest, 0)
    for budget in (None, 100):
        found = method(linear, WIDE, *padded, *rest, 0, memory_budget=budget)
        np.testing.assert_allclose(found[0], plain[0], atol=1e-5)
        np.testing.assert_allclose(found[1], plain[1], atol=1e-5)


def test_completeness_error_is_the_gap():
    start = RNG.normal(size=12).astype("f4")
    exact = (X - start) * W[:, 1]
    rise = ((X - start) @ W)[:, 1]
    error, part = explain.completeness_error(linear, W, X, exact, 1, baseline=start)
    np.testing.assert_allclose(error, 0, atol=1e-5)
    np.testing.assert_allclose(part, 0, atol=1e-4)
    error, part = explain.completeness_error(
        linear, W, X, exact + 0.25, 1, baseline=start, floor=1e9
    )
    np.testing.assert_allclose(error, 3, rtol=1e-4)
    np.testing.assert_allclose(part, 3e-9, rtol=1e-4)
    _, part = explain.completeness_error(linear, W, X, 2 * exact, 1, baseline=start, floor=1e-9)
    np.testing.assert_allclose(part, 1, rtol=1e-3)
    assert (np.abs(rise) > 1e-9).all()
    # Shuffling keeps the sum: only what is added or lost is seen.
    scaled = explain.completeness_error(linear, W, X, shuffled(exact), 1, baseline=start)[0]
    assert scaled[:2].max() < 1e-5


def test_completeness_leaves_padding_out():
    found = wider(SCORES, 7.0)
    error, _ = explain.completeness_error(
        linear, WIDE, wider(X, 0.0), found, 0, keep=wider(OWN, False)
    )
    plain, _ = explain.completeness_error(linear, W, X, SCORES, 0, keep=OWN)
    np.testing.assert_allclose(error, plain, atol=1e-5)
    np.testing.assert_allclose(plain, 0, atol=1e-5)
    images = X.reshape(3, 3, 4, 1)
    picture = explain.completeness_error(
        *(lambda params, x: linear(params, x.reshape(len(x), -1)), W, images),
        *(SCORES.reshape(3, 3, 4), 0),
        keep=OWN.reshape(3, 3, 4),
    )[0]
    np.testing.assert_allclose(picture, 0, atol=1e-5)


def test_integrated_gradients_report_the_same_error():
    def bent(params, x):
        return np.tanh(1) * (x @ params) ** 2

    maps, error = explain.integrated_gradients(bent, W, X, 0, steps=3, rule="trapezoid")
    found, _ = explain.completeness_error(bent, W, X, maps, 0)
    np.testing.assert_allclose(found, error, atol=1e-4)


def test_wrong_wishes_are_explained():
    with pytest.raises(ValueError, match="samples and scores"):
        explain.sensitivity_n(linear, W, X, GROUPS, SCORES[0], [2], 0)
    with pytest.raises(ValueError, match="whole numbers"):
        explain.sensitivity_n(linear, W, X, GROUPS, SCORES, [2.5], 0)
    with pytest.raises(ValueError, match="one logit"):
        explain.comprehensiveness(linear, W[:, :1], X, GROUPS, SCORES, 0)
    with pytest.raises(ValueError, match="at most 1"):
        explain.sufficiency(linear, W, X, GROUPS, SCORES, 0, shares=(0.0,))
    with pytest.raises(ValueError, match="scores must be"):
        explain.sufficiency(linear, W, X, GROUPS, SCORES[:, :3], 0)
    with pytest.raises(ValueError, match="one row for each"):
        explain.completeness_error(linear, W, X, SCORES[:2], 0)
    with pytest.raises(ValueError, match="shape of attributions"):
        explain.completeness_error(linear, W, X, SCORES, 0, keep=OWN[:, :4])
