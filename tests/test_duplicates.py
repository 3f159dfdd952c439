"""Same images: found exactly, removed within a label, counted across labels."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xai_traffic.data.duplicates import Seen, content_hash, content_hashes, label_conflicts


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
    assert content_hashes(tiles, np.array([1, 3, 2])) == expected
    assert content_hashes(tiles[:0], np.array([], int)) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("0123"))), st.integers(0, 9))
def test_first_of_each_label_and_image_is_kept(images, cut):
    seen = Seen()
    kept = []
    for part in (images[:cut], images[cut:]):
        kept += seen.keep([label for label, _ in part], [image for _, image in part]).tolist()
    assert kept == [image not in images[:place] for place, image in enumerate(images)]


def test_conflicts_per_pair():
    labels = ["b", "a", "c", "a", "b", "a", "d", "a"]
    hashes = ["1", "1", "1", "2", "2", "3", "4", "1"]
    assert label_conflicts(labels, hashes) == [
        {"a": "a", "b": "b", "images": 2},
        {"a": "a", "b": "c", "images": 1},
        {"a": "b", "b": "c", "images": 1},
    ]
    assert label_conflicts(["a", "b"], ["1", "2"]) == []
