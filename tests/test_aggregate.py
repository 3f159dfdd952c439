"""Pixels to bytes, fields and packets: nothing is lost, nothing counted twice."""

import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from xai_traffic import explain
from xai_traffic.ops.tiles import tiles_from_images

LENGTHS = [60, 256, 0, 17, 256, 1]


@dataclasses.dataclass(frozen=True)
class Part:
    name: str
    start: int
    end: int


def attributions(seed=0, spread=6.0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(128, 128)) * 10 ** rng.uniform(-spread, spread, (128, 128))).astype(
        np.float32
    )


def cut(length, seed):
    """Cut [0, length) into parts at random places."""
    rng = np.random.default_rng(seed)
    inner = rng.choice(np.arange(1, max(length, 2)), size=min(6, max(length - 1, 0)), replace=False)
    edges = [0, *sorted(int(edge) for edge in inner), length] if length else []
    return [
        Part(f"field{i % 3}", a, b) for i, (a, b) in enumerate(zip(edges, edges[1:], strict=False))
    ]


def test_a_pixel_is_the_byte_of_the_design():
    image = np.arange(128 * 128).reshape(128, 128)
    tiles = explain.tiles_of(image)
    for y, x in ((0, 0), (5, 100), (127, 127), (16, 15), (77, 33)):
        packet, byte = (y // 16) * 8 + x // 16, (y % 16) * 16 + x % 16
        assert tiles[packet, byte] == image[y, x]
    images = attributions(1)[None]
    np.testing.assert_array_equal(
        explain.tiles_of(images), np.asarray(tiles_from_images(images[..., None]))
    )


@hypothesis.given(st.integers(0, 10_000), st.lists(st.integers(0, 256), max_size=64))
@hypothesis.settings(max_examples=60, deadline=None)
def test_parts_add_up_exactly_however_they_are_cut(seed, lengths):
    shares = explain.byte_shares(attributions(seed), lengths)
    fields = [cut(length, seed + row) for row, length in enumerate(lengths)]
    by_field = explain.field_units(shares, fields)
    by_packet = shares.units.sum(1)
    # Equality of floats, on purpose: units are whole numbers below 2^53.
    assert [sum(row) for row in by_field] == list(by_packet)
    assert sum(map(sum, by_field)) == by_packet.sum() == shares.units.ravel().sum() == shares.total
    rng = np.random.default_rng(seed)
    assert rng.permutation(shares.units.ravel()).sum() == shares.total
    assert shares.total < 2**53


def test_shares_are_those_of_the_attributions():
    values = attributions(2, spread=2)
    shares = explain.byte_shares(values, LENGTHS)
    tiles = np.abs(explain.tiles_of(values).astype(np.float64))[: len(LENGTHS)]
    held = np.arange(256) < np.array(LENGTHS)[:, None]
    np.testing.assert_allclose(
        shares.packets(), (tiles * held).sum(1) / tiles[held].sum(), atol=1e-9
    )
    np.testing.assert_allclose(shares.units * shares.scale, tiles * held, atol=tiles.max() * 1e-10)
    np.testing.assert_array_equal(shares.signed, explain.tiles_of(values)[: len(LENGTHS)] * held)


def test_padding_is_left_out_and_named():
    values = np.ones((128, 128))
    shares = explain.byte_shares(values, LENGTHS)
    assert shares.packets()[2] == 0 and (shares.units[2] == 0).all()
    np.testing.assert_allclose(shares.packets(), np.array(LENGTHS) / sum(LENGTHS))
    assert shares.padding == pytest.approx(1 - sum(LENGTHS) / 128**2)
    assert (shares.bytes()[0, 60:] == 0).all()
    assert shares.packets().sum() == pytest.approx(1, abs=1e-12)


def test_nothing_attributed_is_no_division_by_zero():
    shares = explain.byte_shares(np.zeros((128, 128)), LENGTHS)
    assert (shares.packets() == 0).all() and shares.total == 0 and shares.padding == 0
    only_padding = np.zeros((128, 128))
    only_padding[127, 127] = 3
    shares = explain.byte_shares(only_padding, LENGTHS)
    assert (shares.packets() == 0).all() and shares.padding == 1
    assert explain.session_fields(shares, [cut(n, 0) for n in LENGTHS])["field0"] == 0


def test_fields_of_a_name_are_summed_over_the_session():
    shares = explain.byte_shares(attributions(3), LENGTHS)
    fields = [cut(n, row) for row, n in enumerate(LENGTHS)]
    named = explain.session_fields(shares, fields)
    assert list(named.values()) == sorted(named.values(), reverse=True)
    assert sum(named.values()) == pytest.approx(1, abs=1e-12)
    expected = sum(
        shares.units[row, part.start : part.end].sum()
        for row, parts in enumerate(fields)
        for part in parts
        if part.name == "field1"
    )
    assert named["field1"] == expected / shares.total


def test_fields_that_do_not_cover_a_packet_are_refused():
    shares = explain.byte_shares(np.ones((128, 128)), [10])
    explain.field_units(shares, [[Part("a", 0, 4), Part("b", 4, 10)]])
    for parts in ([Part("a", 0, 4)], [Part("a", 0, 10), Part("b", 4, 10)]):
        with pytest.raises(ValueError, match="packet 0 do not cover"):
            explain.field_units(shares, [parts])


def test_what_is_no_explanation_of_a_session_is_refused():
    with pytest.raises(ValueError, match="128, 128"):
        explain.byte_shares(np.zeros((64, 64)), [1])
    with pytest.raises(ValueError, match="one session"):
        explain.byte_shares(np.zeros((2, 128, 128)), [1])
    with pytest.raises(ValueError, match="not finite"):
        explain.byte_shares(np.full((128, 128), np.nan), [1])
    with pytest.raises(ValueError, match="at most 64"):
        explain.byte_shares(np.zeros((128, 128)), [1] * 65)
