"""Players: groups of packets, fields and windows, and logits on masks of them."""

import types

import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain

RNG = np.random.default_rng(3)
IMAGES = RNG.integers(1, 256, (3, 128, 128, 1)).astype(np.float32)
LENGTHS = [60, 256, 40]


def tile(groups, packet):
    return groups[16 * (packet // 8) :, 16 * (packet % 8) :][:16, :16, 0].reshape(256)


def test_packets_are_players_and_padding_is_none():
    groups = explain.packet_groups(LENGTHS)
    assert groups.shape == (128, 128, 1) and groups.dtype == np.int32
    for packet, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(
            tile(groups, packet), np.where(np.arange(256) < length, packet, -1)
        )
    assert (groups >= 0).sum() == sum(LENGTHS)
    assert (tile(explain.packet_groups([7] * 64), 63)[:7] == 63).all()


def test_windows_know_their_packet():
    groups, packets = explain.window_groups([0, *LENGTHS], 100)
    np.testing.assert_array_equal(packets, [1, 2, 2, 2, 3])
    np.testing.assert_array_equal(np.bincount(groups[groups >= 0]), [60, 100, 100, 56, 40])
    assert tile(groups, 2)[99] == 1 and tile(groups, 2)[100] == 2


def test_fields_by_place_and_by_name():
    span = lambda name, start, end: types.SimpleNamespace(name=name, start=start, end=end)  # noqa: E731
    fields = [[span("ip.ttl", 0, 2), span("payload", 2, 9)], [span("ip.ttl", 0, 3)]]
    groups, names, packets = explain.field_groups(fields)
    assert names == ["ip.ttl", "payload", "ip.ttl"]
    np.testing.assert_array_equal(packets, [0, 0, 1])
    np.testing.assert_array_equal(tile(groups, 0)[:10], [0, 0] + [1] * 7 + [-1])
    groups, names, _ = explain.field_groups(fields, together=True)
    assert names == ["ip.ttl", "payload"] and (groups == 0).sum() == 5


def test_masks_replace_players_and_nothing_else():
    groups = np.stack([explain.packet_groups(LENGTHS[: k + 1]) for k in range(3)])
    params = RNG.normal(size=(128 * 128, 2)).astype(np.float32)
    linear = lambda p, x: x.reshape(len(x), -1) @ p / 1e4  # noqa: E731
    masks = RNG.random((5, 3)) < 0.5
    baseline = RNG.uniform(0, 255, (128, 128, 1)).astype(np.float32)
    found = explain.masked_logits(linear, params, IMAGES, groups, masks, baseline=baseline)
    for row, logits in enumerate(found):
        for mask, values in zip(masks, logits, strict=True):
            keep = np.append(mask, True)[groups[row]]
            expected = linear(params, np.where(keep, IMAGES[row], baseline)[None])[0]
            np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)


def test_ragged_masks_in_pieces_are_the_whole_and_compile_once():
    traced = 0

    def counted(params, x):
        nonlocal traced
        traced += 1
        return jnp.tanh(x @ params)

    params, x = RNG.normal(size=(6, 2)).astype(np.float32), RNG.normal(size=(3, 6))
    masks = [RNG.random((count, 6)) < 0.5 for count in (9, 0, 4)]
    groups = np.arange(6)
    whole = explain.masked_logits(counted, params, x, groups, masks)
    assert [len(part) for part in whole] == [9, 0, 4]
    pieces = explain.masked_logits(counted, params, x, groups, masks, memory_budget=1)
    for a, b in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    before = traced
    explain.masked_logits(counted, params, x, groups, [own[:5] for own in masks], memory_budget=1)
    assert traced == before


def test_spread_keeps_sums():
    groups = explain.packet_groups(LENGTHS)
    values = RNG.normal(size=(2, 3))
    maps = explain.spread(values, groups, IMAGES[:2])
    assert maps.shape == (2, 128, 128, 1)
    np.testing.assert_allclose(maps.sum((1, 2, 3)), values.sum(1))
    assert maps[0][groups < 0].max() == 0
    each = explain.spread(values, np.stack([groups, np.roll(groups, 5, 0)]), IMAGES[:2])
    np.testing.assert_array_equal(each[1], np.roll(maps[1], 5, 0))


def test_what_names_no_players_is_refused():
    f = lambda p, x: x[:, :2]  # noqa: E731
    x, masks = np.ones((2, 4)), np.ones((1, 2), bool)
    for groups, message in (
        (np.zeros(3, int), "of shape"),
        (np.zeros(4), "integers"),
        (np.full(4, -1), "-1 for none"),
        (np.full(4, -2), "-1 for none"),
        (np.zeros(4, int), r"\[M, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            explain.masked_logits(f, None, x, groups, masks)
    with pytest.raises(ValueError, match="at most 64"):
        explain.packet_groups([1] * 65)
    with pytest.raises(ValueError, match="at least one byte"):
        explain.window_groups(LENGTHS, 0)
