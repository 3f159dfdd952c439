"""Wherever the parameters lie: the same training, and checkpoints for every other placement."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec
from small_dataset import make_dataset, tiny_config

from xai_traffic.errors import ConfigError
from xai_traffic.parallel.mesh import DATA, MODEL, make_mesh, share_of_batch
from xai_traffic.parallel.placement import check_placement, held, used
from xai_traffic.parallel.sharding import local
from xai_traffic.training.checkpoint import Checkpoints
from xai_traffic.training.job import prepare
from xai_traffic.training.loop import train

VIT = {
    **{"depth": 1, "dim": 64, "mlp_dim": 128, "heads": 4, "head_dim": 16, "packets": 8},
    **{"encoding": "scaled", "dropout": 0.1},
}
LAYOUTS = [(8, 1, "replicated"), (8, 1, "fsdp"), (2, 4, "tensor"), (4, 2, "fsdp+tensor")]
"""mesh.data, mesh.model, mesh.placement."""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("placement") / "dataset", sessions=100)


def config_of(dataset, data=1, model=1, placement="replicated", **overrides):
    return tiny_config(
        dataset,
        **{
            **{"epochs": 5, "batch_size": 16, "model.options": VIT, "mesh.data": data},
            **{"mesh.model": model, "mesh.placement": placement, "augment.packet_dropout": 0.1},
            **overrides,
        },
    )


def losses(run):
    with open(run / "metrics.csv", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    return np.array([float(row["train/loss"]) for row in rows])


@pytest.fixture(scope="module")
def alone(dataset, tmp_path_factory):
    """Return the losses of one device over 20 steps, and its run."""
    run = tmp_path_factory.mktemp("placement") / "one"
    train(config_of(dataset), run)
    return losses(run), run


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_layout_gives_the_losses_of_one_device(dataset, alone, layout, tmp_path):
    train(config_of(dataset, *layout), tmp_path)
    assert len(losses(tmp_path)) == 20
    np.testing.assert_allclose(losses(tmp_path), alone[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("placement", ["replicated", "fsdp"])
def test_batch_statistics_are_of_the_whole_batch(dataset, placement, tmp_path):
    """With statistics of a device's two sessions alone the losses would be others at once."""
    xception = {"model.name": "xception", "model.variant": "debug", "model.options": {}}
    plain = {"optimizer.name": "sgd", "optimizer.learning_rate": 1e-3, "optimizer.ema": 0.0}
    for data in (1, 8):
        config = config_of(dataset, data, 1, placement, **xception, **plain)
        train(config, tmp_path / str(data))
    one, eight = losses(tmp_path / "1"), losses(tmp_path / "8")
    assert len(one) == 20
    np.testing.assert_allclose(eight, one, rtol=1e-5, atol=1e-5)


