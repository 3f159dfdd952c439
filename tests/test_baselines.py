"""Baselines made from data, against NumPy and SciPy, and handed to Integrated Gradients."""

import numpy as np
import pytest
from scipy import ndimage

from xai_traffic import explain

IMAGES = np.random.default_rng(1).integers(0, 256, (3, 8, 6, 2)).astype(np.float32)


def linear(params, x):
    return x.reshape(x.shape[0], -1) @ params


def test_both_are_baselines_of_integrated_gradients():
    weights = np.random.default_rng(2).normal(size=(96, 2)).astype(np.float32)
    mean, blurred = explain.mean_baseline(IMAGES), explain.blurred_baselines(IMAGES, 1.5)
    np.testing.assert_allclose(mean, IMAGES.mean(0)[None], rtol=1e-6)
    expected = ndimage.gaussian_filter(IMAGES, (0, 1.5, 1.5, 0), mode="constant", truncate=12)
    np.testing.assert_allclose(blurred[:, 0], expected, rtol=1e-4, atol=1e-4)
    for baselines, start in ((mean, np.asarray(mean)), (blurred, np.asarray(blurred)[:, 0])):
        found, _ = explain.integrated_gradients(
            linear, weights, IMAGES, 1, steps=2, baselines=baselines
        )
        by_hand = ((IMAGES - start) * weights[:, 1].reshape(8, 6, 2)).sum(-1)
        np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-2)


def test_what_cannot_be_blurred_is_refused():
    with pytest.raises(ValueError, match="a blur needs images"):
        explain.blurred_baselines(np.zeros((2, 9)))
    with pytest.raises(ValueError, match="sigma must be above 0"):
        explain.blurred_baselines(IMAGES, 0)
