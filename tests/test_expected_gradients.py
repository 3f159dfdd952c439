"""Expected gradients: completeness in expectation, linear models, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain

RNG = np.random.default_rng(2)
X = RNG.normal(size=(3, 6)).astype(np.float32)
REFERENCES = RNG.normal(size=(5, 6)).astype(np.float32)
WEIGHTS = RNG.normal(size=(6, 2)).astype(np.float32)
KEY = jax.random.key(4)


def curved(params, x):
    return jnp.tanh(x @ params)


def test_they_approach_the_mean_of_integrated_gradients_over_all_references():
    drawn, error = explain.expected_gradients(
        curved, WEIGHTS, X, REFERENCES, 1, rng=KEY, samples=4000
    )
    exact, _ = explain.integrated_gradients(curved, WEIGHTS, X, 1, baselines=REFERENCES)
    np.testing.assert_allclose(drawn, exact, atol=0.06)
    assert error.shape == (3,) and float(error.max()) < 0.06


def test_one_reference_of_a_linear_model_is_exact_whatever_the_memory():
    linear = lambda params, x: x @ params  # noqa: E731
    for budget in (None, 1):
        result, error = explain.expected_gradients(
            linear, WEIGHTS, X, REFERENCES[:1], 0, rng=KEY, samples=7, memory_budget=budget
        )
        expected = (X - REFERENCES[0]) * WEIGHTS[:, 0]
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)
        assert float(error.max()) < 1e-5


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="references have shape"):
        explain.expected_gradients(curved, WEIGHTS, X, REFERENCES[:, :4], rng=KEY)
    with pytest.raises(ValueError, match="samples must be at least 1"):
        explain.expected_gradients(curved, WEIGHTS, X, REFERENCES, rng=KEY, samples=0)
