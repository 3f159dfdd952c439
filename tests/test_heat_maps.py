"""Grids of heat maps while a run trains: what they show, and that they change and lose nothing."""

import io
import os
import signal

import jax
import numpy as np
import pytest
from PIL import Image
from small_dataset import make_dataset, tiny_config

from xai_traffic import explain
from xai_traffic.parallel.sharding import put_batch
from xai_traffic.training import loop
from xai_traffic.training.heat_map_grid import GridRow, grid_png, heat_colours
from xai_traffic.training.heat_maps import TAG, HeatMaps, chosen_sessions, verdict_and_map
from xai_traffic.training.job import prepare
from xai_traffic.training.logging import read_events
from xai_traffic.training.loop import train

SHOWN = {"log.images": 3, "log.heat_maps_every": 1}


class Stopped(Exception):
    pass


class Pictures:
    """Take the place of a run's log."""

    def __init__(self):
        self.taken = {}

    def picture(self, tag, data, step, *, captured):
        assert tag == TAG and captured
        self.taken[step] = data


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("maps") / "dataset")


@pytest.fixture(scope="module")
def bare(dataset, tmp_path_factory):
    """Train without any picture."""
    return train(tiny_config(dataset), tmp_path_factory.mktemp("maps") / "bare")


def grids(run):
    return {
        event.step: value.image
        for path in sorted((run / "events" / "train").iterdir())
        for _, event in read_events(path)
        for value in event.summary.value
        if value.tag == TAG
    }


def steps_of(run, tag=TAG):
    return [
        event.step
        for path in sorted((run / "events" / "train").iterdir())
        for _, event in read_events(path)
        for value in event.summary.value
        if value.tag == tag
    ]


def test_the_training_is_the_same_to_the_bit_and_shows_every_epoch(dataset, bare, tmp_path):
    found = train(tiny_config(dataset, **SHOWN), tmp_path)
    assert steps_of(tmp_path) == [0, found["step"] // 2, found["step"]]
    for key in ("params_sha256", "best_params_sha256", "best", "best_step"):
        assert found[key] == bare[key], key
    shown = grids(tmp_path)
    assert len({image.encoded_image_string for image in shown.values()}) == len(shown)
    for image in shown.values():
        with Image.open(io.BytesIO(image.encoded_image_string)) as picture:
            assert picture.size == (image.width, image.height)


@pytest.mark.parametrize(
    ("overrides", "steps"),
    [
        ({"log.heat_maps_every": 2}, [0, 20, 40]),
        ({"log.heat_maps_every": 0}, []),
        ({"log.images": 0}, []),
    ],
)
def test_as_often_as_asked_for(dataset, overrides, steps):
    config = tiny_config(dataset, **{**SHOWN, **overrides})
    job, log = prepare(config), Pictures()
    state, maps = job.start(), HeatMaps(config, job, log)
    for epoch in range(5):
        maps.show(state, 10 * epoch, epoch)
    assert list(log.taken) == steps


@pytest.mark.parametrize("stop", [1, 5])
def test_going_on_neither_repeats_nor_loses_one(dataset, bare, tmp_path, stop):
    """Stopped before the first checkpoint, and inside an epoch."""

    def on_step(done):
        if done == stop:
            raise Stopped

    config = tiny_config(dataset, **SHOWN)
    with pytest.raises(Stopped):
        train(config, tmp_path, on_step=on_step)
    assert train(config, tmp_path)["params_sha256"] == bare["params_sha256"]
    assert steps_of(tmp_path) == [0, 3, 6]


def test_validation_that_was_logged_but_not_saved_is_logged_once(dataset, tmp_path, monkeypatch):
    """Stopped in validation, it goes on to validate, and falls before that is saved."""
    config, validate = tiny_config(dataset, **SHOWN), loop.validate

    def interrupted(job, state, asked_to_stop):
        os.kill(os.getpid(), signal.SIGTERM)
        return validate(job, state, asked_to_stop)

    monkeypatch.setattr(loop, "validate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path)
    monkeypatch.undo()
    show = HeatMaps.show

    def fall(self, state, step, epoch):
        show(self, state, step, epoch)
        raise Stopped

    monkeypatch.setattr(HeatMaps, "show", fall)
    with pytest.raises(Stopped):
        train(config, tmp_path)
    assert steps_of(tmp_path) == [0, 3]
    monkeypatch.undo()
    train(config, tmp_path)
    assert steps_of(tmp_path) == [0, 3, 6]
    assert steps_of(tmp_path, "validation/loss") == [3, 6]
    lines = (tmp_path / "metrics.csv").read_text().splitlines()
    assert len(lines) == 1 + 6 + 2 and len(set(lines)) == len(lines)


def test_parameters_that_are_split_are_shown_whole(dataset):
    pictures = {}
    for placement, devices in (("replicated", 1), ("fsdp", 8)):
        options = {**SHOWN, "mesh.data": devices, "mesh.placement": placement}
        options["model.options.dim"] = 64  # wide enough to be split
        config = tiny_config(dataset, **options)
        config.batch_size = 16
        job = prepare(config)
        state, log = job.start(), Pictures()
        leaves = jax.tree.leaves(state.variables["params"])
        assert all(leaf.is_fully_replicated for leaf in leaves) == (placement == "replicated")
        HeatMaps(config, job, log).show(state, 0, epoch=0)
        pictures[placement] = log.taken[0]
    assert pictures["fsdp"] == pictures["replicated"]


def test_one_program_gives_the_map_of_the_library(dataset):
    job = prepare(tiny_config(dataset))
    variables = jax.tree.map(lambda leaf: np.asarray(leaf) + 0.05, job.start().variables)
    images = np.float32(dataset.images(job.validation_rows[:3])[..., None])
    labels = np.array([2, 0, 1], np.int32)
    chances, maps = jax.jit(verdict_and_map, static_argnums=0)(job.model, variables, images, labels)
    expected = explain.gradient_x_input(job.model.apply, variables, images, labels)
    np.testing.assert_allclose(maps, expected, atol=1e-6 * np.abs(expected).max() + 1e-12)
    logits = jax.jit(job.model.logits)(variables, images)
    np.testing.assert_allclose(chances, jax.nn.softmax(logits), rtol=1e-5)
    assert np.abs(maps).max() > 0


def test_it_compiles_once_and_leaves_the_state_to_the_step(dataset):
    config = tiny_config(dataset, **SHOWN)
    job, log = prepare(config), Pictures()
    state, maps = job.start(), HeatMaps(config, job, log)
    maps.show(state, 0, epoch=0)
    programs = maps._explain._cache_size()
    before, batch = state, next(iter(job.loader))
    batch.pop("rows")
    state, _ = job.train_step(state, put_batch(batch, job.mesh), job.tiles["train"])
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before.variables))
    maps.show(state, 1, epoch=1)
    assert list(log.taken) == [0, 1] and maps._explain._cache_size() == programs


