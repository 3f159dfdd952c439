"""Temperature and proper scores: against scikit-learn, a grid, and planted temperatures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax
from sklearn import metrics

from xai_traffic.evaluation.calibration import expected_calibration_error
from xai_traffic.evaluation.proper_scores import brier, negative_log_likelihood
from xai_traffic.evaluation.temperature import COLDEST, HOTTEST, fit_temperature
from xai_traffic.training.calibration import tempered


def drawn(seed, sessions=4000, classes=5, temperature=1.0, scale=2.0):
    """Return logits whose labels were drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=scale, size=(sessions, classes))
    sums = softmax(logits / temperature, axis=-1).cumsum(-1)
    labels = (rng.random((sessions, 1)) > sums).sum(-1)
    return logits.astype(np.float32), np.minimum(labels, classes - 1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_planted_temperature_is_found(temperature):
    logits, labels = drawn(0, 20_000, temperature=temperature)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    after = expected_calibration_error(labels, tempered(logits, found))
    assert after < 0.012
    if temperature != 1:
        assert after < expected_calibration_error(labels, softmax(logits, -1)) / 4


@pytest.mark.parametrize("seed", range(3))
def test_no_temperature_of_a_grid_is_better(seed):
    logits, labels = drawn(seed, 150, temperature=1.7)
    found = fit_temperature(logits, labels)
    best = negative_log_likelihood(labels, logits, found).mean()
    for temperature in np.geomspace(COLDEST, HOTTEST, 200):
        assert best <= negative_log_likelihood(labels, logits, temperature).mean() + 1e-12


def test_where_the_likelihood_has_no_end_nothing_is_claimed():
    logits = np.array([[3.0, 0], [0, 2]])
    assert fit_temperature(logits, np.array([0, 1])) == 1.0
    assert fit_temperature(logits, np.array([1, 0])) == HOTTEST
    # One session in a thousand is wrong by a hair, the others are right by as little.
    close = np.tile([1e-3, 0], (1000, 1))
    assert fit_temperature(close, np.r_[1, np.zeros(999, int)]) == COLDEST
    with pytest.raises(ValueError, match="no sessions"):
        fit_temperature(np.zeros((0, 3)), np.zeros(0, int))


@given(
    arrays(np.float32, (7, 4), elements=st.integers(-4000, 4000).map(lambda n: n / 64)),
    st.floats(COLDEST, HOTTEST),
)
def test_no_verdict_changes(logits, temperature):
    np.testing.assert_array_equal(tempered(logits, temperature).argmax(-1), logits.argmax(-1))


def test_scores_are_those_of_scikit_learn():
    logits, labels = drawn(3, 500)
    probabilities = softmax(logits.astype(np.float64), axis=-1)
    own = negative_log_likelihood(labels, logits)
    assert own.mean() == pytest.approx(metrics.log_loss(labels, probabilities))
    assert brier(labels, probabilities).mean() == pytest.approx(
        metrics.brier_score_loss(labels, probabilities, labels=range(5))
    )
    two, held = drawn(4, 300, classes=2)
    chance = softmax(two.astype(np.float64), axis=-1)
    of_one = metrics.brier_score_loss(held, chance[:, 1])
    assert brier(held, chance).mean() == pytest.approx(2 * of_one)


def test_the_likelihood_does_not_underflow():
    assert negative_log_likelihood(np.array([1]), np.array([[9000.0, 0]]))[0] == 9000