def test_checkpoint_of_one_layout_goes_on_in_another(dataset, alone, tmp_path):
    class Stopped(Exception):
        pass

    def stop_at(last):
        def on_step(step):
            if step == last:
                raise Stopped

        return on_step

    for last, layout in zip((6, 11, 16), LAYOUTS[1:], strict=True):
        with pytest.raises(Stopped):
            config = config_of(dataset, *layout, **{"checkpoint.every_steps": 5})
            train(config, tmp_path, on_step=stop_at(last))
    train(config_of(dataset, *LAYOUTS[0]), tmp_path)
    assert len(losses(tmp_path)) == 20
    np.testing.assert_allclose(losses(tmp_path), alone[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_any_layout_restores_the_bits_of_another(dataset, alone, layout):
    job = prepare(config_of(dataset, *layout))
    with Checkpoints(alone[1] / "checkpoints", read_only=True) as checkpoints:
        here, _ = checkpoints.restore(20, prepare(config_of(dataset)).like)
        there, _ = checkpoints.restore(20, job.like)
    for mine, theirs in zip(jax.tree.leaves(local(here)), jax.tree.leaves(there), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_parameters_are_born_where_they_lie(dataset, layout):
    job = prepare(config_of(dataset, *layout))
    state = job.start()
    for array, like in zip(jax.tree.leaves(state), jax.tree.leaves(job.like), strict=True):
        assert array.sharding == like.sharding
    one = prepare(config_of(dataset)).start()
    for mine, theirs in zip(jax.tree.leaves(one), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    data, model, placement = layout
    kernel = state.variables["params"]["encoderblock_0"]["attention"]["query"]["kernel"]
    expected = {
        "replicated": (64, 4, 16),
        "fsdp": (64 // data, 4, 16),
        "tensor": (64, 4 // model, 16),
        "fsdp+tensor": (64 // data, 4 // model, 16),
    }[placement]
    assert {shard.data.shape for shard in kernel.addressable_shards} == {expected}
    moments = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.optimizer)
        if jax.tree_util.keystr(path, simple=True, separator="/").endswith("query/kernel")
    ]
    assert len(moments) == 2 and all(leaf.sharding == kernel.sharding for leaf in moments)


def test_rules_go_by_name_and_leave_small_parameters_whole():
    mesh = make_mesh(4, 2)
    like = {
        "attention": {"out": {"kernel": jnp.zeros((4, 16, 96)), "bias": jnp.zeros(96)}},
        "mlp_0": {"kernel": jnp.zeros((96, 384)), "bias": jnp.zeros(384)},
        "odd": {"kernel": jnp.zeros((99, 101))},
    }
    found = {
        name: sharding.spec
        for name, sharding in (
            (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(held("fsdp+tensor", like, mesh))
        )
    }
    assert found == {
        "attention/out/kernel": PartitionSpec(MODEL, None, DATA),
        "attention/out/bias": PartitionSpec(),
        "mlp_0/kernel": PartitionSpec(DATA, MODEL),
        "mlp_0/bias": PartitionSpec(MODEL),
        "odd/kernel": PartitionSpec(),
    }
    in_use = used("fsdp+tensor", like, mesh)
    assert in_use["attention"]["out"]["kernel"].spec == PartitionSpec(MODEL)
    assert in_use["mlp_0"]["kernel"].spec == PartitionSpec(None, MODEL)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ((0, 3, "tensor"), "mesh.model is 3 and there are 8 devices"),
        ((2, 8, "tensor"), "mesh.data is 2, mesh.model is 8, and there are 8 devices"),
        ((2, 2, "replicated"), "splits no layer: set --config.mesh.model=1"),
        ((1, 8, "tensor"), "does not divide the 4 heads"),
    ],
    ids=str,
)
def test_layouts_that_cannot_be_are_refused(dataset, layout, message):
    with pytest.raises(ConfigError, match=message):
        prepare(config_of(dataset, *layout))


def test_networks_without_heads_cannot_be_split():
    like = {"block1": {"kernel": jnp.zeros((3, 3, 64, 64))}}
    check_placement("fsdp", like, make_mesh(8))
    with pytest.raises(ConfigError, match="only the ViT has"):
        check_placement("tensor", like, make_mesh(4, 2))


def test_processes_that_share_a_layer_feed_the_same_part(monkeypatch):
    """Pretend that each pair, and each four, of the eight devices is a process of its own."""

    class Device:
        def __init__(self, process_index):
            self.process_index = process_index

    class Mesh:
        def __init__(self, shape, devices_a_process):
            owners = np.arange(8) // devices_a_process
            self.devices = np.array([Device(owner) for owner in owners]).reshape(shape)
            self.shape = dict(zip((DATA, MODEL), shape, strict=True))

    def shares(shape, devices_a_process):
        found = []
        for process in range(8 // devices_a_process):
            monkeypatch.setattr(jax, "process_index", lambda process=process: process)
            found.append(share_of_batch(Mesh(shape, devices_a_process)))
        return found

    assert shares((8, 1), 2) == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert shares((4, 2), 2) == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert shares((2, 4), 2) == [(0, 2), (0, 2), (1, 2), (1, 2)]
    assert shares((2, 4), 4) == [(0, 2), (1, 2)]
