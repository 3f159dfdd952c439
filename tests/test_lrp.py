"""Relevance propagation on functions whose relevance is known, and the laws that it keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from xai_traffic import explain
from xai_traffic.models import build
from xai_traffic.ops.convolution import direct_conv, gathered_conv, winograd_conv
from xai_traffic.ops.depthwise import grouped_depthwise, shifted_depthwise
from xai_traffic.ops.pooling import reduced_max_pool, sliced_max_pool

RNG = np.random.default_rng(7)
RULES = ("composite", "epsilon", "gamma", "alpha_beta")


def normal(*shape, scale=1.0):
    return (RNG.normal(size=shape) * scale).astype(np.float32)


CNN = {
    "conv": normal(3, 3, 2, 8, scale=0.3),
    "bias": normal(8, scale=0.1),
    "fc": normal(3 * 3 * 8, 6, scale=0.3),
    "fc_bias": normal(6, scale=0.1),
    "head": normal(6, 3),
    "head_bias": normal(3),
}
IMAGES = normal(4, 8, 8, 2)


def cnn(params, x):
    x = jax.nn.relu(direct_conv(x, params["conv"], 1, "VALID") + params["bias"])
    x = sliced_max_pool(x, 2, 2, "VALID").reshape(len(x), -1)
    x = jax.nn.relu(x @ params["fc"] + params["fc_bias"])
    return x @ params["head"] + params["head_bias"]


def parts(found):
    total = found.attributions.reshape(len(found.attributions), -1).sum(1)
    return np.asarray(total + found.biases + found.lost)


@pytest.mark.parametrize("rule", RULES)
def test_attributions_biases_and_the_lost_sum_to_the_logit(rule):
    found = explain.lrp(cnn, CNN, IMAGES, 1, rule=rule)
    logits = np.asarray(cnn(CNN, IMAGES))[:, 1]
    assert found.attributions.shape == (4, 8, 8) and found.biases.shape == (4,)
    np.testing.assert_allclose(parts(found), logits, rtol=1e-5, atol=1e-5)
    assert np.asarray(found.conservation_error).max() < 1e-5
    # Little is lost, but where alpha-beta has nobody to give a share.
    assert rule == "alpha_beta" or np.abs(found.lost).max() < 1e-4


@pytest.mark.parametrize("rule", RULES)
def test_without_biases_all_of_the_logit_reaches_the_input(rule):
    zero = {name: value * (0 if "bias" in name else 1) for name, value in CNN.items()}
    found = explain.lrp(cnn, zero, np.abs(IMAGES), 2, rule=rule)
    assert (np.asarray(found.biases) == 0).all()
    logits = np.asarray(cnn(zero, np.abs(IMAGES)))[:, 2]
    sums = np.asarray(found.attributions.sum((1, 2)) + found.lost)
    np.testing.assert_allclose(sums, logits, rtol=1e-5)


def test_small_epsilon_is_gradient_times_input_in_a_relu_network_with_biases():
    found = explain.lrp(cnn, CNN, IMAGES, rule="epsilon", epsilon=1e-12)
    expected = explain.gradient_x_input(cnn, CNN, IMAGES)
    np.testing.assert_allclose(found.attributions, expected, rtol=1e-4, atol=1e-5)
    large = explain.lrp(cnn, CNN, IMAGES, rule="epsilon", epsilon=1.0)
    assert np.abs(large.attributions).sum() < 0.8 * np.abs(expected).sum()
    np.testing.assert_allclose(parts(large), np.asarray(cnn(CNN, IMAGES)).max(1), rtol=1e-5)


def test_a_linear_model_is_explained_exactly():
    weights, bias = normal(5, 3), normal(3)
    x = normal(6, 5)
    f = lambda params, x: x @ params[0] + params[1]  # noqa: E731
    found = explain.lrp(f, (weights, bias), x, 2, rule="epsilon", epsilon=0.0)
    np.testing.assert_allclose(found.attributions, x * weights[:, 2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.biases, np.full(6, bias[2]), rtol=1e-5)


def test_gamma_and_alpha_beta_follow_their_formulas_on_signed_inputs():
    weights, bias, x = normal(9, 2), normal(2), normal(6, 9)
    f = lambda params, x: x @ params[0] + params[1]  # noqa: E731
    terms = np.concatenate([x * weights[:, 0], np.full((6, 1), bias[0])], 1).astype(np.float64)
    y = terms.sum(1, keepdims=True)
    assert (terms.max(1) > 0).all() and (terms.min(1) < 0).all()
    favoured = terms + 0.5 * terms * (np.sign(terms) == np.sign(y))
    expected = favoured / favoured.sum(1, keepdims=True) * y
    found = explain.lrp(f, (weights, bias), x, 0, rule="gamma", gamma=0.5, epsilon=0.0)
    np.testing.assert_allclose(found.attributions, expected[:, :-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.biases, expected[:, -1], rtol=1e-4, atol=1e-5)

    up, down = np.maximum(terms, 0), np.minimum(terms, 0)
    shares = (up / up.sum(1, keepdims=True), down / down.sum(1, keepdims=True))
    for alpha, beta in ((1, 0), (2, 1)):
        expected = (alpha * shares[0] - beta * shares[1]) * y
        found = explain.lrp(
            f, (weights, bias), x, 0, rule="alpha_beta", alpha=alpha, beta=beta, epsilon=0.0
        )
        np.testing.assert_allclose(found.attributions, expected[:, :-1], rtol=1e-4, atol=1e-5)


def headed(layer):
    """Return a network that begins with `layer`, sums it over all places and ends in a head."""

    def f(params, x):
        y = jax.nn.relu(layer(x, params["first"]) + params["bias"])
        return y.sum((1, 2)) @ params["head"]

    return f


def assert_alike(first, second, params, x, rule, rtol=2e-4):
    a, b = (explain.lrp(f, params, x, 1, rule=rule) for f in (first, second))
    scale = np.abs(b.attributions).max()
    np.testing.assert_allclose(a.attributions, b.attributions, rtol=rtol, atol=rtol * scale)
    np.testing.assert_allclose(a.biases, b.biases, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("rule, stride", [("epsilon", 1), ("gamma", 2), ("alpha_beta", 1)])
def test_shifted_views_are_the_grouped_convolution(rule, stride):
    params = {
        "first": normal(3, 3, 1, 4),
        "bias": normal(4, scale=0.1),
        "head": normal(4, 2),
    }
    x = normal(2, 9, 9, 4)
    grouped = headed(lambda x, kernel: grouped_depthwise(x, kernel, stride, "SAME"))
    whole = headed(lambda x, kernel: shifted_depthwise(x, kernel, stride, "SAME"))

    def inline(x, kernel):
        # Without the custom gradient: a bare chain of products and sums.
        return shifted_depthwise.__wrapped__(x, kernel, stride, "SAME")

    assert_alike(whole if rule == "gamma" else headed(inline), grouped, params, x, rule)
    if rule == "gamma":
        assert_alike(headed(inline), grouped, params, x, rule)


@pytest.mark.parametrize("other, rule", [(winograd_conv, "alpha_beta"), (gathered_conv, "gamma")])
def test_every_way_to_convolve_has_the_relevance_of_the_plain_one(other, rule):
    params = {
        "first": normal(3, 3, 3, 6, scale=0.3),
        "bias": normal(6, scale=0.1),
        "head": normal(6, 2),
    }
    plain = headed(lambda x, kernel: direct_conv(x, kernel, 1, "SAME"))
    if other is winograd_conv:
        layer = lambda x, kernel: winograd_conv(x, kernel, "SAME")  # noqa: E731
    else:
        layer = lambda x, kernel: gathered_conv(x, kernel, 1, "SAME")  # noqa: E731
    assert_alike(headed(layer), plain, params, normal(2, 7, 7, 3), rule)


@pytest.mark.parametrize("rule", ["epsilon", "gamma", "alpha_beta"])
def test_batch_normalisation_folds_into_the_layer_before_it(rule):
    mean, variance, scale, shift = normal(6), RNG.uniform(0.5, 2, 6), normal(6), normal(6)
    kernel, bias = normal(3, 3, 3, 6, scale=0.3), normal(6, scale=0.1)
    factor = scale * lax.rsqrt(np.float32(variance) + 1e-3)
    rest = {"head": normal(6, 2)}

    def explicit(x, first):
        y = direct_conv(x, first, 1, "SAME") + bias
        return (y - mean) * factor

    folded = headed(lambda x, first: direct_conv(x, first * factor, 1, "SAME"))
    apart = {**rest, "first": kernel, "bias": shift}
    together = {**rest, "first": kernel, "bias": shift + (bias - mean) * factor}
    x = normal(2, 7, 7, 3)
    a = explain.lrp(headed(explicit), apart, x, 1, rule=rule)
    b = explain.lrp(folded, together, x, 1, rule=rule)
    scale = np.abs(b.attributions).max()
    np.testing.assert_allclose(a.attributions, b.attributions, rtol=2e-4, atol=2e-4 * scale)
    np.testing.assert_allclose(a.biases, b.biases, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_both_maxima_choose_alike(padding):
    params = {"bias": 0.0, "first": None, "head": normal(3, 2)}
    sliced = headed(lambda x, _: sliced_max_pool(x, 3, 2, padding))
    reduced = headed(lambda x, _: reduced_max_pool(x, 3, 2, padding))
    assert_alike(sliced, reduced, params, normal(2, 8, 8, 3), "gamma")


@pytest.mark.parametrize("gate", [jax.nn.gelu, jax.nn.silu, jnp.tanh, jax.nn.leaky_relu])
def test_a_function_of_one_value_hands_on_everything(gate):
    weights, x = normal(5, 2), normal(6, 5)
    found = explain.lrp(lambda w, x: gate(x) @ w, weights, x, 0, rule="epsilon", epsilon=0.0)
    expected = np.asarray(gate(x)) * weights[:, 0]
    np.testing.assert_allclose(found.attributions, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(found.biases).max() < 1e-5


def test_what_a_function_has_at_zero_is_a_bias():
    weights, x = normal(5, 2), normal(6, 5) * np.array([1, 1, 1, 1, 1e-4], np.float32)
    found = explain.lrp(lambda w, x: jnp.cos(x) @ w, weights, x, 0, rule="epsilon", epsilon=0.0)
    expected = (np.cos(x.astype(np.float64)) - 1) * weights[:, 0]
    np.testing.assert_allclose(found.attributions, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.biases, np.full(6, weights[:, 0].sum()), rtol=1e-5)


def test_examples_keep_apart_and_memory_changes_nothing():
    whole = explain.lrp(cnn, CNN, IMAGES, rule="gamma")
    for part in (
        explain.lrp(cnn, CNN, IMAGES, rule="gamma", memory_budget=1),
        jax.tree.map(
            lambda *rows: np.concatenate(rows),
            *(explain.lrp(cnn, CNN, IMAGES[i : i + 1], rule="gamma") for i in range(4)),
        ),
    ):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), whole, part
        )


def test_what_has_no_rule_is_refused_by_name():
    def looped(params, x):
        return lax.scan(lambda carry, _: (jnp.tanh(carry), None), x, None, length=3)[0]

    with pytest.raises(ValueError, match="'scan'"):
        explain.lrp(looped, None, normal(2, 3), 0)
    with pytest.raises(ValueError, match="'log'"):
        explain.lrp(lambda _, x: jnp.log(x), None, np.abs(normal(2, 3)), 0)
    with pytest.raises(ValueError, match="rule 'zplus' is unknown"):
        explain.lrp(cnn, CNN, IMAGES, rule="zplus")
    with pytest.raises(ValueError, match="alpha must be beta"):
        explain.lrp(cnn, CNN, IMAGES, rule="alpha_beta", alpha=2, beta=2)


SMALL = {
    "vgg19": {"convolutions": (1, 1)},
    "xception": {"middle": 1, "entry": 1, "width": 0.0625},
}


@pytest.mark.parametrize("family, rule", [("vgg19", "epsilon"), ("xception", "composite")])
def test_the_convolutional_families_are_explained_through_apply(family, rule):
    model = build(family, 3, variant="debug", packets=8, **SMALL[family])
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: np.asarray(leaf) + rng.normal(scale=0.02, size=leaf.shape).astype("f4"),
        model.init(jax.random.key(0)),
    )
    x = rng.integers(0, 256, (2, 128, 128, 1)).astype(np.float32)
    found = explain.lrp(model.apply, variables, x, 1, rule=rule, epsilon=1e-12)
    logits = np.asarray(jax.jit(model.apply)(variables, x)[0])[:, 1]
    np.testing.assert_allclose(parts(found), logits, rtol=1e-3, atol=1e-4)
    assert (np.asarray(found.attributions)[:, model.extent[0] :] == 0).all()
    if rule == "epsilon":
        expected = np.asarray(explain.gradient_x_input(model.apply, variables, x, 1))
        # A few units stand so near to zero that rounding decides on their ReLU.
        wrong = np.abs(found.attributions - expected).sum()
        assert wrong < 0.01 * np.abs(expected).sum()
