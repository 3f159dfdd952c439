"""Formulations of ops/ against XLA's own, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic.capture.images import images_of
from xai_traffic.ops import depthwise, pooling
from xai_traffic.ops.attention import attention, library_attention
from xai_traffic.ops.tiles import gather_tiles, images_from_tiles, tiles_from_images


def test_pixel_is_the_byte_the_design_names():
    tiles = np.random.default_rng(0).integers(0, 256, (2, 64, 256), dtype=np.uint8)
    images = np.asarray(jax.jit(images_from_tiles)(tiles))
    assert images.shape == (2, 128, 128, 1) and images.dtype == np.float32
    y, x = np.mgrid[:128, :128]
    packet, byte = (y // 16) * 8 + x // 16, (y % 16) * 16 + x % 16
    np.testing.assert_array_equal(images[..., 0], tiles[:, packet, byte])


def test_tiles_and_images_are_inverses():
    rng = np.random.default_rng(1)
    tiles = rng.random((3, 64, 256), dtype=np.float32)
    np.testing.assert_array_equal(jax.jit(tiles_from_images)(images_from_tiles(tiles)), tiles)
    part = rng.integers(0, 256, (2, 32, 128, 1), dtype=np.uint8)
    assert tiles_from_images(part).shape == (2, 16, 256)
    assert tiles_from_images(part).dtype == jnp.uint8
    np.testing.assert_array_equal(tiles_from_images(part)[:, 9, 17], part[:, 17, 17, 0])


def test_images_of_tiles_on_the_device_are_those_of_the_host():
    rng = np.random.default_rng(2)
    count = np.array([3, 0, 64, 1, 64], np.int32)
    tiles = rng.integers(1, 256, (count.sum(), 256), np.uint8)
    first = (np.cumsum(count) - count).astype(np.int32)
    first[1] = 10_000  # of no tiles
    chosen = np.array([4, 1, 0, 2, 3, 3])
    dense = jax.jit(gather_tiles)(jax.device_put(tiles), first[chosen], count[chosen])
    assert dense.shape == (6, 64, 256) and dense.dtype == jnp.uint8
    made = images_from_tiles(dense)
    assert made.shape == (6, 128, 128, 1) and made.dtype == jnp.float32
    np.testing.assert_array_equal(made[..., 0], images_of(tiles, first[chosen], count[chosen]))


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match="tiles must be"):
        images_from_tiles(np.zeros((2, 64, 255), np.uint8))
    with pytest.raises(ValueError, match="multiples of 16"):
        tiles_from_images(np.zeros((2, 28, 28, 1), np.uint8))
    with pytest.raises(ValueError, match="kernel must be"):
        depthwise.depthwise_conv(jnp.zeros((1, 8, 8, 4)), jnp.zeros((3, 3, 4, 1)))


CASES = [(1, "SAME", 9, 8), (2, "SAME", 9, 8), (2, "SAME", 8, 5), (1, "VALID", 7, 11)]
CASES += [(2, "VALID", 8, 7), (2, "VALID", 19, 6)]


@pytest.mark.parametrize(("stride", "padding", "height", "width"), CASES)
def test_shifted_depthwise_equals_grouped(stride, padding, height, width):
    rng = np.random.default_rng(2)
    x = jnp.asarray(rng.normal(size=(3, height, width, 6)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(3, 3, 1, 6)), jnp.float32)

    def run(function):
        @jax.jit
        def value_and_gradients(x, kernel):
            y, pull = jax.vjp(lambda x, k: function(x, k, stride, padding), x, kernel)
            return y, pull(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))

        return jax.tree.leaves(value_and_gradients(x, kernel))

    for ours, theirs in zip(
        run(depthwise.shifted_depthwise), run(depthwise.grouped_depthwise), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_depthwise_keeps_low_precision_dtypes():
    x, kernel = jnp.ones((1, 4, 4, 2), jnp.bfloat16), jnp.ones((3, 3, 1, 2), jnp.float32)

    def value_and_gradients(x, kernel):
        y, pull = jax.vjp(depthwise.depthwise_conv, x, kernel)
        return y, *pull(y)

    dtypes = [leaf.dtype for leaf in jax.eval_shape(value_and_gradients, x, kernel)]
    assert dtypes == [jnp.bfloat16, jnp.bfloat16, jnp.float32]


@pytest.mark.parametrize(
    ("window", "stride", "padding"), [(3, 2, "SAME"), (2, 2, "VALID"), (3, 1, "SAME")]
)
@pytest.mark.parametrize("size", [(9, 8), (7, 10), (11,)])
def test_max_pool_equals_reduce_window(window, stride, padding, size):
    x = jnp.asarray(np.random.default_rng(3).normal(size=(2, *size, 3)), jnp.float32)

    def run(function):
        @jax.jit
        def value_and_gradient(x):
            y, pull = jax.vjp(lambda x: function(x, window, stride, padding), x)
            return y, pull(jnp.sin(y))[0]

        return value_and_gradient(x)

    for ours, theirs in zip(
        run(pooling.sliced_max_pool), run(pooling.reduced_max_pool), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_ties_split_the_gradient_and_conserve_it():
    gradient = jax.grad(lambda x: pooling.sliced_max_pool(x, 2, 2, "VALID").sum())(
        jnp.ones((1, 4, 4, 1))
    )
    np.testing.assert_array_equal(gradient, np.full((1, 4, 4, 1), 0.25))


@pytest.mark.parametrize("length", [7, 8])
@pytest.mark.parametrize("masked", ["none", "keys", "pairs"])
def test_library_attention_equals_ours(length, masked):
    rng = np.random.default_rng(4)
    query, key, value = rng.normal(size=(3, 2, length, 3, 8)).astype(np.float32)
    keep = None
    if masked != "none":
        keep = rng.random((2, 1 if masked == "keys" else length, length)) < 0.6
        keep[..., 0] = True

    def run(function, *options):
        def value_and_gradients(*arrays):
            mixed, pull = jax.vjp(lambda *a: function(*a, keep, *options), *arrays)
            return mixed, *pull(jnp.cos(mixed))

        return jax.jit(value_and_gradients)(query, key, value)

    for ours, theirs in zip(run(attention), run(library_attention, "xla"), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
