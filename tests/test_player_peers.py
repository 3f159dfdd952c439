"""Occlusion and Shapley values against captum and shap on shared weights, where they are there."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain

pytestmark = pytest.mark.filterwarnings("ignore")  # what the peers deprecate is theirs

RNG = np.random.default_rng(11)
HIDDEN = (RNG.normal(size=(16, 8)) * 0.5).astype(np.float32)
HEAD = RNG.normal(size=(8, 3)).astype(np.float32)
X = RNG.normal(size=(3, 4, 4)).astype(np.float32)
START = RNG.normal(size=(3, 4, 4)).astype(np.float32)
GROUPS = np.repeat(np.arange(8), 2).reshape(4, 4)
"""Eight players of two values, the like of fields in packets."""


def peer(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)


def network(params, x):
    return jnp.tanh(x.reshape(len(x), -1) @ params[0]) @ params[1]


def ours(method, players=8, **options):
    groups = GROUPS * players // 8
    found = method(network, (HIDDEN, HEAD), X, groups, 1, baseline=START, **options)
    return np.asarray(getattr(found, "values", found))


@pytest.fixture
def captum():
    torch, attr = peer("torch"), peer("captum.attr")
    hidden, head = torch.tensor(HIDDEN), torch.tensor(HEAD)
    forward = lambda x: torch.tanh(x.reshape(len(x), -1) @ hidden) @ head  # noqa: E731

    def explained(name, players=8, **options):
        mask = torch.tensor(GROUPS * players // 8)[None]
        method = getattr(attr, name)(forward)
        options = {"target": 1, "feature_mask": mask, "baselines": torch.tensor(START), **options}
        maps = method.attribute(torch.tensor(X), **options).detach().numpy()
        return maps.reshape(3, -1)[:, :: 16 // players]  # every value has its player's

    return explained


def test_occlusion_is_captums_feature_ablation(captum):
    np.testing.assert_allclose(
        ours(explain.occlusion), captum("FeatureAblation"), rtol=1e-4, atol=1e-5
    )


def test_exact_values_are_captums_over_all_orders(captum):
    found = captum("ShapleyValues", 4)
    np.testing.assert_allclose(ours(explain.exact_shapley, 4), found, rtol=1e-4, atol=1e-5)


def test_captums_sampled_values_are_near_the_exact_ones(captum):
    # A sample of orders without error bars: far closer than the values differ, no more.
    exact = ours(explain.exact_shapley)
    found = captum("ShapleyValueSampling", n_samples=400)
    assert np.abs(found - exact).max() < 0.1 * np.ptp(exact)


def test_exact_values_are_those_of_shap_over_all_masks():
    shap = peer("shap")
    found = []
    for x, start in zip(X, START, strict=True):

        def logits(z, x=x, start=start):
            kept = np.asarray(z, bool)[:, GROUPS]
            return np.asarray(network((HIDDEN, HEAD), np.where(kept, x, start)))[:, 1]

        explainer = shap.KernelExplainer(logits, np.zeros((1, 8)), link="identity", silent=True)
        found.append(explainer.shap_values(np.ones((1, 8)), nsamples=1 << 10, silent=True)[0])
    np.testing.assert_allclose(ours(explain.exact_shapley), found, rtol=1e-4, atol=1e-5)
