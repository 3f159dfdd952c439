"""Packed tokens: rows that hold every session once, and the logits of the dense grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_loader import DATA

from xai_traffic.capture.images import filled_tiles, grid_images
from xai_traffic.data.loader import Loader
from xai_traffic.data.packing import Packing, find_places, pack, row_length, slots, usual_rows
from xai_traffic.models import build
from xai_traffic.ops.tiles import images_from_tiles
from xai_traffic.training.inference import PACKED, compile_judge, judge_images

PACKETS = 16


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 18), min_size=1, max_size=60))
def test_every_token_has_a_slot_of_its_own(sizes):
    sizes = np.array(sizes)
    row, begin = pack(sizes, 18)
    rows = int(row.max()) + 2
    packing = slots(row, begin, sizes, rows, 18)
    assert packing.session.shape == packing.place.shape == (rows, 18)
    taken = packing.session >= 0
    assert taken.sum() == sizes.sum()  # nothing overlaps
    for number, size in enumerate(sizes):
        at = packing.head[number] + np.arange(size)
        assert (packing.session.reshape(-1)[at] == number).all()
        assert (packing.place.reshape(-1)[at] == np.arange(size)).all()
        assert at[0] // 18 == at[-1] // 18  # in one row
    assert not packing.place[~taken].any()
    # Best fit leaves no two rows that would go into one.
    used = np.bincount(row, sizes)
    assert (np.sort(used)[:2].sum() > 18) or len(used) < 2


def test_rows_run_out():
    row, begin = find_places(np.array([10, 10, 9, 8, 18, 1]), 18, rows=2)
    assert row.tolist() == [0, 1] and begin.tolist() == [0, 0]  # 9 finds no room
    row, _ = find_places(np.array([10, 10, 8, 8, 1]), 18, rows=2)
    assert row.tolist() == [0, 1, 0, 1] or row.tolist() == [0, 1, 1, 0]
    assert row_length(64) == 66 and row_length(7) == 8


def test_most_batches_fit_into_few_rows():
    rng = np.random.default_rng(0)
    sizes = 1 + np.clip(rng.geometric(1 / 20, 5000), 1, 64)
    few, most, every = usual_rows(sizes, 64, 66)
    assert 20 < few < most < 35 and every == 64
    needed = np.array([pack(rng.choice(sizes, 64), 66)[0].max() + 1 for _ in range(300)])
    assert np.mean(needed <= few) > 0.75 and np.mean(needed <= most) > 0.99
    assert all(rows % 8 == 0 for rows in usual_rows(sizes, 64, 66, multiple=8))
    assert usual_rows(np.full(10, 66), 64, 66) == (64,)  # never more than one a session


@pytest.fixture(scope="module")
def batch():
    """Sessions of 0 to 30 packets, some of them empty tiles, and their packing."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 31, 24)
    tiles = np.zeros((24, 64, 256), np.uint8)
    for session, count in enumerate(counts):
        tiles[session, :count] = rng.integers(0, 256, (count, 256))
    tiles[3, 1] = tiles[5, 0] = 0
    sizes = 1 + np.minimum(counts, PACKETS)
    row, begin = pack(sizes, row_length(PACKETS))
    rows = int(row.max()) + 1
    assert rows < 24
    return images_from_tiles(tiles), slots(row, begin, sizes, rows, row_length(PACKETS))


@pytest.mark.parametrize("pool", ["token", "mean", "both"])
def test_logits_and_gradients_are_those_of_the_dense_grid(batch, pool):
    images, packing = batch
    model = build("vit", 5, variant="debug", dropout=0.3, zero_head=False, pool=pool)
    variables = model.init(jax.random.key(1))
    logits = jax.jit(model.logits)
    dense = logits(variables, images)
    np.testing.assert_array_equal(dense, jax.jit(model.apply)(variables, images)[0])
    np.testing.assert_allclose(logits(variables, images, packing), dense, rtol=1e-4, atol=1e-5)

    @jax.jit
    def gradient(packing):
        def score(params):
            # Dropout draws the same for a token wherever it stands.
            return jnp.sin(model.apply_train({"params": params}, images, key, packing)[0]).sum()

        return jax.grad(score)(variables["params"])

    key = jax.random.key(7)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        gradient(packing),
        gradient(None),
    )


