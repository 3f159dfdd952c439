"""Attention maps of a small transformer-like function whose attention is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain

LAYERS, HEADS, TOKENS = 3, 2, 64


def transformer(params, x, taps=None):
    """Attention matrices that depend on the tile means of the image, in known form."""
    b = x.shape[0]
    tiles = x[..., 0].reshape(b, x.shape[1] // 16, 16, x.shape[2] // 16, 16).mean((2, 4))
    tokens = jnp.concatenate([jnp.ones((b, 1)), tiles.reshape(b, -1) / 255], 1)
    activations = {}
    for layer in range(LAYERS):
        scale = params[layer][:, None, None]
        scores = scale * (tokens[:, None, :, None] - 0.3) * tokens[:, None, None, :]
        activations[f"attention_{layer:02d}"] = jax.nn.softmax(scores, axis=-1)
    return jnp.stack([tokens.sum(1), tokens[:, 1]], 1), {**activations, "last": tiles[..., None]}


PARAMS = np.random.default_rng(3).normal(size=(LAYERS, HEADS)).astype(np.float32) * 5
IMAGES = np.random.default_rng(4).integers(0, 256, (3, 128, 128, 1)).astype(np.float32)


def test_every_layer_and_head_is_shown():
    result = explain.attention(transformer, PARAMS, IMAGES)
    assert result.shape == (3, LAYERS, HEADS, 8, 8) and result.dtype == jnp.float32
    activations = transformer(PARAMS, IMAGES)[1]
    for layer in range(LAYERS):
        expected = activations[f"attention_{layer:02d}"][:, :, 0, 1:].reshape(3, HEADS, 8, 8)
        np.testing.assert_allclose(result[:, layer], expected, rtol=1e-6)
    # What is missing to 1 is the class token's own.
    own = activations["attention_00"][:, :, 0, 0]
    np.testing.assert_allclose(result[:, 0].sum((2, 3)), 1 - own, rtol=1e-5)


def test_rollout_is_the_papers_product():
    result = np.asarray(explain.attention_rollout(transformer, PARAMS, IMAGES))
    activations = transformer(PARAMS, IMAGES)[1]
    for row in range(3):
        flow = np.eye(TOKENS + 1)
        for layer in range(LAYERS):
            mean = np.asarray(activations[f"attention_{layer:02d}"][row], np.float64).mean(0)
            flow = (0.5 * mean + 0.5 * np.eye(TOKENS + 1)) @ flow
        np.testing.assert_allclose(result[row, ::16, ::16].ravel(), flow[0, 1:], rtol=1e-4)
    blocks = result.reshape(3, 8, 16, 8, 16)
    assert (blocks == blocks[:, :, :1, :, :1]).all()


def test_a_model_of_fewer_packets_leaves_the_rest_dark():
    def first_rows(params, x, taps=None):
        return transformer(params, x[:, :32], taps)

    raw = explain.attention(first_rows, PARAMS, IMAGES, extent=(32, 128))
    assert raw.shape == (3, LAYERS, HEADS, 2, 8)
    rolled = np.asarray(explain.attention_rollout(first_rows, PARAMS, IMAGES, extent=(32, 128)))
    assert rolled.shape == (3, 128, 128)
    assert (rolled[:, 32:] == 0).all() and (rolled[:, :32] > 0).all()


def test_small_memory_gives_the_same_values():
    np.testing.assert_allclose(
        explain.attention(transformer, PARAMS, IMAGES),
        explain.attention(transformer, PARAMS, IMAGES, memory_budget=1),
        rtol=1e-6,
    )


def test_layers_are_named_in_order_and_others_have_none():
    assert explain.attention_layers(transformer, PARAMS, IMAGES) == (
        "attention_00",
        "attention_01",
        "attention_02",
    )
    plain = lambda params, x: x.mean((1, 2))  # noqa: E731
    assert explain.attention_layers(plain, None, IMAGES) == ()
    with pytest.raises(ValueError, match="no transformer"):
        explain.attention(plain, None, IMAGES)
    with pytest.raises(ValueError, match="images"):
        explain.attention(transformer, PARAMS, IMAGES[..., 0])
