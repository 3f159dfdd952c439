"""Nested rules, and Integrated Gradients asked for by their completeness error."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain
from xai_traffic.explain import model_function
from xai_traffic.explain.integrated_gradients import FLOOR
from xai_traffic.explain.quadrature import nested_quadrature

RNG = np.random.default_rng(5)
IMAGES = RNG.integers(0, 256, (6, 5, 4, 2)).astype(np.float32)
PARAMS = {
    "in": (RNG.normal(size=(40, 16)) * 0.4).astype(np.float32),
    "out": RNG.normal(size=(16, 3)).astype(np.float32),
}


def waves(params, x):
    """Logits that oscillate the faster the larger x is: some examples are harder than others."""
    hidden = jnp.sin(x.reshape(x.shape[0], -1) / 255 @ params["in"])
    return hidden @ params["out"]


HARD = IMAGES * np.array([0.01, 1, 3, 0.1, 9, 0.3], np.float32)[:, None, None, None]


def allowed(tolerance, target=1):
    rise = np.asarray(waves(PARAMS, HARD) - waves(PARAMS, 0 * HARD))[:, target]
    return tolerance * np.maximum(np.abs(rise), FLOOR)


def test_levels_are_nested_and_each_is_a_rule():
    levels = nested_quadrature()
    for level in range(len(levels)):
        nodes = np.concatenate([nodes for nodes, _ in levels[: level + 1]])
        weights = np.concatenate([weights for _, weights in levels[: level + 1]])[:, level]
        assert len(nodes) == 2 ** (level + 3) - 1 == len(set(nodes))
        assert (weights > 0).all() and nodes.min() > 0 and nodes.max() < 1
        for power in range(7):  # n nodes integrate polynomials of degree n - 1 exactly
            assert weights @ nodes**power == pytest.approx(1 / (power + 1), abs=1e-13)
        assert not any(added[:, level].any() for _, added in levels[level + 1 :])


@pytest.mark.parametrize("tolerance", [1e-1, 1e-3])
def test_every_example_reaches_the_tolerance(tolerance):
    attributions, error = explain.integrated_gradients(waves, PARAMS, HARD, 1, tolerance=tolerance)
    assert attributions.shape == (6, 5, 4) and attributions.dtype == jnp.float32
    assert (np.asarray(error) <= allowed(tolerance) * 1.01).all()
    if tolerance == 1e-3:
        exact, _ = explain.integrated_gradients(waves, PARAMS, HARD, 1, steps=300)
        scale = np.abs(exact).sum((1, 2))
        assert (np.abs(attributions - exact).sum((1, 2)) <= 0.01 * scale).all()


def test_easy_examples_leave_and_hard_ones_go_on(monkeypatch):
    sizes = []

    def counting(f, params, x, target):
        jax.debug.callback(lambda count=x.shape[0]: sizes.append(count))
        return model_function.input_gradient(f, params, x, target)

    module = sys.modules["xai_traffic.explain.integrated_gradients"]
    monkeypatch.setattr(module, "input_gradient", counting)
    own = lambda params, x: waves(params, x)  # noqa: E731  (a function that nothing compiled yet)
    explain.integrated_gradients(own, PARAMS, HARD, 1, tolerance=1e-3)
    assert sizes[0] == 6 * 8 and sizes[-1] < sizes[0]
    assert sum(sizes) < 6 * 512


def test_a_linear_model_ends_at_the_first_level_exactly():
    weights = RNG.normal(size=(40, 2)).astype(np.float32)
    linear = lambda params, x: x.reshape(x.shape[0], -1) @ params  # noqa: E731
    attributions, error = explain.integrated_gradients(linear, weights, IMAGES, 1, tolerance=1e-3)
    expected = (IMAGES * weights[:, 1].reshape(5, 4, 2)).sum(-1)
    np.testing.assert_allclose(attributions, expected, rtol=1e-4, atol=1e-3)
    ranks = [np.argsort(values.reshape(6, -1), axis=1) for values in (attributions, expected)]
    np.testing.assert_array_equal(*ranks)


def test_inputs_that_play_the_same_part_get_the_same():
    symmetric = lambda params, x: jnp.sin(x.sum(1, keepdims=True)) * jnp.array([1.0, -1.0])  # noqa: E731
    x = np.array([[2.0, 2.0, 1.0], [0.5, 0.5, 3.0]], np.float32)
    attributions, _ = explain.integrated_gradients(symmetric, None, x, 0, tolerance=1e-4)
    np.testing.assert_allclose(attributions[:, 0], attributions[:, 1], rtol=1e-6)


@pytest.mark.parametrize("shape", [None, (2, 5, 4, 2), (6, 2, 5, 4, 2)])
def test_budget_and_batch_change_no_value(shape):
    starts = None if shape is None else RNG.uniform(0, 9, shape).astype(np.float32)
    one = model_function.bytes_an_example(waves, PARAMS, jnp.asarray(HARD))
    results = [
        explain.integrated_gradients(
            waves, PARAMS, HARD, 1, tolerance=1e-3, baselines=starts, memory_budget=budget
        )
        for budget in (None, 1, 7 * one)
    ]
    for attributions, _ in results[1:]:
        np.testing.assert_allclose(attributions, results[0][0], rtol=1e-3, atol=1e-4)


def test_what_is_out_of_reach_says_so():
    step = lambda params, x: (x.sum(1, keepdims=True) > 1) * jnp.array([1.0, -1.0])  # noqa: E731
    attributions, error = explain.integrated_gradients(
        step, None, np.ones((2, 3), np.float32), 0, tolerance=1e-3
    )
    np.testing.assert_allclose(error, 1)
    with pytest.raises(ValueError, match="tolerance must be above 0"):
        explain.integrated_gradients(waves, PARAMS, IMAGES, tolerance=0)