def test_only_networks_that_look_at_no_empty_tile_pack():
    assert build("vit", 2, variant="debug").packs
    for model in (build("vit", 2, variant="ti"), build("xception", 2, variant="debug")):
        assert not model.packs
    with pytest.raises(ValueError, match="takes no packed tokens"):
        model.logits({}, jnp.zeros((1, 128, 128, 1)), Packing(*np.zeros((3, 1, 1), np.int32)))


@pytest.mark.parametrize("processes", [1, 2])
def test_loader_packs_the_whole_batch(processes):
    rows = np.arange(40)
    loaders = [
        Loader(
            DATA,
            rows,
            16,
            5,
            packets=PACKETS,
            row_multiple=4,
            part=index,
            parts=processes,
        )
        for index in range(processes)
    ]
    for parts in zip(*loaders, strict=True):
        session, place, head = (
            np.concatenate([getattr(part["packing"], name) for part in parts])
            for name in Packing._fields
        )
        real = np.concatenate([part["rows"] for part in parts])
        assert session.shape[1] == 18 and session.shape[0] % 4 == 0
        counts = np.where(real >= 0, np.minimum(DATA.tile_counts[real], PACKETS), 0)
        for number in range(16):
            slot = head[number] + np.arange(counts[number] + 1)
            assert (session.reshape(-1)[slot] == number).all()
            assert (place.reshape(-1)[slot] == np.arange(counts[number] + 1)).all()
        assert (session >= 0).sum() == (counts + 1).sum()


def test_tiles_by_place_are_those_of_the_batch():
    rows = np.arange(3, 50, 2)
    whole, by_place = (Loader(DATA, rows, 7, 3, by_place=choice) for choice in (False, True))
    placed = by_place.take_tiles()
    for batch, named in zip(whole, by_place, strict=True):
        assert "tiles" not in named
        for tiles, first, count in zip(batch["tiles"], named["first"], named["count"], strict=True):
            np.testing.assert_array_equal(tiles[:count], placed[first : first + count])
            assert not tiles[count:].any()
    assert len(placed) == DATA.tile_counts[rows].sum()


def test_judges_many_in_few_rows():
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 4, 700)
    counts[-40:] = 64
    tiles = np.zeros((700, 64, 256), np.uint8)
    for session, count in enumerate(counts):
        tiles[session, :count] = rng.integers(1, 256, (count, 256))
    images = grid_images(tiles)[..., None]
    model = build("vit", 3, variant="debug", zero_head=False)
    variables = model.init(jax.random.key(0))
    shapes = []

    def judge(variables, images, packing):
        shapes.append((len(images), len(packing.session)))
        return compiled(variables, images, packing)

    compiled = compile_judge(model)
    found = judge_images(judge, model, variables, images)
    expected = np.asarray(jax.jit(model.logits)(variables, images))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert {rows for _, rows in shapes} <= set(PACKED)
    assert sum(rows for _, rows in shapes) < 300  # 700 on the dense grid


def test_filled_tiles_end_at_the_last_byte():
    tiles = np.zeros((4, 64, 256), np.uint8)
    tiles[1, 0, 255], tiles[2, 9, 0], tiles[3, 63, 7] = 1, 1, 1
    images = grid_images(tiles)
    assert filled_tiles(images).tolist() == [0, 1, 10, 64]
    assert filled_tiles(images[..., None].astype(np.float32), 12).tolist() == [0, 1, 10, 0]
    assert filled_tiles(images[:0]).tolist() == []
