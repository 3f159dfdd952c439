"""SmoothGrad, VarGrad and the controls, against NumPy, closed forms and peers on one noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain
from xai_traffic.explain import model_function
from xai_traffic.explain.smoothing import noisy_copy

RNG = np.random.default_rng(3)
KEY = jax.random.key(7)
IMAGES = RNG.integers(0, 256, (3, 5, 4, 2)).astype(np.float32)
PARAMS = {
    "in": (RNG.normal(size=(40, 12)) * 0.4).astype(np.float32),
    "out": RNG.normal(size=(12, 3)).astype(np.float32),
}


def smooth(params, x):
    hidden = jnp.tanh(x.reshape(x.shape[0], -1) / 255 @ params["in"])
    return hidden @ params["out"]


def linear(params, x):
    return x.reshape(x.shape[0], -1) @ params


def copies(samples, noise):
    """All noisy copies, drawn one by one: [B, samples, ...]."""
    drawn = jax.vmap(
        lambda x, row: jax.vmap(lambda n: noisy_copy(KEY, x, row, n, noise))(jnp.arange(samples))
    )
    return np.array(jax.jit(drawn)(IMAGES, jnp.arange(len(IMAGES))))


def test_mean_and_variance_are_those_of_the_gradients_of_the_copies():
    points = copies(7, 0.2)
    gradients = np.stack(
        [explain.gradient(smooth, PARAMS, points[:, n].reshape(3, -1), 1) for n in range(7)], 1
    ).reshape(points.shape)
    mean = explain.smooth_grad(smooth, PARAMS, IMAGES, 1, rng=KEY, samples=7, noise=0.2)
    np.testing.assert_allclose(mean, gradients.mean(1).sum(-1), rtol=1e-4, atol=1e-8)
    variance = explain.var_grad(smooth, PARAMS, IMAGES, 1, rng=KEY, samples=7, noise=0.2)
    np.testing.assert_allclose(variance, gradients.var(1).sum(-1), rtol=1e-4, atol=1e-12)


def test_a_linear_model_has_its_weights_and_no_variance():
    weights = RNG.normal(size=(40, 2)).astype(np.float32)
    expected = np.tile(weights[:, 1].reshape(5, 4, 2).sum(-1), (3, 1, 1))
    result = explain.smooth_grad(linear, weights, IMAGES, 1, rng=KEY, samples=5)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    assert float(explain.var_grad(linear, weights, IMAGES, 1, rng=KEY, samples=5).max()) < 1e-10


def test_no_noise_is_the_gradient():
    plain = explain.gradient(smooth, PARAMS, IMAGES, 2)
    result = explain.smooth_grad(smooth, PARAMS, IMAGES, 2, rng=KEY, samples=3, noise=0.0)
    np.testing.assert_allclose(result, plain, rtol=1e-5, atol=1e-8)


def test_noise_is_a_share_of_each_examples_range():
    x = jnp.asarray(IMAGES[0]).at[0, 0, 0].set(0.0).at[0, 0, 1].set(200.0).clip(0, 200)
    drawn = np.array(jax.vmap(lambda n: noisy_copy(KEY, x, 0, n, 0.1) - x)(jnp.arange(60)))
    assert drawn.std() == pytest.approx(20, rel=0.05) and abs(drawn.mean()) < 2


@pytest.mark.parametrize("method", [explain.smooth_grad, explain.var_grad])
def test_the_memory_budget_changes_no_value(method):
    one = model_function.bytes_an_example(smooth, PARAMS, jnp.asarray(IMAGES))
    results = [
        method(smooth, PARAMS, IMAGES, 1, rng=KEY, samples=11, memory_budget=budget)
        for budget in (None, 2 * one)
    ]
    assert results[0].shape == (3, 5, 4) and results[0].dtype == jnp.float32
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-4, atol=1e-8)


def test_another_key_gives_other_noise_and_the_same_key_the_same():
    draw = lambda key: explain.smooth_grad(smooth, PARAMS, IMAGES, 0, rng=key, samples=3)  # noqa: E731
    np.testing.assert_array_equal(draw(KEY), draw(KEY))
    assert np.abs(draw(KEY) - draw(jax.random.key(8))).max() > 0


def test_what_cannot_be_sampled_is_refused():
    with pytest.raises(ValueError, match="samples must be at least 1"):
        explain.smooth_grad(smooth, PARAMS, IMAGES, rng=KEY, samples=0)
    with pytest.raises(ValueError, match="noise must not be negative"):
        explain.var_grad(smooth, PARAMS, IMAGES, rng=KEY, noise=-0.1)


def test_random_attributions_know_only_the_shape():
    drawn = explain.random_attributions(IMAGES, rng=KEY)
    assert drawn.shape == (3, 5, 4) and drawn.dtype == jnp.float32
    np.testing.assert_array_equal(drawn, explain.random_attributions(0 * IMAGES, rng=KEY))
    np.testing.assert_array_equal(drawn[:2], explain.random_attributions(IMAGES[:2], rng=KEY))
    many = explain.random_attributions(np.zeros((4, 64, 64, 1)), rng=KEY)
    assert abs(float(many.mean())) < 0.05 and float(many.std()) == pytest.approx(1, abs=0.05)


def test_edges_are_scipys():
    from scipy import ndimage

    expected = sum(
        np.stack([np.hypot(*(ndimage.sobel(x, axis, mode="nearest") for axis in (0, 1)))])[0]
        for x in np.moveaxis(IMAGES, -1, 0)[:, 0]
    )
    np.testing.assert_allclose(explain.edges(IMAGES)[0], expected, rtol=1e-5)
    assert float(explain.edges(np.full((1, 5, 4, 1), 9.0)).max()) == 0
    with pytest.raises(ValueError, match="edges need images"):
        explain.edges(np.zeros((2, 7)))


def torch_twin():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    inner, outer = (torch.tensor(PARAMS[name]) for name in ("in", "out"))
    return torch, lambda x: torch.tanh(x.reshape(x.shape[0], -1) / 255 @ inner) @ outer


def test_captums_noise_tunnel_agrees_on_the_same_noise(monkeypatch):
    torch, twin = torch_twin()
    attr = pytest.importorskip("captum.attr", reason="captum is not installed")
    points = copies(6, 0.15)
    tunnel = attr.NoiseTunnel(attr.Saliency(twin))
    # The tunnel draws its own noise: it is handed ours where it would.
    monkeypatch.setattr(
        torch, "normal", lambda _, std: torch.tensor(points - IMAGES[:, None]).reshape(std.shape)
    )
    kinds = {"smoothgrad": explain.smooth_grad, "vargrad": explain.var_grad}
    for kind, method in kinds.items():
        theirs = tunnel.attribute(
            torch.tensor(IMAGES), nt_type=kind, nt_samples=6, stdevs=1.0, target=1, abs=False
        )
        ours = method(smooth, PARAMS, IMAGES, 1, rng=KEY, samples=6)
        np.testing.assert_allclose(ours, theirs.numpy().sum(-1), rtol=1e-3, atol=1e-8)


def test_pair_saliency_agrees_on_the_same_noise(monkeypatch):
    saliency = pytest.importorskip("saliency.core", reason="PAIR saliency is not installed")
    drawn = iter(copies(6, 0.15)[0] - IMAGES[0])
    monkeypatch.setattr(np.random, "normal", lambda mean, deviation, shape: next(drawn))

    def call(x_batch, call_model_args=None, expected_keys=None):
        gradients = explain.gradient(smooth, PARAMS, np.reshape(x_batch, (len(x_batch), -1)), 1)
        return {"INPUT_OUTPUT_GRADIENTS": np.reshape(gradients, np.shape(x_batch))}

    theirs = saliency.GradientSaliency().GetSmoothedMask(
        IMAGES[0], call, stdev_spread=0.15, nsamples=6, magnitude=False
    )
    ours = explain.smooth_grad(smooth, PARAMS, IMAGES[:1], 1, rng=KEY, samples=6)
    np.testing.assert_allclose(ours[0], theirs.sum(-1), rtol=1e-4, atol=1e-8)
