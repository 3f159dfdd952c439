"""Infidelity and max-sensitivity: exact where the model is linear, and by brute force elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain

RNG = np.random.default_rng(1)
X = RNG.normal(size=(5, 6, 6, 1)).astype("f4")
W = jnp.asarray(RNG.normal(size=(36, 3)), jnp.float32)
KEY = jax.random.key(3)
NOISE = explain.gaussian(0.3)


def linear(params, x):
    return x.reshape(len(x), -1) @ params


def bent(params, x):
    return jnp.tanh(linear(params, x) / 4) * 4


def test_gradients_of_a_linear_model_are_faithful_and_others_are_not():
    exact = explain.gradient(linear, W, X, 1)
    options = {"rng": KEY, "perturbation": NOISE}
    assert explain.infidelity(linear, W, X, exact, 1, **options).max() < 1e-9
    wrong = explain.infidelity(linear, W, X, -exact, 1, **options)
    assert wrong.min() > 1
    doubled = explain.infidelity(linear, W, X, 2 * exact, 1, **options)
    assert doubled.min() > 0.1
    scaled = explain.infidelity(linear, W, X, 2 * exact, 1, **options, scaled=True)
    assert scaled.max() < 1e-9


def test_infidelity_is_its_definition_whatever_the_memory():
    weights = explain.gradient(bent, W, X)
    target = np.asarray(bent(W, X)).argmax(1)
    rows, expected = np.arange(5), np.zeros(5)
    for draw in range(4):
        taken = np.asarray(NOISE(jax.random.fold_in(KEY, draw), jnp.asarray(X)))
        claim = (taken[..., 0] * np.asarray(weights)).sum((1, 2))
        effect = np.asarray(bent(W, X) - bent(W, X - taken))[rows, target]
        expected += (claim - effect) ** 2 / 4
    for budget in (None, 2000):
        found = explain.infidelity(
            bent, W, X, weights, rng=KEY, perturbation=NOISE, draws=4, memory_budget=budget
        )
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_what_does_not_depend_on_the_input_is_insensitive():
    def gradient_of(f):
        return lambda params, x: explain.gradient(f, params, x, 0)

    options = {"rng": KEY, "radius": 0.2}
    np.testing.assert_allclose(
        explain.max_sensitivity(gradient_of(linear), W, X, **options), 0, atol=1e-6
    )
    near = explain.max_sensitivity(gradient_of(bent), W, X, **options)
    far = explain.max_sensitivity(gradient_of(bent), W, X, rng=KEY, radius=2.0)
    assert (near > 1e-3).all() and (far > near).all()


def test_max_sensitivity_of_the_input_itself_is_the_relative_move():
    keep = RNG.random((5, 6, 6)) < 0.5
    moves = [
        np.asarray(jax.random.uniform(jax.random.fold_in(KEY, draw), X.shape, minval=-1, maxval=1))
        for draw in range(3)
    ]
    sizes = np.linalg.norm(np.where(keep, X[..., 0], 0).reshape(5, -1), axis=1)
    expected = [np.linalg.norm(np.where(keep, m[..., 0], 0).reshape(5, -1), axis=1) for m in moves]
    found = explain.max_sensitivity(
        lambda params, x: x[..., 0], W, X, rng=KEY, radius=1.0, draws=3, keep=keep
    )
    np.testing.assert_allclose(found, np.max(expected, 0) / sizes, rtol=1e-5)


def test_wrong_wishes_are_explained():
    with pytest.raises(ValueError, match="do not fit"):
        explain.infidelity(linear, W, X, X[:, :3], 1, rng=KEY, perturbation=NOISE)
    with pytest.raises(ValueError, match="at least one"):
        explain.infidelity(linear, W, X, X, 1, rng=KEY, perturbation=NOISE, draws=0)
    with pytest.raises(ValueError, match="positive"):
        explain.max_sensitivity(lambda p, x: x, W, X, rng=KEY, radius=0.0)
