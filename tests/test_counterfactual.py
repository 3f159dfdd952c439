"""Counterfactuals flip, and are as small as brute force says."""

import itertools

import games
import numpy as np
import pytest

from xai_traffic import explain

RNG = np.random.default_rng(8)


def verdict_without(f, params, x, removed):
    kept = x.copy()
    kept[list(removed)] = 0
    return int(np.asarray(f(params, kept[None]))[0].argmax())


def smallest_by_hand(f, params, x, n):
    before = verdict_without(f, params, x, ())
    for size in range(1, n + 1):
        for removed in itertools.combinations(range(n), size):
            if verdict_without(f, params, x, removed) != before:
                return size
    return None


def test_they_flip_and_none_is_smaller():
    x = np.ones((1, 6), np.float32)
    sizes = set()
    for trial in range(6):
        w = RNG.normal(size=(6, 2)).astype(np.float32) + np.array([0.3 * trial, 0], np.float32)
        table = np.array([np.asarray(mask) @ w for mask in itertools.product((0, 1), repeat=6)])
        table = (table + RNG.normal(size=table.shape) * 0.5).astype(np.float32)
        (found,) = explain.counterfactual(games.table_game, table, x, np.arange(6))
        expected = smallest_by_hand(games.table_game, table, x[0], 6)
        assert found.proven and found.flips == (expected is not None)
        if found.flips:
            assert len(found.removed) == expected
            assert found.after != found.before
            assert verdict_without(games.table_game, table, x[0], found.removed) == found.after
            sizes.add(expected)
    assert sizes


def votes(params, x):
    """Class 1 wins with more than `params` of the values there, whichever they are."""
    return (x.sum(1, keepdims=True) - params) * np.array([-1.0, 1.0])


def test_sets_of_known_size_in_sessions_of_different_length():
    x = (np.arange(12) < np.array([12, 8, 5, 3])[:, None]).astype(np.float32)
    groups = np.where(x > 0, np.arange(12), -1)
    found = explain.counterfactual(votes, 6.5, x, groups)
    assert [len(each.removed) for each in found] == [6, 2, 0, 0]
    assert [each.flips for each in found] == [True, True, False, False]
    assert [each.before for each in found] == [1, 1, 0, 0]
    assert all(each.proven for each in found)
    pieces = explain.counterfactual(votes, 6.5, x, groups, memory_budget=1)
    assert pieces == found


def test_beyond_the_limit_it_is_greedy_irreducible_and_says_so():
    x = np.ones((1, 40), np.float32)
    (found,) = explain.counterfactual(votes, 34.5, x, np.arange(40), limit=1000)
    assert found.flips and len(found.removed) == 6 and not found.proven
    # A bad order costs nothing where each can be put back.
    needed = lambda params, x: x[:, [3]] * np.array([-1.0, 1.0]) + np.array([0.5, 0])  # noqa: E731
    scores = -(np.arange(40)[None] == 3).astype(float)
    (found,) = explain.counterfactual(needed, None, x, np.arange(40), scores=scores, limit=0)
    assert found.removed == (3,) and found.after == 0 and found.proven


def test_one_logit_has_no_verdict_to_turn():
    x = np.ones((1, 3), np.float32)
    with pytest.raises(ValueError, match="one logit"):
        explain.counterfactual(lambda params, x: x[:, :1], None, x, np.arange(3))
    with pytest.raises(ValueError, match="scores must be"):
        explain.counterfactual(votes, 1.0, x, np.arange(3), scores=np.zeros(3))
