"""Exact probabilities: against SciPy, by counting all cases, and by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xai_traffic.evaluation.exact import hidden_rates, sign_flip
from xai_traffic.evaluation.score_intervals import Draws


def test_mcnemar_is_exact():
    labels = np.zeros(20, int)
    first, second = np.zeros(20, int), np.zeros(20, int)
    second[:9], first[9:11] = 1, 1
    found = Draws(labels, np.arange(20), 2).mcnemar(first, second)
    assert (found["only_first"], found["only_second"]) == (9, 2)
    # Twice the chance of two heads or fewer in eleven throws.
    assert found["p"] == pytest.approx(2 * (1 + 11 + 55) / 2**11)
    assert Draws(labels, np.arange(20), 2).mcnemar(first, first)["p"] == 1


def test_a_host_is_one_witness():
    labels, first, second = np.zeros(1000, int), np.zeros(1000, int), np.zeros(1000, int)
    second[:20] = 1  # all of one host
    units = np.r_[np.zeros(20, int), np.arange(1, 981)]
    found = Draws(labels, units, 2).mcnemar(first, second)
    assert (found["only_first"], found["only_second"], found["p"]) == (20, 0, 1.0)


def test_units_count_by_what_they_differ_in():
    labels = np.zeros(39, int)
    first, second = np.zeros(39, int), np.zeros(39, int)
    second[:12], first[12:24] = 1, 1  # twelve units of one session, and twelve sessions of one unit
    found = Draws(labels, np.r_[np.arange(12), np.full(27, 12)], 2).mcnemar(first, second)
    assert (found["only_first"], found["only_second"], found["p"]) == (12, 12, 1.0)


@given(st.lists(st.integers(-5, 5), max_size=9))
@settings(max_examples=60, deadline=None)
def test_all_sign_changes_are_counted(ahead):
    sums = [np.dot(signs, ahead) for signs in itertools.product((-1, 1), repeat=len(ahead))]
    part = np.mean(np.abs(sums) >= abs(sum(ahead)))
    assert sign_flip(np.array(ahead, int)) == pytest.approx(part)


def test_sign_changes_of_many_units_are_as_the_normal_distribution_has_it():
    ahead = np.random.default_rng(0).integers(-40, 43, 4000)
    z = abs(ahead.sum()) / np.sqrt((ahead.astype(float) ** 2).sum())
    assert sign_flip(ahead) == pytest.approx(2 * stats.norm.sf(z), rel=0.05)


def test_classes_that_are_alike_equally_often_are_unlike_at_equal_rates():
    rng, kept = np.random.default_rng(1), 0
    units = np.repeat(np.arange(60), np.where(np.arange(60) < 6, 27, 1))
    for _ in range(200):
        lean = rng.random(60) < 0.5  # whom a capture suits, which is chance
        first, second = (np.repeat(side, np.bincount(units)).astype(int) for side in (lean, ~lean))
        draws = Draws(np.zeros(len(units), int), units, 2)
        kept += draws.mcnemar(first, second)["p"] > 0.05
    assert kept >= 184


def test_hidden_rates_are_the_worst_that_shows_nothing():
    assert hidden_rates(np.array([], int)) == 0
    for count in (1, 5, 100):
        exact = stats.binomtest(0, count).proportion_ci(method="exact").high
        assert hidden_rates(np.array([count])) == pytest.approx(exact)
    # Equal classes are one class, and beside a rare one common ones do not count.
    assert hidden_rates(np.full(4, 25)) == pytest.approx(hidden_rates(np.array([100])), rel=1e-6)
    assert hidden_rates(np.array([4, 10**6])) == pytest.approx(
        hidden_rates(np.array([4])) / 2, rel=1e-4
    )
    counts = np.array([5, 9, 30])
    worst = 0.0
    for a, b in itertools.product(np.linspace(0, 1, 201)[:-1], repeat=2):
        left = np.log(0.025) - 5 * np.log1p(-a) - 9 * np.log1p(-b)
        if left <= 0:
            worst = max(worst, (a + b - np.expm1(left / 30)) / 3)
    assert hidden_rates(counts) == pytest.approx(worst, abs=0.002)
