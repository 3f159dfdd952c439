"""Sessions of few packets are explained as on the dense grid, by functions that read no more."""

import jax
import numpy as np
import pytest
from explained_run import make_run

from xai_traffic import explain
from xai_traffic.explain.methods import EMPTY_STAYS
from xai_traffic.explain.short_sessions import LEAST, LENGTHS, by_length
from xai_traffic.models import build


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """Return a run that reads 16 packets, images of 1 to 40 of them, and their players."""
    run = make_run(tmp_path_factory.mktemp("run"))
    rng = np.random.default_rng(0)
    counts = np.array([1, 2, 1, 2, 5, 2, 8, 3, 7, 40, 12])
    tiles = rng.integers(1, 256, (len(counts), 64, 256), np.uint8)
    tiles[np.arange(64) >= counts[:, None]] = 0
    tiles[4, 2] = 0  # a packet without a byte, between others
    images = tiles.reshape(-1, 8, 8, 16, 16).transpose(0, 1, 3, 2, 4).reshape(-1, 128, 128)
    groups = np.stack([explain.packet_groups([40] * min(count, 16)) for count in counts])
    return run, images, counts, {"packets": groups, "fields": groups}


def test_logits_are_those_of_the_dense_grid(sessions):
    run, images, counts, _ = sessions
    model = run.model
    for length in (2, 3, 8):
        some = images[counts <= length][..., None].astype(np.float32)
        dense = model.apply(run.variables, some)[0]
        short = model.shorter(length)(run.variables, some)
        np.testing.assert_allclose(short, dense, atol=1e-5)
    assert model.shorter(2) is model.shorter(2)
    assert model.shorter(model.packets) is None
    assert build("vgg19", 3, variant="debug").shorter(2) is None
    with pytest.raises(ValueError, match="at least 1"):
        model.shorter(0)


@pytest.mark.parametrize("method", EMPTY_STAYS)
def test_attributions_are_those_of_the_dense_grid(sessions, method):
    run, images, _, groups = sessions
    x = np.float32(images[..., None])
    options = {"integrated_gradients": {"steps": 8}, "rise": {"samples": 8}}.get(method, {})
    if method in ("kernel_shap", "owen_values"):
        options = {"samples": 64}
    target = np.arange(len(x), dtype=np.int32) % 3

    def found(**more):
        return explain.attribute(
            method, run.model.apply, run.variables, x, target, groups=groups, **more, **options
        )

    dense, short = found(), found(shorter=run.model.shorter)
    size = float(np.abs(dense.attributions).max())
    assert size > 0
    np.testing.assert_allclose(short.attributions, dense.attributions, atol=2e-5 * size, rtol=1e-3)
    assert (short.completeness_error is None) == (dense.completeness_error is None)


def test_what_fills_empty_packets_stays_on_the_dense_grid(sessions):
    run, images, *_ = sessions
    x = np.float32(images[:4, ..., None])
    asked = []

    def shorter(packets):
        asked.append(packets)
        return run.model.shorter(packets)

    explain.attribute(
        *("integrated_gradients", run.model.apply, run.variables, x, 0),
        shorter=shorter,
        baselines=np.full((1, 128, 128, 1), 7.0),
        steps=2,
    )
    explain.attribute("smooth_grad", run.model.apply, run.variables, x, 0, shorter=shorter)
    assert not asked
    explain.attribute("gradient", run.model.apply, run.variables, x, 0, shorter=shorter)
    assert asked == [2]


def test_a_run_explains_by_length(sessions):
    run, images, *_ = sessions
    found = run.explain(images, "gradient_x_input", 1)
    x = np.float32(images[..., None])
    dense = explain.gradient_x_input(run.model.apply, run.variables, jax.numpy.asarray(x), 1)
    np.testing.assert_allclose(found, dense, atol=1e-5 * float(np.abs(dense).max()), rtol=1e-3)


def test_few_sessions_join_the_next_length():
    counts = np.array([1] * LEAST + [3] + [9] * LEAST + [64])
    found = by_length(counts)
    assert [length for length, _ in found] == [LENGTHS[0], LENGTHS[2], None]
    assert [len(rows) for _, rows in found] == [LEAST, LEAST + 1, 1]
    assert sorted(np.concatenate([rows for _, rows in found])) == list(range(len(counts)))
    assert by_length(np.array([0])) == [(LENGTHS[0], np.array([0]))]
    assert by_length(np.array([2, 64]))[0][0] is None
