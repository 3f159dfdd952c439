"""Same images: found exactly, removed within a label, counted across labels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xai_traffic.data.duplicates import (
    Seen,
    content_digests,
    content_hash,
    hex_names,
    label_conflicts,
)


def digests(images) -> np.ndarray:
    """Return content hashes that differ in the first, the last or both of their halves."""
    rows = np.zeros((len(images), 16), np.uint8)
    rows[:, 0], rows[:, 15] = (
        [int(image) // 2 for image in images],
        [int(image) for image in images],
    )
    return rows


def test_hash_sees_every_byte_and_the_number_of_tiles():
    tiles = np.zeros((3, 256), np.uint8)
    changed = tiles.copy()
    changed[2, 255] = 1
    names = {content_hash(tiles), content_hash(tiles[:2]), content_hash(changed)}
    assert len(names) == 3
    assert all(len(name) == 32 for name in names)
    assert content_hash(tiles[:2].copy()) == content_hash(tiles[1:])


def test_hashes_of_ragged_sessions():
    tiles = np.random.default_rng(0).integers(0, 256, (6, 256), np.uint8)
    expected = [content_hash(tiles[:1]), content_hash(tiles[1:4]), content_hash(tiles[4:])]
    assert hex_names(content_digests(tiles, np.array([1, 3, 2]))) == expected
    assert content_digests(tiles[:0], np.array([], int)).shape == (0, 16)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("01234567")), max_size=40),
    st.lists(st.integers(0, 40)),
)
def test_first_of_each_label_and_image_is_kept(images, cuts):
    seen = Seen()
    kept = []
    ends = [*sorted(cuts), len(images)]
    for start, end in zip([0, *ends], ends, strict=False):
        part = images[start:end]
        labels = np.array([label for label, _ in part], object)
        kept += seen.keep(labels, digests([image for _, image in part])).tolist()
    assert kept == [image not in images[:place] for place, image in enumerate(images)]


def test_many_images_in_parts():
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 3000, 20_000)
    rows = np.zeros((len(numbers), 16), np.uint8)
    rows[:, 3], rows[:, 9] = numbers % 256, numbers // 256
    seen, kept = Seen(), []
    for part in np.array_split(np.arange(len(rows)), 37):
        kept.append(seen.keep(np.full(len(part), "a", object), rows[part]))
    first = np.zeros(len(rows), bool)
    first[np.unique(numbers, return_index=True)[1]] = True
    assert np.array_equal(np.concatenate(kept), first)


def test_conflicts_per_pair():
    names = ["d", "c", "b", "a"]
    labels = np.array([names.index(name) for name in "bacabada"])
    assert label_conflicts(names, labels, digests("11122341")) == [
        {"a": "a", "b": "b", "images": 2},
        {"a": "a", "b": "c", "images": 1},
        {"a": "b", "b": "c", "images": 1},
    ]
    assert label_conflicts(["a", "b"], np.array([0, 1]), digests("12")) == []
    assert label_conflicts([], np.zeros(0, int), digests("")) == []
