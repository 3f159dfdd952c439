"""The seed's pictures: colours, clipping, regions and their outlines."""

import matplotlib
import numpy as np
import pytest

from xai_traffic.report import overlays

IMAGE = np.random.default_rng(0).integers(0, 256, (128, 128), dtype=np.uint8)


def test_grad_cam_is_jet_at_two_fifths():
    heat = np.random.default_rng(1).random((128, 128)) * 7
    result = overlays.heat_overlay(IMAGE, heat)
    assert result.shape == (128, 128, 3) and result.dtype == np.uint8
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    red = np.array(matplotlib.colormaps["jet"](1.0)[:3])
    np.testing.assert_allclose(result[y, x], 0.6 * IMAGE[y, x] + 0.4 * 255 * red, atol=1)


@pytest.mark.parametrize("heat", [np.zeros((128, 128)), np.full((128, 128), -1.0)])
def test_nothing_lit_divides_by_nothing(heat):
    blue = np.array(matplotlib.colormaps["jet"](0.0)[:3]) * 255
    np.testing.assert_allclose(
        overlays.heat_overlay(IMAGE, heat), 0.6 * overlays.grey(IMAGE) + 0.4 * blue, atol=1
    )
    assert overlays.attention_overlay(IMAGE, heat).shape == (128, 128, 3)
    assert not overlays.regions(heat).any()
    assert overlays.outline_segments(overlays.regions(heat)).shape == (0, 2, 2)


def test_thresholds_hold_their_part_of_the_sum():
    values = np.array([[8.0, 4.0], [2.0, 1.0]])
    assert overlays.threshold(values, 100) == 8
    assert overlays.threshold(values, 50) == 8  # 8 of 15 is over half
    assert overlays.threshold(values, 40) == 4
    assert overlays.threshold(values, 0) == 1
    clipped = overlays.clip(values)
    assert clipped[0, 0] == 1 and clipped[1, 1] == 0 and 0 < clipped[0, 1] < 1


def test_the_three_strongest_regions_are_kept():
    attributions = np.zeros((128, 128))
    strengths = {(10, 10): 9.0, (40, 40): 8.0, (70, 70): 7.0, (100, 100): 6.0, (10, 100): -50.0}
    for (y, x), strength in strengths.items():
        attributions[y : y + 6, x : x + 6] = strength
    kept = overlays.regions(attributions)
    assert kept[12, 12] and kept[42, 42] and kept[72, 72]
    assert not kept[102, 102] and not kept[12, 102]
    assert kept.sum() == 3 * 36


def test_regions_at_the_border_and_single_bytes_survive():
    attributions = np.zeros((128, 128))
    attributions[:4, :4] = 1.0
    assert overlays.regions(attributions)[0, 0]
    lonely = np.zeros((128, 128))
    lonely[64, 64] = 1.0
    assert overlays.regions(lonely).sum() == 1


def test_outlines_close_around_the_mask():
    mask = np.zeros((8, 8), bool)
    mask[2:4, 3:7] = True
    segments = overlays.outline_segments(mask)
    assert len(segments) == 2 * (2 + 4)
    # Every corner of the outline is met by exactly two segments.
    _, met = np.unique(segments.reshape(-1, 2), axis=0, return_counts=True)
    assert (met == 2).all()
    assert segments.min(axis=(0, 1)).tolist() == [3, 2]
    assert segments.max(axis=(0, 1)).tolist() == [7, 4]
    edge = np.ones((2, 2), bool)
    assert len(overlays.outline_segments(edge)) == 8
