"""Checkpoints: the same bits back, the newest and the best kept, damage told."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import logging as absl_logging

from xai_traffic.errors import RunError
from xai_traffic.parallel.mesh import make_mesh
from xai_traffic.parallel.sharding import put, replicated, shapes_at
from xai_traffic.training.checkpoint import Checkpoints
from xai_traffic.training.state import judged, make_state, params_sha256

VARIABLES = {
    "params": {"dense": {"kernel": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3)}},
    "batch_stats": {"norm": {"mean": np.float32([0.1, 0.2])}},
}


def make(average=True):
    return make_state(jax.tree.map(jnp.asarray, VARIABLES), optax.adam(1e-3), average=average)


def position(best):
    return {"stopping": {"best_step": best, "best": {"loss": 0.1 + 0.2}}, "loader": {"step": 3}}


@pytest.mark.parametrize("average", [True, False])
def test_comes_back_with_the_same_bits_on_other_devices(tmp_path, average):
    state = put(jax.device_get(make(average)), replicated(make_mesh(4)))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(7, state, position(7), 7)
    sharding = replicated(make_mesh(2))
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        like = shapes_at(state, sharding)
        found, where = checkpoints.restore(checkpoints.latest, like)
        variables = checkpoints.restore_variables(7, like.variables, average=average)
    assert where == position(7)
    assert params_sha256(found.variables) == params_sha256(state.variables)
    assert params_sha256(variables) == params_sha256(judged(state))
    for mine, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(found), strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)
    assert jax.tree.leaves(found)[0].sharding == sharding


def test_keeps_newest_and_best_over_a_restart(tmp_path):
    state = put(jax.device_get(make()), replicated(make_mesh(1)))
    for steps, best in (((1, 2, 3), 2), ((4, 5), 2)):
        with Checkpoints(tmp_path, keep=1) as checkpoints:
            if checkpoints.latest:
                checkpoints.restore(checkpoints.latest, state)
            for step in steps:
                checkpoints.save(step, state, position(min(best, step)), min(best, step))
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps == [2, 5]
        assert checkpoints.position(5)["stopping"]["best_step"] == 2


def test_donated_state_does_not_reach_the_disk(tmp_path):
    """Writing goes on in the background while the next step already overwrites the state."""
    step = jax.jit(lambda s: jax.tree.map(lambda a: a + 1, s), donate_argnums=0)
    state = put(jax.device_get(make()), replicated(make_mesh(1)))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, position(1), 1)
        like = shapes_at(state, replicated(make_mesh(1)))
        for _ in range(3):
            state = step(state)
        checkpoints.wait()
        found, _ = checkpoints.restore(1, like)
    assert params_sha256(found.variables) == params_sha256(VARIABLES)


def test_reading_only_is_not_told(tmp_path, caplog):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, put(jax.device_get(make()), replicated(make_mesh(1))), position(1), 1)
    caplog.clear()
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.latest == 1
    assert [record.getMessage() for record in caplog.records if record.levelno > 20] == []
    absl_logging.warning("Given directory is read only=x")
    absl_logging.warning("it is broken")
    assert "read only=x" in caplog.text and "it is broken" in caplog.text


def test_damage_and_another_model_are_told(tmp_path):
    state = put(jax.device_get(make(False)), replicated(make_mesh(1)))
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state, position(1), 1)
        checkpoints.wait()
        other = {"params": {"dense": {"kernel": jnp.zeros((5, 5))}}}
        with pytest.raises(RunError, match="checkpoint of step 1"):
            checkpoints.restore_variables(1, other, average=False)


def test_hash_depends_on_path_dtype_shape_and_bytes():
    def sha(name, array):
        return params_sha256({"params": {name: array}})

    kernel = np.arange(4, dtype=np.float32)
    different = [
        sha("kernel", kernel),
        sha("scale", kernel),
        sha("kernel", kernel.view(np.int32)),
        sha("kernel", kernel.reshape(2, 2)),
        sha("kernel", -kernel),
    ]
    assert len(set(different)) == 5
    assert sha("kernel", kernel) == sha("kernel", jnp.asarray(kernel))
