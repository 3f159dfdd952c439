"""The small CNNs to compare with: what they read, sizes, training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xai_traffic.capture.layouts import make_images
from xai_traffic.errors import ConfigError
from xai_traffic.models import build
from xai_traffic.ops.tiles import images_from_tiles, stream_from_tiles


@given(st.lists(st.integers(0, 256), min_size=6, max_size=6), st.sampled_from([5, 600, 1536]))
def test_stream_strings_packets_together(lengths, size):  # few shapes: each is compiled
    rng = np.random.default_rng(sum(lengths))
    tiles = np.zeros((1, len(lengths), 256), np.uint8)
    for packet, length in enumerate(lengths):
        tiles[0, packet, :length] = rng.integers(1, 256, length)
    whole = tiles[tiles != 0]
    expected = np.zeros(size, np.uint8)
    expected[: len(whole)] = whole[:size]
    np.testing.assert_array_equal(stream_from_tiles(jnp.asarray(tiles), size)[0], expected)
    plain = stream_from_tiles(jnp.asarray(tiles), size, strung=False)
    np.testing.assert_array_equal(plain[0], tiles.ravel()[:size])


def test_stream_is_that_of_the_layout_where_no_packet_ends_in_zeros():
    rng = np.random.default_rng(0)
    lengths = rng.integers(40, 257, 64)
    tiles = np.zeros((64, 256), np.uint8)
    for packet, length in enumerate(lengths):
        tiles[packet, :length] = rng.integers(1, 256, length)
    image = make_images("tiles", tiles, np.array([0]), np.array([64]), lengths, "flow_appended")
    found = stream_from_tiles(jnp.asarray(tiles[None]), 784)
    np.testing.assert_array_equal(found[0], image.ravel()[:784])


@pytest.mark.parametrize(
    ("variant", "parameters"),
    # Wang et al. 2017: 5 x 5 x 32, 5 x 5 x 64, 7 * 7 * 64 x 1024; 25 x 32, 25 x 64, 88 * 64 x 1024
    [
        ("28x28", 832 + 51264 + 3136 * 1024 + 1024 + 1024 * 20 + 20),
        ("1d", 832 + 51264 + 5632 * 1024 + 1024 + 1024 * 20 + 20),
    ],
)
def test_sizes_are_those_of_the_papers(variant, parameters):
    model = build("cnn", 20, variant=variant)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == parameters


@pytest.mark.parametrize("variant", ["28x28", "1d", "debug"])
def test_sees_its_784_bytes_and_nothing_else(variant):
    model = build("cnn", 3, variant=variant, widths=[4, 4], hidden=[8])
    variables = model.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    tiles = rng.integers(1, 256, (1, 64, 256), dtype=np.uint8)
    images = images_from_tiles(tiles)
    gradient = jax.grad(lambda x: model.apply(variables, x)[0][0, 1])(images)
    gradient = np.asarray(gradient).reshape(8, 16, 8, 16).transpose(0, 2, 1, 3).ravel()
    assert (gradient[784:] == 0).all() and (gradient[:784] != 0).mean() > 0.5
    logits, statistics = jax.jit(model.apply_train)(variables, images, jax.random.key(1))
    assert logits.shape == (1, 3) and logits.dtype == jnp.float32 and statistics == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [({"channels": 3}, "1 channel"), ({"packets": 3}, "cannot hold 784"), ({"widths": []}, "wid")],
)
def test_what_means_nothing_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build("cnn", 2, variant="28x28", **options)
