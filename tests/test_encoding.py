"""What models see of a byte, and the stem that reads packets by place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic.errors import ConfigError
from xai_traffic.models import build
from xai_traffic.models.cells import CellStem
from xai_traffic.models.encoding import COARSE, encode, encode_tiles
from xai_traffic.ops.tiles import images_from_tiles


def test_fourier_tells_all_bytes_apart_and_bits_by_sign():
    features = np.asarray(encode(jnp.arange(256.0)[:, None], "fourier", 8))
    assert features.shape == (256, 17)
    gaps = np.abs(features[:, None] - features[None]).sum(-1) + np.eye(256)
    assert gaps.min() > 0.5
    # The finest wave turns over from one byte to the next: cosine +1 for even, -1 for odd.
    np.testing.assert_allclose(features[:, -1], 1 - 2.0 * (np.arange(256) % 2), atol=1e-4)


def test_header_bytes_get_more_features_than_the_rest():
    tiles = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 3, 256)), jnp.float32)
    encoded = encode_tiles(tiles, "fourier", 7, 80)
    assert encoded.shape == (2, 3, 80 * 15 + 176 * (1 + 2 * COARSE))
    fine = encode(tiles[..., :80, None], "fourier", 7).reshape(2, 3, -1)
    np.testing.assert_array_equal(encoded[..., : 80 * 15], fine)
    whole = encode_tiles(tiles, "fourier", 7, 0)
    assert whole.shape == (2, 3, 256 * 15)


def test_cell_stem_reads_each_cell_by_itself_and_packets_alike():
    stem = CellStem(
        8, packets=8, encoding="scaled", frequencies=1, header=64, momentum=0.9, dtype="float32"
    )
    tiles = np.random.default_rng(1).integers(1, 256, (1, 64, 256)).astype(np.uint8)
    variables = stem.init(jax.random.key(0), images_from_tiles(tiles), False)
    place = variables["params"]["place"]
    variables["params"]["place"] = jnp.zeros_like(place)

    def run(tiles):
        return np.asarray(stem.apply(variables, images_from_tiles(tiles), False))

    before = run(tiles)
    assert before.shape == (1, 4, 32, 8)
    changed = tiles.copy()
    changed[0, 3, 22] ^= 255  # byte 22 is in pixel row 1, column 6: cell (0, 1) of packet 3
    moved = np.abs(run(changed) - before).sum(-1)[0]
    assert np.argwhere(moved).tolist() == [[0, 3 * 4 + 1]]
    swapped = tiles.copy()
    swapped[0, [0, 5]] = tiles[0, [5, 0]]
    np.testing.assert_allclose(run(swapped)[:, :, 20:24], before[:, :, 0:4], atol=1e-6)


@pytest.mark.parametrize(
    "name, options, told",
    [
        ("vit", {"header": 70}, "multiple of 16"),
        ("xception", {"stem": "cells", "header": 80}, "multiple of 64"),
        ("vgg19", {"stem": "cell"}, "convolution, cells"),
    ],
)
def test_values_without_meaning_are_refused(name, options, told):
    with pytest.raises(ConfigError, match=told):
        build(name, 3, variant="cpu", **options)
