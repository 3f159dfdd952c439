"""Blur IG and Guided IG: completeness, linear models, memory, and PAIR's own implementations."""

import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain
from xai_traffic.explain.path_methods import blur_matrices

RNG = np.random.default_rng(9)
IMAGES = RNG.integers(0, 256, (3, 8, 6, 2)).astype(np.float32)
PARAMS = {
    "in": (RNG.normal(size=(96, 16)) * 0.3).astype(np.float32),
    "out": RNG.normal(size=(16, 3)).astype(np.float32),
}
WEIGHTS = RNG.normal(size=(96, 2)).astype(np.float32)


def smooth(params, x):
    hidden = jnp.tanh(x.reshape(x.shape[0], -1) / 255 @ params["in"])
    return hidden @ params["out"]


def linear(params, x):
    return x.reshape(x.shape[0], -1) / 255 @ params


def call(x_batch, call_model_args=None, expected_keys=None):
    """What PAIR asks of a model: the gradients of class 1."""
    flat = np.reshape(np.asarray(x_batch, np.float32), (len(x_batch), -1))
    gradients = explain.gradient(smooth, PARAMS, flat, 1)
    return {"INPUT_OUTPUT_GRADIENTS": np.asarray(gradients, float).reshape(np.shape(x_batch))}


def close(ours, theirs):
    """Sum of absolute differences as part of theirs."""
    return np.abs(np.asarray(ours) - theirs).sum() / np.abs(theirs).sum()


def test_the_blur_is_scipys_and_its_derivative_the_difference():
    from scipy import ndimage

    blur, slope = blur_matrices(8, 1.5, 3.0)
    line = IMAGES[0, :, 0, 0]
    expected = ndimage.gaussian_filter(line, 1.5, mode="constant", truncate=12)
    np.testing.assert_allclose(blur @ line, expected, rtol=1e-4)
    difference = (blur_matrices(8, 1.51, 3.0)[0] - blur_matrices(8, 1.49, 3.0)[0]) / 0.02
    np.testing.assert_allclose(slope, difference, atol=1e-4)


def test_blur_ig_is_complete():
    attributions, error = explain.blur_ig(smooth, PARAMS, IMAGES, 1, steps=60, sigma=4.0)
    assert attributions.shape == (3, 8, 6) and attributions.dtype == jnp.float32
    assert float(error.max()) < 1e-3
    rough = explain.blur_ig(smooth, PARAMS, IMAGES, 1, steps=4, sigma=4.0)[1]
    assert float(rough.max()) > float(error.max())


def test_guided_ig_is_complete_the_more_steps_it_takes():
    errors = [
        float(explain.guided_ig(smooth, PARAMS, IMAGES, 1, steps=steps)[1].max())
        for steps in (10, 200)
    ]
    assert errors[1] < 0.05 and errors[1] < errors[0] / 4


def test_a_linear_model_is_shared_out_exactly_by_guided_ig():
    attributions, error = explain.guided_ig(linear, WEIGHTS, IMAGES, 1, steps=10)
    expected = (IMAGES / 255 * WEIGHTS[:, 1].reshape(8, 6, 2)).sum(-1)
    np.testing.assert_allclose(attributions, expected, rtol=1e-4, atol=1e-5)
    assert float(error.max()) < 1e-3


@pytest.mark.parametrize("method", [explain.blur_ig, explain.guided_ig])
def test_the_memory_budget_changes_no_value(method):
    results = [
        method(smooth, PARAMS, IMAGES, 1, steps=5, memory_budget=budget) for budget in (None, 1)
    ]
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-3, atol=1e-5)


def test_what_has_no_way_is_refused():
    with pytest.raises(ValueError, match="a blur needs images"):
        explain.blur_ig(linear, WEIGHTS, np.zeros((2, 96)), 1)
    with pytest.raises(ValueError, match="sigma must be above 0"):
        explain.blur_ig(smooth, PARAMS, IMAGES, 1, sigma=0)
    with pytest.raises(ValueError, match="fraction must be"):
        explain.guided_ig(smooth, PARAMS, IMAGES, 1, fraction=0)


def test_pairs_blur_ig_comes_near_with_many_steps():
    # PAIR: left sums, finite differences, a blur cut off at 4 sigma; hence not to 1e-4.
    saliency = pytest.importorskip("saliency.core", reason="PAIR saliency is not installed")
    theirs = saliency.BlurIG().GetMask(
        IMAGES[0], call, max_sigma=4, steps=200, grad_step=1e-3, batch_size=50
    )
    ours, _ = explain.blur_ig(smooth, PARAMS, IMAGES[:1], 1, steps=60, sigma=4.0)
    assert close(ours[0], theirs.sum(-1)) < 0.05


def test_pairs_guided_ig_agrees(monkeypatch):
    saliency = pytest.importorskip("saliency.core", reason="PAIR saliency is not installed")
    # PAIR 0.2.1 calls NumPy by a name that NumPy 2.4 no longer has.
    monkeypatch.setattr(
        np, "quantile", lambda a, q, interpolation, old=np.quantile: old(a, q, method=interpolation)
    )
    options = {"fraction": 0.25, "max_dist": 0.1}
    theirs = saliency.GuidedIG().GetMask(
        IMAGES[0].astype(float), call, x_baseline=np.zeros((8, 6, 2)), x_steps=20, **options
    )
    ours, _ = explain.guided_ig(
        smooth, PARAMS, IMAGES[:1], 1, steps=20, fraction=0.25, distance=0.1
    )
    assert close(ours[0], theirs.sum(-1)) < 1e-3
