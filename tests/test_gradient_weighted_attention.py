"""Gradient-weighted attention on a transformer-like function, against its formula in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain
from xai_traffic.models import build

LAYERS, HEADS, TOKENS, WIDTH = 3, 2, 64, 4
RNG = np.random.default_rng(9)
PARAMS = {
    "embed": RNG.normal(size=(3, WIDTH)).astype(np.float32),
    "keys": RNG.normal(size=(LAYERS, HEADS, WIDTH, WIDTH)).astype(np.float32),
    "values": RNG.normal(size=(LAYERS, HEADS, WIDTH, WIDTH)).astype(np.float32) * 0.5,
    "head": RNG.normal(size=(WIDTH, 3)).astype(np.float32),
}
IMAGES = RNG.integers(0, 256, (3, 128, 128, 1)).astype(np.float32)


def transformer(params, x, taps=None):
    b = x.shape[0]
    tiles = x[..., 0].reshape(b, x.shape[1] // 16, 16, x.shape[2] // 16, 16) / 255
    mean = tiles.mean((2, 4)).reshape(b, -1)
    features = jnp.stack(
        [mean, tiles.max((2, 4)).reshape(b, -1), tiles[:, :, 0, :, 0].reshape(b, -1)], -1
    )
    tokens = jnp.concatenate([jnp.ones((b, 1, WIDTH)), features @ params["embed"]], 1)
    activations = {}
    for layer in range(LAYERS):
        name = f"attention_{layer:02d}"
        scores = jnp.einsum("btc,hcd,bsd->bhts", tokens, params["keys"][layer], tokens)
        activations[name] = jax.nn.softmax(scores, axis=-1) + (taps or {}).get(name, 0)
        mixed = jnp.einsum("bhts,bsc,hcd->btd", activations[name], tokens, params["values"][layer])
        tokens = jnp.tanh(tokens + mixed)
    return tokens[:, 0] @ params["head"], activations


def by_formula(params, images, target):
    """Return [B, TOKENS], by the rule of the paper, in float64."""
    names = [f"attention_{layer:02d}" for layer in range(LAYERS)]
    attention = {name: np.asarray(transformer(params, images)[1][name]) for name in names}
    zeros = {name: jnp.zeros_like(value) for name, value in attention.items()}
    slopes = jax.grad(lambda taps: transformer(params, images, taps)[0][:, target].sum())(zeros)
    rows = []
    for row in range(len(images)):
        relevance = np.eye(attention[names[0]].shape[-1])
        for name in names:
            product = np.float64(slopes[name][row]) * attention[name][row]
            relevance = relevance + np.maximum(product, 0).mean(0) @ relevance
        rows.append(relevance[0, 1:])
    return np.stack(rows)


def test_it_is_the_papers_formula():
    result = np.asarray(explain.gradient_weighted_attention(transformer, PARAMS, IMAGES, 1))
    assert result.shape == (3, 128, 128) and result.dtype == np.float32
    expected = by_formula(PARAMS, IMAGES, 1).reshape(3, 8, 8)
    np.testing.assert_allclose(
        result[:, ::16, ::16], expected, rtol=1e-4, atol=1e-5 * expected.max()
    )
    blocks = result.reshape(3, 8, 16, 8, 16)
    assert (blocks == blocks[:, :, :1, :, :1]).all() and (result >= 0).all()


def test_classes_differ_and_none_is_the_highest_logit():
    best = np.asarray(transformer(PARAMS, IMAGES)[0]).argmax(1).astype(np.int32)
    by_default = np.asarray(explain.gradient_weighted_attention(transformer, PARAMS, IMAGES))
    named = explain.gradient_weighted_attention(transformer, PARAMS, IMAGES, best)
    np.testing.assert_array_equal(by_default, named)
    other = explain.gradient_weighted_attention(transformer, PARAMS, IMAGES, (best + 1) % 3)
    assert not np.allclose(by_default, other, rtol=1e-2)
    small = explain.gradient_weighted_attention(transformer, PARAMS, IMAGES, memory_budget=1)
    np.testing.assert_allclose(by_default, small, rtol=1e-4, atol=1e-7)


def test_a_model_of_fewer_packets_leaves_the_rest_dark():
    def first_rows(params, x, taps=None):
        return transformer(params, x[:, :32], taps)

    result = explain.gradient_weighted_attention(first_rows, PARAMS, IMAGES, 0, extent=(32, 128))
    whole = explain.gradient_weighted_attention(transformer, PARAMS, IMAGES[:, :32], 0)
    assert (np.asarray(result)[:, 32:] == 0).all()
    np.testing.assert_allclose(result[:, :32], whole, rtol=1e-6)


def test_the_vision_transformer_is_explained_through_apply():
    model = build("vit", 3, variant="debug", packets=8, depth=1, frequencies=1)
    variables = jax.tree.map(
        lambda leaf: np.asarray(leaf) + RNG.normal(scale=0.05, size=leaf.shape).astype("f4"),
        model.init(jax.random.key(0)),
    )
    found = explain.attribute(
        "gradient_weighted_attention", model.apply, variables, IMAGES, 2, extent=model.extent
    )
    maps = np.asarray(found.attributions)
    assert (maps[:, :16] >= 0).all() and maps.max() > 0 and (maps[:, 16:] == 0).all()


def test_other_models_are_refused():
    plain = lambda params, x, taps=None: x.mean((1, 2))  # noqa: E731
    with pytest.raises(ValueError, match="no transformer"):
        explain.gradient_weighted_attention(plain, None, IMAGES, 0)
    with pytest.raises(ValueError, match="images"):
        explain.gradient_weighted_attention(transformer, PARAMS, IMAGES[..., 0], 0)
