"""VGG-19: sizes, activations, taps (parity: test_keras_port)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic.errors import ConfigError
from xai_traffic.models import build


def test_seed_has_the_parameters_of_the_study():
    model = build("vgg19", 19, channels=3)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert set(shapes) == {"params"}
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 70_442_067
    images = jax.ShapeDtypeStruct((2, 128, 128, 1), jnp.float32)
    logits, activations = jax.eval_shape(model.apply, shapes, images)
    assert logits.shape == (2, 19) and logits.dtype == jnp.float32
    assert activations["last"].shape == (2, 8, 8, 512)
    assert activations["block5"].shape == (2, 4, 4, 512)


def test_normalised_variant_trains_without_convolution_bias():
    model = build("vgg19", 3, variant="debug", convolutions=[1, 1], dropout=0.5)
    variables = model.init(jax.random.key(0))
    assert "bias" not in variables["params"]["block1_conv1"]
    images = np.random.default_rng(0).integers(0, 256, (4, 128, 128, 1), dtype=np.uint8)
    step = jax.jit(model.apply_train)
    logits, statistics = step(variables, images, jax.random.key(1))
    assert (logits != step(variables, images, jax.random.key(2))[0]).any()
    assert (statistics["block1_conv1_bn"]["mean"] != 0).any()


def test_gradient_at_a_tap_agrees_with_differences():
    model = build(
        "vgg19", 3, variant="debug", convolutions=[1, 1], normalise=False, hidden=[], packets=8
    )
    variables = model.init(jax.random.key(0))
    images = np.random.default_rng(1).integers(0, 256, (2, 128, 128, 1)).astype(np.float32)
    zeros = jnp.zeros(jax.eval_shape(model.apply, variables, images)[1]["block2"].shape)

    @jax.jit
    def score(tap):
        return model.apply(variables, images, {"block2": tap})[0][:, 1].sum()

    gradient = jax.jit(jax.grad(score))(zeros)
    way = np.random.default_rng(2).normal(size=zeros.shape).astype(np.float32)
    expected = (score(way) - score(-way)) / 2  # linear after the last block
    np.testing.assert_allclose((gradient * way).sum(), expected, rtol=1e-3)


def test_too_few_packets_for_the_poolings_are_refused():
    assert build("vgg19", 2, packets=16).extent == (32, 128)
    with pytest.raises(ConfigError, match="leave nothing after 5 poolings"):
        build("vgg19", 2, packets=8)
