"""Integrated Gradients: completeness, quadrature, baselines, chunks, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain
from xai_traffic.explain import model_function
from xai_traffic.explain.integrated_gradients import RULES, quadrature

RNG = np.random.default_rng(1)


def smooth(params, x):
    """Two layers with tanh: smooth, so Gauss-Legendre is exact to float32."""
    hidden = jnp.tanh(x.reshape(x.shape[0], -1) / 255 @ params["in"])
    return hidden @ params["out"], {"hidden": hidden}


PARAMS = {
    "in": (RNG.normal(size=(6 * 4 * 2, 16)) * 0.4).astype(np.float32),
    "out": RNG.normal(size=(16, 3)).astype(np.float32),
}
IMAGES = RNG.integers(0, 256, (4, 6, 4, 2)).astype(np.float32)


def cubic(params, x):
    return (params * x**3).sum(1, keepdims=True) * jnp.array([1.0, -1.0])


@pytest.mark.parametrize("rule", RULES)
def test_weights_sum_to_one_and_nodes_lie_within(rule):
    for steps in (1, 2, 50):
        nodes, weights = quadrature(rule, steps)
        assert len(nodes) == steps + (rule == "trapezoid")
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        assert (np.diff(nodes) > 0).all() and nodes[0] >= 0 and nodes[-1] <= 1


def test_the_integral_of_a_cube_is_the_cube():
    params, x = np.array([[1.0, -2.0]], np.float32), np.array([[2.0, 3.0]], np.float32)
    # Two Gauss nodes integrate polynomials up to degree 3 exactly; the gradient has degree 2.
    attributions, error = explain.integrated_gradients(cubic, params, x, 0, steps=2)
    np.testing.assert_allclose(attributions, [[8.0, -54.0]], rtol=1e-5)
    assert error.shape == (1,) and float(error[0]) < 1e-4
    attributions, error = explain.integrated_gradients(
        cubic, params, x, 0, steps=10, rule="trapezoid"
    )
    # h^2/6 of the derivative's rise: known error of the trapezoid.
    np.testing.assert_allclose(attributions, [[8.0 * 1.005, -54.0 * 1.005]], rtol=1e-5)
    np.testing.assert_allclose(error, [46.0 * 0.005], rtol=1e-3)


def test_gauss_legendre_is_complete_and_ahead_of_the_others():
    errors = {
        rule: explain.integrated_gradients(smooth, PARAMS, IMAGES, steps=20, rule=rule)[1].max()
        for rule in RULES
    }
    assert errors["gauss_legendre"] < 1e-5
    assert errors["gauss_legendre"] < errors["midpoint"] < errors["trapezoid"]


def test_sums_are_the_rise_of_the_logit():
    target = np.array([0, 1, 2, 1], np.int32)
    attributions, error = explain.integrated_gradients(smooth, PARAMS, IMAGES, target)
    assert attributions.shape == (4, 6, 4) and attributions.dtype == jnp.float32
    high, low = smooth(PARAMS, IMAGES)[0], smooth(PARAMS, 0 * IMAGES)[0]
    rise = np.asarray(high - low)[np.arange(4), target]
    np.testing.assert_allclose(attributions.sum((1, 2)), rise, atol=1e-5)
    np.testing.assert_allclose(error, np.abs(attributions.sum((1, 2)) - rise), atol=1e-5)


def test_several_baselines_are_averaged():
    # As many as examples: they must not be taken for one each.
    baselines = RNG.uniform(0, 255, (4, 6, 4, 2)).astype(np.float32)
    together, error = explain.integrated_gradients(smooth, PARAMS, IMAGES, 1, baselines=baselines)
    apart = [
        explain.integrated_gradients(smooth, PARAMS, IMAGES, 1, baselines=baselines[k : k + 1])[0]
        for k in range(4)
    ]
    np.testing.assert_allclose(together, np.mean(apart, axis=0), atol=1e-5)
    assert float(error.max()) < 1e-4


def test_each_example_may_have_baselines_of_its_own():
    own = RNG.uniform(0, 255, (4, 2, 6, 4, 2)).astype(np.float32)
    together, error = explain.integrated_gradients(smooth, PARAMS, IMAGES, 1, baselines=own)
    assert float(error.max()) < 1e-4
    for row in range(4):
        alone, _ = explain.integrated_gradients(
            smooth, PARAMS, IMAGES[row : row + 1], 1, baselines=own[row]
        )
        np.testing.assert_allclose(together[row], alone[0], atol=1e-5)


@pytest.mark.parametrize("baselines", [None, "common", "own"])
def test_the_memory_budget_changes_no_value(baselines):
    shape = {"common": (2, 6, 4, 2), "own": (4, 2, 6, 4, 2)}.get(baselines)
    starts = None if shape is None else RNG.uniform(0, 255, shape).astype(np.float32)
    one = model_function.bytes_an_example(smooth, PARAMS, jnp.asarray(IMAGES))
    results = [
        explain.integrated_gradients(
            smooth, PARAMS, IMAGES, steps=30, baselines=starts, memory_budget=budget
        )
        for budget in (None, 1, 3 * one, 9 * one)
    ]
    for attributions, error in results:
        np.testing.assert_allclose(attributions, results[0][0], atol=1e-5)
        assert float(error.max()) < 1e-4


def test_the_seed_studys_variant_is_there():
    result = explain.attribute("integrated_gradients_seed", smooth, PARAMS, IMAGES, 1)
    starts = explain.uniform_baselines(IMAGES.shape[1:])
    assert starts.shape == (2, 6, 4, 2) and starts.min() >= 0 and 200 < starts.max() <= 255
    np.testing.assert_array_equal(starts, explain.uniform_baselines(IMAGES.shape[1:]))
    expected, error = explain.integrated_gradients(
        smooth, PARAMS, IMAGES, 1, steps=50, rule="trapezoid", baselines=starts
    )
    np.testing.assert_array_equal(result.attributions, expected)
    np.testing.assert_array_equal(result.completeness_error, error)


def test_no_chunk_compiles_anew():
    traced = 0

    def counted(params, x):
        nonlocal traced
        traced += 1
        return smooth(params, x)

    explain.integrated_gradients(counted, PARAMS, IMAGES, steps=60)
    before = traced
    explain.integrated_gradients(counted, PARAMS, IMAGES + 1, steps=60)
    assert traced - before <= 1
    assert before < 12


def test_what_cannot_be_integrated_is_refused():
    with pytest.raises(ValueError, match="choose one of"):
        explain.integrated_gradients(smooth, PARAMS, IMAGES, rule="simpson")
    with pytest.raises(ValueError, match="at least 1"):
        explain.integrated_gradients(smooth, PARAMS, IMAGES, steps=0)
    with pytest.raises(ValueError, match="baselines must have shape"):
        explain.integrated_gradients(smooth, PARAMS, IMAGES, baselines=np.zeros((6, 4, 2)))
    with pytest.raises(ValueError, match="baselines must have shape"):
        explain.integrated_gradients(smooth, PARAMS, IMAGES, baselines=np.zeros((3, 2, 6, 4, 2)))


def test_attributions_do_not_depend_on_the_rest_of_the_batch():
    whole, _ = explain.integrated_gradients(smooth, PARAMS, IMAGES, 1)
    alone, _ = explain.integrated_gradients(smooth, PARAMS, IMAGES[2:3], 1)
    np.testing.assert_allclose(whole[2], alone[0], atol=1e-6)
    assert jax.devices()[0].platform == "cpu"


def test_packets_that_vanish_are_a_jump_and_empty_packets_avoid_it():
    def leaves_empty_out(params, x):
        there = (x > 0).any((1, 2, 3))
        return jnp.where(there[:, None], smooth(params, x)[0] + 1.0, 0.0)

    _, error = explain.integrated_gradients(leaves_empty_out, PARAMS, IMAGES, 0, steps=20)
    assert float(error.min()) > 0.5
    attributions, error = explain.integrated_gradients(
        leaves_empty_out, PARAMS, IMAGES, 0, steps=20, baselines=explain.empty_packets(IMAGES)
    )
    assert float(error.max()) < 1e-4
    by_name = explain.attribute(
        "integrated_gradients", leaves_empty_out, PARAMS, IMAGES, 0, steps=20
    )
    np.testing.assert_array_equal(by_name.attributions, attributions)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("gauss_legendre", "gausslegendre"), ("trapezoid", "riemann_trapezoid")],
)
def test_captum_agrees_on_shared_weights(ours, theirs):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    inner, outer = (torch.tensor(PARAMS[name]) for name in ("in", "out"))
    method = attr.IntegratedGradients(
        lambda x: torch.tanh(x.reshape(x.shape[0], -1) / 255 @ inner) @ outer
    )
    found, gap = method.attribute(
        torch.tensor(IMAGES), target=1, n_steps=50, method=theirs, return_convergence_delta=True
    )
    # Of captum's 50 trapezoid nodes 49 intervals come, whose weights are 1 / 50 all the same.
    steps, scale = (49, 49 / 50) if ours == "trapezoid" else (50, 1.0)
    maps, error = explain.integrated_gradients(smooth, PARAMS, IMAGES, 1, steps=steps, rule=ours)
    expected = found.numpy().sum(-1)
    np.testing.assert_allclose(
        scale * maps, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
    )
    if scale == 1:
        np.testing.assert_allclose(error, np.abs(gap.numpy()), atol=1e-4)
