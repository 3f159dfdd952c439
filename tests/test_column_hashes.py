"""Words of columns: equal for equal texts, and for nothing else."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from xai_traffic.data.column_hashes import hash_five_tuples, hash_names, hash_texts


@given(st.lists(st.one_of(st.none(), st.text(max_size=40)), max_size=60), st.integers(0, 5))
def test_words_are_equal_where_texts_are(texts, skipped):
    column = pa.array(texts, pa.string()).slice(min(skipped, len(texts)))
    words, texts = hash_texts(column), texts[skipped:]
    assert words.dtype == np.uint64 and len(words) == len(texts)
    for kept in (
        [hash_texts(pa.chunked_array([column]))],
        [hash_texts(column.dictionary_encode())],
    ):
        assert np.array_equal(words, kept[0])
    assert len(set(words.tolist())) == len(set(texts))
    assert [word == 0 for word in words] == [text is None for text in texts]


def test_many_texts_have_many_words():
    texts = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(200_000)]
    assert len(np.unique(hash_texts(pa.array(texts)))) == 200_000
    assert len(set(hash_texts(pa.array(["a" * n for n in range(50)] + ["b", "a\0"])))) == 52


def test_names_of_content_hashes():
    names = [bytes(range(start, start + 16)).hex() for start in range(3)]
    words = hash_names(pa.array(names))
    assert words[0].astype("<u8").tobytes() == bytes(range(8))
    assert len(set(hash_names(pa.array(["1", "2", "1"])).tolist())) == 2  # not in that form


def test_a_five_tuple_is_one_both_ways_round():
    rows = [("tcp", "a", 1, "b", 2), ("tcp", "b", 2, "a", 1), ("tcp", "a", 2, "b", 1)]
    rows += [("udp", "a", 1, "b", 2)]
    names = ["protocol", "source", "source_port", "destination", "destination_port"]
    table = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    first, back, crossed, other = hash_five_tuples(table.to_batches()[0])
    assert first == back and len({first, crossed, other}) == 3
