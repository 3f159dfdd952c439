"""RISE on linear functions, whose value is known, and its error bars."""

import numpy as np
import pytest

from xai_traffic import explain

RNG = np.random.default_rng(9)
WEIGHTS = RNG.normal(size=(20, 2)).astype(np.float32)


def linear(params, x):
    return x @ params


@pytest.mark.parametrize("kept", [0.5, 0.8])
def test_error_bars_hold_the_known_value(kept):
    scores = []
    for seed in range(20):
        values, errors = explain.rise(
            linear, WEIGHTS, np.ones((1, 20)), np.arange(20), 0, samples=300, kept=kept, seed=seed
        )
        scores.append((values[0] - (1 - kept) * WEIGHTS[:, 0]) / errors[0])
    assert 0.85 < np.std(scores) < 1.15


def test_pieces_are_the_whole_and_missing_players_are_zero():
    groups = np.stack([np.arange(20), np.where(np.arange(20) < 4, np.arange(20), -1)])
    whole = explain.rise(linear, WEIGHTS, np.ones((2, 20)), groups, 1, samples=64)
    pieces = explain.rise(
        linear, WEIGHTS, np.ones((2, 20)), groups, 1, samples=64, memory_budget=1000
    )
    for a, b in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        assert not a[1, 4:].any() and a[1, :4].all()


def test_no_chance_is_refused():
    for options in ({"kept": 1.0}, {"kept": 0.0}, {"samples": 1}):
        with pytest.raises(ValueError, match="need 2 or more"):
            explain.rise(linear, WEIGHTS, np.ones((1, 20)), np.arange(20), **options)
