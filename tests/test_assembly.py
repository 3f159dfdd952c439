"""Batches of ragged sessions: C and NumPy alike, in memory that is used again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_traffic.capture import assembly
from xai_traffic.capture.assembly import BatchMemory, assemble
from xai_traffic.capture.images import grid_images, images_of

WAYS = ["numpy"] if assembly._images is None else ["numpy", "c"]
TILES = np.random.default_rng(0).integers(1, 256, (300, 256), np.uint8)


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(assembly, "_images", None)
    return request.param


def expected(first, count, size, grid=64):
    batch = np.zeros((size, grid, 256), np.uint8)
    for place, (begin, number) in enumerate(zip(first, count, strict=True)):
        batch[place, :number] = TILES[begin : begin + number]
    return batch


def draw(seed, sessions, most=64):
    rng = np.random.default_rng(seed)
    count = rng.choice([0, 1, 7, 8, 9, 63, most, most], sessions).clip(max=most)
    return rng.integers(0, len(TILES) - count + 1), count


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 6), st.integers(0, 3), st.booleans(), st.booleans())
def test_ways_agree(seed, sessions, spare, known, mapped):
    first, count = draw(seed, sessions)
    size = sessions + spare
    dense = expected(first, count, size)
    held = np.random.default_rng(seed).integers(0, 65, size)
    for way in WAYS:
        for images, right in ((False, dense), (True, grid_images(dense))):
            out = np.full(right.shape, 9, np.uint8)
            before = held.copy() if known else None
            if known:  # zero from where it says
                tiles = np.full((size, 64, 256), 9, np.uint8)
                tiles[np.arange(64) >= held[:, None]] = 0
                out[...] = grid_images(tiles) if images else tiles
            source = TILES if not mapped else np.asfortranarray(TILES)  # not contiguous: NumPy
            with pytest.MonkeyPatch.context() as patch:
                if way == "numpy":
                    patch.setattr(assembly, "_images", None)
                assert assemble(source, first, count, out, before) is out
            np.testing.assert_array_equal(out, right)
            if known:
                np.testing.assert_array_equal(before, np.append(count, [0] * spare))


@pytest.mark.parametrize("images", [False, True])
def test_memory_is_used_again(way, images):
    memory = BatchMemory(5, images=images)
    for seed, sessions in enumerate([5, 2, 0, 4, 5]):
        first, count = draw(seed, sessions)
        right = expected(first, count, 5)
        made = memory.fill(TILES, first, count)
        assert made is memory.batch and not made.flags.writeable
        np.testing.assert_array_equal(made, grid_images(right) if images else right)
        with pytest.raises(IndexError, match="session 1 of the batch"):
            memory.fill(TILES, [0, 299], [64, 2])


def test_small_grids(way):
    first, count = draw(3, 4, most=4)
    out = np.full((4, 4, 256), 7, np.uint8)
    np.testing.assert_array_equal(
        assemble(TILES, first, count, out), expected(first, count, 4, grid=4)
    )


@pytest.mark.parametrize(
    ("first", "count"),
    [(237, 64), (-1, 1), (0, 65), (0, -1), (2**62, 1), (-(2**63), 64), (300, 1), (0, -(2**63))],
)
def test_tiles_that_do_not_exist(way, first, count):
    out = np.zeros((3, 64, 256), np.uint8)
    with pytest.raises(IndexError, match="session 1 of the batch"):
        assemble(TILES, np.array([0, first]), np.array([64, count]), out)


def test_nothing_lies_behind_the_last_tile(way):
    out = np.ones((2, 128, 128), np.uint8)
    assemble(TILES, np.array([300, 2**40]), np.array([0, 0]), out)
    assert not out.any()
    assemble(TILES[:0], np.zeros(0, int), np.zeros(0, int), out)


@pytest.mark.parametrize(
    ("out", "options"),
    [
        (np.zeros((1, 64, 256), np.uint8), {}),  # too few places
        (np.zeros((2, 64, 255), np.uint8), {}),
        (np.zeros((2, 64, 256), np.int8), {}),
        (np.zeros((4, 64, 256), np.uint8)[::2], {}),
        (np.zeros((2, 64, 256), np.uint8), {"held": np.zeros(3, np.int64)}),
        (np.zeros((2, 64, 256), np.uint8), {"held": np.zeros(2, np.int32)}),
        (np.zeros((2, 64, 256), np.uint8), {"count": np.zeros(3, int)}),
        (np.zeros((2, 64, 256), np.uint8), {"tiles": TILES.view(np.int8)}),
    ],
)
def test_shapes_that_do_not_fit(way, out, options):
    given = {"tiles": TILES, "first": np.zeros(2, int), "count": np.zeros(2, int), **options}
    with pytest.raises(ValueError):
        assemble(out=out, **given)


@pytest.mark.skipif(assembly._images is None, reason="the C part was not built")
def test_c_checks_sizes_itself():
    from xai_traffic.capture._images import assemble as bare

    index, out = np.zeros(1, np.int64), np.zeros((1, 64, 256), np.uint8)
    bare(TILES, index, index, out, None, 256, 64, True)
    for wrong in (
        (TILES[:, :-1].copy(), index, index, out, None, 256, 64, False),
        (TILES, index, index[:0], out, None, 256, 64, False),
        (TILES, index, index, out, index[:0], 256, 64, False),
        (TILES, index, index, out[:, 1:].copy(), None, 256, 64, False),
        (TILES, index, index, out[:0], None, 256, 64, False),
        (TILES, index, index, out, None, 0, 64, False),
        (TILES, index, index, out, None, 128, 128, True),
    ):
        with pytest.raises(ValueError):
            bare(*wrong)
    out.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        bare(TILES, index, index, out, None, 256, 64, False)


def test_images_into_given_memory(way):
    first, count = draw(1, 6)
    out = np.full((6, 128, 128), 3, np.uint8)
    assert images_of(TILES, first, count, out) is out
    np.testing.assert_array_equal(out, images_of(TILES, first, count))
    np.testing.assert_array_equal(out, grid_images(expected(first, count, 6)))
