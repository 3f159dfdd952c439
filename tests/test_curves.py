"""Curves of deletion and insertion: where they begin and end, and how a chart draws them."""

import re

import jax.numpy as jnp
import numpy as np
import pytest
from explained_run import make_run, write_capture

from xai_traffic import explain
from xai_traffic.capture.fields import dissect
from xai_traffic.evaluation.curves import UNITS, Curve, curves_of_images
from xai_traffic.report.charts import curve_chart, even_ticks


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("curves")
    run = make_run(folder / "run")
    sessions = run.read(write_capture(folder / "a.pcap", sessions=3))
    images = sessions.images(np.arange(3))
    targets = np.array([0, 1, 2], np.int32)
    first = sessions.table["first_tile"].to_pylist()
    counts = sessions.table["tiles"].to_pylist()
    rows = sessions.packets.to_pylist()
    fields = [
        [dissect(sessions.tiles[place], rows[place]) for place in range(start, start + count)]
        for start, count in zip(first, counts, strict=True)
    ]
    rng = np.random.default_rng(0)
    maps = {
        name: explain.Attribution(rng.standard_normal(images.shape).astype(np.float32))
        for name in ("one", "other")
    }
    return run, images, targets, maps, curves_of_images(run, images, targets, maps, fields)


def test_curves_run_from_the_session_to_nothing_and_back(made):
    run, images, targets, _, curves = made
    x = jnp.asarray(images[..., None], jnp.float32)
    whole = np.asarray(run.model.apply(run.variables, x)[0])
    for i, own in enumerate(curves):
        for units in own.values():
            # The third session is one packet: there is one order of packets, and no curve.
            assert set(units) == (set(UNITS) if i < 2 else {"fields"})
            for curve in units.values():
                at = whole[i, targets[i]]
                for line in (curve.deletion, curve.insertion[::-1]):
                    assert line[0] == pytest.approx(at, abs=1e-4)
                ends = {round(float(line[-1]), 4) for line in curve.random_deletion}
                assert len(ends) == 1 and float(curve.deletion[-1]) == pytest.approx(
                    ends.pop(), abs=1e-3
                )
                assert curve.places[0] == 0 and curve.places[-1] == 1


def test_explanations_share_the_control(made):
    for own in made[4]:
        for unit in own["one"]:
            one, other = own["one"][unit], own["other"][unit]
            np.testing.assert_array_equal(one.random_deletion, other.random_deletion)
            assert len(one.random_insertion) > 3


def test_a_chart_draws_what_it_was_given():
    places = np.linspace(0, 1, 5)
    line = np.array([4.0, 2.0, 1.0, 0.0, -1.0])
    chance = np.stack([line - 1, line + 1])
    chart = curve_chart(
        Curve(places, line, line[::-1], chance, chance[:, ::-1]), "packets", "<b> & so on"
    )
    assert 'aria-label="&lt;b&gt; &amp; so on"' in chart
    deleted = re.search(r'class="del" d="M([^"]*)"', chart)[1]
    heights = [float(point.split(",")[1]) for point in deleted.split("L")]
    assert heights == sorted(heights) and len(set(heights)) == 5
    assert chart.count("<path") == chart.count('class="rule"') + 6


@pytest.mark.parametrize("low, high", [(0, 1), (-3.2, 6.6), (0.001, 0.0012), (99.5, 1234.5)])
def test_ticks_are_round_and_few(low, high):
    ticks = even_ticks(low, high)
    assert 2 <= len(ticks) <= 6 and low <= ticks[0] and ticks[-1] <= high * (1 + 1e-9)
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0])
