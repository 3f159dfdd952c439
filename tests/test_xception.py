"""Xception: sizes, activations, taps, batch statistics, sharding (parity: test_keras_port)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from xai_traffic.errors import ConfigError
from xai_traffic.models import build


@pytest.fixture(scope="module")
def debug():
    """The debug variant with random bytes: model, variables, images, jitted training step."""
    model = build("xception", 4, variant="debug", entry=1, middle=0)
    images = np.random.default_rng(0).integers(0, 256, (16, 128, 128, 1), dtype=np.uint8)
    return model, model.init(jax.random.key(0)), images, jax.jit(model.apply_train)


def test_seed_has_the_parameters_of_the_study():
    model = build("xception", 19, channels=3)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert round(sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) / 1e4) == 2085
    assert shapes["params"]["block14_sepconv2"]["pointwise_kernel"].shape == (1, 1, 1536, 2048)
    images = jax.ShapeDtypeStruct((2, 128, 128, 1), jnp.uint8)
    logits, activations = jax.eval_shape(model.apply, shapes, images)
    assert logits.shape == (2, 19) and activations["last"].shape == (2, 4, 4, 2048)
    assert set(activations) == {"stem", "last"} | {f"block{n}" for n in range(1, 15)}


def test_training_moves_the_statistics_by_the_whole_batch(debug):
    model, variables, images, step = debug
    logits, statistics = step(variables, images, jax.random.key(1))
    assert logits.shape == (16, 4) and logits.dtype == jnp.float32
    assert jax.tree.structure(statistics) == jax.tree.structure(variables["batch_stats"])
    activations = jax.eval_shape(model.apply, variables, images)[1]
    assert activations["last"].shape == (16, 4, 16, 128) and model.extent == (32, 128)

    kernel = variables["params"]["block1_conv1"]["kernel"]
    x = images[:, :32].astype(np.float32) / 127.5 - 1
    x = jax.lax.conv_general_dilated(
        x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    moved = statistics["block1_conv1_bn"]
    np.testing.assert_allclose(moved["mean"], 0.01 * x.mean((0, 1, 2)), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(moved["var"], 0.99 + 0.01 * x.var((0, 1, 2)), rtol=1e-4)


def test_sharded_batch_gives_the_same_statistics(debug):
    model, variables, images, step = debug
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    spread = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    one, statistics = step(variables, images, jax.random.key(1))
    other, again = step(spread, split, jax.random.key(1))
    np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-4)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), statistics, again
    )


def test_gradient_at_last_is_that_of_a_zero_tap(debug):
    model, variables, images, _ = debug

    @jax.jit
    def at_tap(x):
        def score(tap):
            logits, activations = model.apply(variables, x, {"last": tap})
            return logits[:, 2].sum(), activations["last"]

        shape = jax.eval_shape(model.apply, variables, x)[1]["last"].shape
        return jax.grad(score, has_aux=True)(jnp.zeros(shape))

    gradient, last = at_tap(images[:2])
    # Under a global mean and a linear head it is the head's column, shared by the positions.
    column = variables["params"]["predictions"]["kernel"][:, 2] / (last.shape[1] * last.shape[2])
    np.testing.assert_allclose(gradient, np.broadcast_to(column, last.shape), rtol=1e-5)


def test_sizes_that_mean_nothing_are_refused():
    for change, message in (
        ({"middle": 9}, "middle"),
        ({"width": 0}, "width"),
        ({"head": "x"}, "head"),
    ):
        with pytest.raises(ConfigError, match=message):
            build("xception", 2, **change)
