"""Sessions of few packets are explained as on the dense grid, cut to what they hold."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explained_run import CLASSES, make_run
from small_dataset import TINY as SMALL

from xai_traffic import explain
from xai_traffic.capture.images import grid_images
from xai_traffic.explain.methods import EMPTY_STAYS
from xai_traffic.explain.short_sessions import LEAST, by_extent
from xai_traffic.models import build

EXTENTS = ((16, 32), (16, 128), (32, 128), (128, 128))
TINY = SMALL | {"packets": 16}
OPTIONS = {
    "integrated_gradients": {"steps": 4},
    "rise": {"samples": 8},
    "kernel_shap": {"samples": 64},
    "owen_values": {"samples": 64},
}


@pytest.fixture(scope="module")
def sessions(tmp_path_factory):
    """Return a run that reads 16 packets, images of 1 to 40 of them, and their players."""
    model = build("vit", len(CLASSES), variant="debug", **TINY)
    rng = np.random.default_rng(1)
    variables = jax.tree.map(
        lambda leaf: np.asarray(leaf) + rng.normal(scale=0.03, size=leaf.shape).astype(np.float32),
        model.init(jax.random.key(1)),
    )
    run = make_run(tmp_path_factory.mktemp("run"))
    run = dataclasses.replace(run, model=model, variables=variables)
    rng = np.random.default_rng(0)
    counts = np.array([1, 2, 1, 2, 40, 3, 5, 12])
    tiles = rng.integers(1, 256, (len(counts), 64, 256), np.uint8)
    tiles[np.arange(64) >= counts[:, None]] = 0
    tiles[6, 2] = 0  # a packet without a byte, between others
    images = np.concatenate([grid_images(own) for own in tiles])
    groups = np.stack([explain.packet_groups([40] * min(count, 16)) for count in counts])
    return run, images, counts, {"packets": groups, "fields": groups}


def test_logits_of_cut_images_are_those_of_whole_ones(sessions):
    run, images, counts, _ = sessions
    model = run.model
    assert model.extents == ((16, 32), (16, 128), (32, 128))
    whole = np.asarray(model.apply(run.variables, images[..., None])[0])
    for height, width in model.extents:
        fit = (counts <= height * width // 256) | ((height, width) == model.extent)
        some = images[fit][:, :height, :width, None]
        logits, activations = model.apply(run.variables, some)
        np.testing.assert_allclose(logits, whole[fit], atol=1e-5)
        assert activations["stem"].shape[1:3] == (height // 16, width // 16)
    with pytest.raises(ValueError, match="images must be"):
        model.apply(run.variables, np.zeros((1, 128, 16, 1)))
    blind = build("vgg19", 3, variant="debug")
    assert blind.extents == (blind.extent,)
    assert len(build("vit", 3, variant="debug", mask_empty=False).extents) == 1


@pytest.mark.parametrize("method", EMPTY_STAYS)
def test_attributions_are_those_of_the_dense_grid(sessions, method):
    run, images, _, groups = sessions
    x = np.float32(images[..., None])
    target = np.arange(len(x), dtype=np.int32) % 3

    def found(**more):
        options = {"groups": groups, **more, **OPTIONS.get(method, {})}
        return explain.attribute(method, run.model.apply, run.variables, x, target, **options)

    dense, short = found(), found(extents=run.model.extents)
    size = float(np.abs(dense.attributions).max())
    assert size > 0
    np.testing.assert_allclose(short.attributions, dense.attributions, atol=2e-5 * size, rtol=1e-3)
    assert (short.completeness_error is None) == (dense.completeness_error is None)


def test_what_fills_empty_packets_stays_on_the_dense_grid():
    seen = []

    def f(params, x):
        seen.append(x.shape[1:3])
        return x.sum((1, 2)) @ params

    x = np.zeros((2, 128, 128, 1), np.float32)
    x[:, :16, :16] = 1.0
    params = jnp.ones((1, 2))
    options = {"baselines": np.full((1, 128, 128, 1), 7.0), "steps": 2}
    places = (f, params, x, 0)
    explain.attribute("integrated_gradients", *places, extents=EXTENTS, **options)
    explain.attribute("smooth_grad", *places, extents=EXTENTS)
    assert set(seen) == {(128, 128)}
    seen.clear()
    found = explain.attribute("gradient", *places, extents=EXTENTS)
    assert set(seen) == {EXTENTS[0]}
    assert found.attributions.shape == (2, 128, 128) and found.attributions.sum() == 2 * 16 * 32


def test_a_run_explains_cut_sessions(sessions):
    run, images, *_ = sessions
    found = run.explain(images, "gradient_x_input", 1)
    x = np.float32(images[..., None])
    dense = np.asarray(explain.gradient_x_input(run.model.apply, run.variables, x, 1))
    np.testing.assert_allclose(found, dense, atol=1e-5 * np.abs(dense).max(), rtol=1e-3)


def test_few_sessions_join_the_next_extent():
    counts = np.array([1] * LEAST + [3] + [9] * LEAST + [64])
    found = by_extent(counts, EXTENTS)
    assert [extent for extent, _ in found] == [EXTENTS[0], EXTENTS[2], EXTENTS[3]]
    assert [len(rows) for _, rows in found] == [LEAST, LEAST + 1, 1]
    assert sorted(np.concatenate([rows for _, rows in found])) == list(range(len(counts)))
    assert by_extent(np.array([0]), EXTENTS) == [(EXTENTS[0], np.array([0]))]
    assert by_extent(np.array([2, 64]), EXTENTS)[0][0] == EXTENTS[3]
