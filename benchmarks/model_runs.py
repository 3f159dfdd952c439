"""Run one case of a model and print it as a line of JSON.

    python benchmarks/model_runs.py training|inference MODEL DTYPE BATCH SECONDS [SEED]
    python benchmarks/model_runs.py training-largest|inference-largest MODEL DTYPE BATCH [SEED]
    python benchmarks/model_runs.py device

The benchmarks of training and inference start this, a process a run. The second form doubles the
batch from BATCH on until the device's memory is full, and prints the last that fitted. What is
measured is what `xai-traffic train` and `classify` run on the device: the compiled training step of
the study's recipe, and the compiled judgement of images; the data lie on the device before.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import metadata
from typing import NamedTuple

import jax
import numpy as np
from model_cases import CLASSES, all_models
from step_timing import lacks_memory, peak_of_process, time_steps

from xai_traffic.models import Model, build
from xai_traffic.parallel.mesh import make_mesh
from xai_traffic.parallel.sharding import put, put_batch, replicated
from xai_traffic.training.config import load_config
from xai_traffic.training.inference import compile_judge
from xai_traffic.training.optim import make_optimizer, make_schedule
from xai_traffic.training.state import TrainState, count_parameters, make_state
from xai_traffic.training.steps import compile_steps


def made_model(name: str, dtype: str) -> Model:
    """Return a model of the benchmarks, of one channel."""
    bench = all_models()[name]
    return build(bench.family, CLASSES, variant=bench.variant, dtype=dtype, **bench.options)


def make_training(
    name: str, dtype: str, batch_size: int, seed: int = 0
) -> tuple[Callable, TrainState, dict[str, jax.Array]]:
    """Return the training step, jitted, a state and a batch on the device."""
    step, state = jit_training(name, made_model(name, dtype), seed)
    return step, state, put_batch(random_batch(batch_size, seed), make_mesh(1))


def jit_training(name: str, model: Model, seed: int) -> tuple[Callable, TrainState]:
    """Return the training step of a model, jitted, and a state on the device.

    The recipe is the study's: plain SGD, no augmentation; weight decay, which only the ViT has
    there, is left out so that every model's and every peer's update is the same.
    """
    bench = all_models()[name]
    config = load_config(
        f"configs/{bench.family}.py:{bench.words}",
        **{"dtype": model.dtype, "model.channels": 1, "optimizer.weight_decay": 0.0, "seed": seed},
    )
    mesh, schedule = make_mesh(1), make_schedule(config.optimizer, 1, 1000)
    optimizer, weights = make_optimizer(config.optimizer, schedule), np.ones(CLASSES, np.float32)
    state = make_state(model.init(jax.random.key(seed)), optimizer, average=False)
    step, _ = compile_steps(model, optimizer, schedule, weights, config, mesh, state)
    return step, put(jax.device_get(state), replicated(mesh))


def random_batch(batch_size: int, seed: int) -> dict[str, np.ndarray]:
    """Return a batch of full sessions of random bytes, as the loader hands them out."""
    rng = np.random.default_rng(seed)
    return {
        "tiles": rng.integers(0, 256, (batch_size, 64, 256), np.uint8),
        "labels": rng.integers(0, CLASSES, batch_size).astype(np.int32),
        "weights": np.ones(batch_size, np.float32),
    }


class Prepared(NamedTuple):
    """A step that can be timed.

    Args:
        step: runs it once, may return before the device is done.
        wait: is given what the last step returned, comes back when the device is done.
        parameters: of the model.
        program: compiles the step as `step` does, for who reads its text.
    """

    step: Callable[[], object]
    wait: Callable[[object], object]
    parameters: int
    program: Callable[[], jax.stages.Compiled]


def training_case(name: str, dtype: str, batch_size: int, seed: int) -> Prepared:
    """Return a step of training."""
    jitted, state, batch = make_training(name, dtype, batch_size, seed)
    parameters = count_parameters(state.variables)
    kept = [state]
    del state  # the step gives its memory to the next one

    def step() -> jax.Array:
        kept[0], metrics = jitted(kept[0], batch, None)
        return metrics["loss"]

    return Prepared(
        step,
        lambda loss: jax.block_until_ready((kept[0], loss)),
        parameters,
        lambda: jitted.lower(kept[0], batch, None).compile(),
    )


def inference_case(name: str, dtype: str, batch_size: int, seed: int) -> Prepared:
    """Return a judgement of a batch of images."""
    model = made_model(name, dtype)
    variables = model.init(jax.random.key(seed))
    rng = np.random.default_rng(seed)
    images = jax.device_put(rng.integers(0, 256, (batch_size, 128, 128, 1), np.uint8))
    judge = compile_judge(model)
    return Prepared(
        lambda: judge(variables, images),
        jax.block_until_ready,
        count_parameters(variables),
        lambda: judge.lower(variables, images).compile(),
    )


CASES = {"training": training_case, "inference": inference_case}


def run(what: str, name: str, dtype: str, batch_size: int, seconds: float, seed: int) -> dict:
    """Time one case; without the memory for it the answer says so."""
    try:
        prepared = CASES[what](name, dtype, batch_size, seed)
        timed = time_steps(prepared.step, prepared.wait, seconds)
    except Exception as error:
        if lacks_memory(error):
            return {"absent": f"out of memory at batch {batch_size}"}
        raise
    images = timed["steps"] * batch_size
    return {
        **timed,
        "images": images,
        "parameters": prepared.parameters,
        "peak": _peak(),
        **_versions(),
    }


def largest(what: str, name: str, dtype: str, batch_size: int, seed: int) -> dict:
    """Double the batch until the memory is full; return the last that fitted."""
    fitted = 0
    while "absent" not in run(what, name, dtype, batch_size, 0.0, seed):
        fitted, batch_size = batch_size, 2 * batch_size
        jax.clear_caches()
    return {"largest": fitted}


def _peak() -> int:
    """Return the peak memory in bytes, the accelerator's where there is one."""
    statistics = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    return (statistics or {}).get("peak_bytes_in_use") or peak_of_process()


def _versions() -> dict:
    return {"version": f"jax {metadata.version('jax')}"}


def device() -> dict:
    """Return what JAX runs on."""
    first = jax.devices()[0]
    memory = first.memory_stats() if first.platform != "cpu" else None
    return {
        "platform": jax.default_backend(),
        "device": first.device_kind,
        "devices": len(jax.devices()),
        "device_memory": (memory or {}).get("bytes_limit"),
    }


def main() -> None:
    """Run what the command line asks for."""
    what, *rest = sys.argv[1:]
    if what == "device":
        print(json.dumps(device()))
        return
    name, dtype, batch_size = rest[0], rest[1], int(rest[2])
    if what.endswith("-largest"):
        what, seed = what.removesuffix("-largest"), int([*rest, 0][3])
        print(json.dumps(largest(what, name, dtype, batch_size, seed)))
        return
    seconds, seed = float(rest[3]), int([*rest, 0][4])
    print(json.dumps(run(what, name, dtype, batch_size, seconds, seed)))


if __name__ == "__main__":
    main()