def test_sessions_are_spread_over_the_classes():
    labels = np.array([2, 0, 0, 1, 2, 0, 1, 3, 4])
    assert chosen_sessions(labels, 3).tolist() == [1, 0, 8]
    assert chosen_sessions(labels, 5).tolist() == [1, 3, 0, 7, 8]
    assert chosen_sessions(labels, 7).tolist() == [1, 2, 3, 6, 0, 7, 8]
    assert chosen_sessions(labels, 99).tolist() == [1, 2, 3, 6, 0, 4, 7, 8]
    assert chosen_sessions(labels, 1).tolist() == [1]


def test_grid_draws_hostile_names_and_any_values():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (128, 128)).astype(np.uint8)
    hostile = "<b>\x1b[31m\u202e\u4e2d$x_{" * 20
    heats = [rng.normal(size=(128, 128)), np.zeros((128, 128)), np.full((128, 128), np.nan)]
    rows = [
        GridRow(hostile, hostile, image, heat.astype(np.float32), packets)
        for heat, packets in zip(heats, (64, 0, 9), strict=True)
    ]
    with Image.open(io.BytesIO(grid_png(rows, 1234, 5))) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    # Eight rows of packets, one, and two, three pixels a byte, and what stands around them.
    assert pixels.shape == (28 + (8 + 1 + 2) * 48 + 3 * 46, 2 * 384 + 30, 3)


def test_colours_tell_for_from_against():
    colours = heat_colours(np.array([[1.0, -1.0, 0.0, 0.01]])).astype(int)[0]
    assert colours[0, 0] > colours[0, 2] + 80 and colours[1, 2] > colours[1, 0] + 80
    assert colours[2].min() > 240
    assert (heat_colours(np.zeros((2, 2))) > 240).all()
