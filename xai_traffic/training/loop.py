"""The training loop."""

from __future__ import annotations

import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import ml_collections
import numpy as np

from xai_traffic.parallel.compilation import use_compilation_cache
from xai_traffic.parallel.sharding import local, put_batch, put_state
from xai_traffic.parallel.startup import start_processes
from xai_traffic.terminal import log, progress
from xai_traffic.training.checkpoint import Checkpoints
from xai_traffic.training.config import check_config, flatten, with_absolute_paths
from xai_traffic.training.interruption import Interruption
from xai_traffic.training.job import Job, check_same, claim, prepare
from xai_traffic.training.logging import RunLog
from xai_traffic.training.metrics import empty_sums, scores_of
from xai_traffic.training.pictures import confusion_matrix_png
from xai_traffic.training.result import make_result, show_examples, write_json
from xai_traffic.training.run import CHECKPOINTS, RESULT
from xai_traffic.training.state import TrainState, judged
from xai_traffic.training.stopping import Stopping
from xai_traffic.training.watch import StepWatch


def train(
    config: ml_collections.ConfigDict,
    workdir: str | os.PathLike,
    *,
    on_step: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Train by a config into a run's folder, going on where an interrupted run stopped.

    Args:
        config: see `configs/`.
        workdir: the run's folder; one that holds a finished run of this config is left as it is.
        on_step: called behind each step with the number of steps done.

    Returns:
        what `result.json` holds: step, epoch, best scores and their step, params_sha256 of the
        last step's variables, best_params_sha256 of those that are used, seconds, and seconds
        until this start's first step was done.

    Raises:
        ConfigError: the config contradicts itself, the dataset or the devices.
        RunError: the folder holds something else, or the loss is no longer finite.
        KeyboardInterrupt: SIGINT or SIGTERM came; the same call goes on.
    """
    workdir = pathlib.Path(workdir)
    check_config(config)
    config = with_absolute_paths(config)
    check_same(config, workdir)
    if (workdir / RESULT).exists():
        log.info("%s is finished: nothing to do", workdir)
        return json.loads((workdir / RESULT).read_text("utf-8"))
    start_processes()
    use_compilation_cache(config.compilation_cache)
    job = prepare(config)
    claim(config, job, workdir)
    loader, first = job.loader, jax.process_index() == 0
    with (
        Interruption(config.log.every_steps) as interruption,
        Checkpoints(workdir / CHECKPOINTS, config.checkpoint.keep) as checkpoints,
    ):
        state, position = job.restore(checkpoints)
        stopping = Stopping(config.early_stopping.metric, config.early_stopping.patience)
        before = 0.0
        if position is not None:
            loader.restore(position["loader"])
            stopping, before = Stopping(**position["stopping"]), position["seconds"]
            log.info("going on behind step %d", checkpoints.latest)
        began, step = time.monotonic(), checkpoints.latest or 0
        watch = StepWatch(job.dataset, workdir)
        watch.good_checkpoint = checkpoints.latest

        def save() -> None:
            watch.settle()
            seconds = before + time.monotonic() - began
            position = {
                "loader": loader.state(),
                "stopping": vars(stopping),
                "seconds": seconds,
            }
            checkpoints.save(step, state, position, stopping.best_step)
            watch.good_checkpoint = step

        with RunLog(workdir, step if position else -1, writes=first) as run_log:
            if position is None:
                run_log.settings(dict(flatten(config)), json.dumps(config.to_dict(), indent=1))
            while loader.state()["epoch"] < config.epochs and not stopping.due:
                at = loader.state()
                epoch = at["epoch"] + 1
                batches, left = iter(loader), len(loader) - at["step"]
                name = f"epoch {epoch} of {config.epochs}"
                for batch in progress(batches, name, left) if first else batches:
                    rows = batch.pop("rows")
                    batch = put_batch(batch, job.mesh)
                    with jax.transfer_guard("disallow"):
                        state, metrics = job.train_step(state, batch, job.tiles["train"])
                    step += 1
                    watch.add(step, metrics, rows, config.batch_size)
                    if on_step is not None:
                        on_step(step)
                    if step % config.log.every_steps == 0:
                        run_log.scores(step, epoch, "train", watch.means())
                    if loader.state()["step"] == len(loader):
                        continue  # the epoch's end saves
                    if interruption.agreed(step):
                        save()
                        raise KeyboardInterrupt
                    if config.checkpoint.every_steps and step % config.checkpoint.every_steps == 0:
                        save()
                watch.pause()
                scores, confusion = validate(job, state)
                stopping = stopping.after(step, epoch, scores)
                run_log.scores(step, epoch, "validation", scores)
                if first:
                    picture = confusion_matrix_png(confusion, job.classes)
                    run_log.picture("validation/confusion_matrix", picture, step)
                    told = ", ".join(f"{key} {value:.4f}" for key, value in scores.items())
                    log.info("%s: validation %s", name, told)
                save()
                if interruption.agreed():
                    raise KeyboardInterrupt
            checkpoints.wait()
            seconds = before + time.monotonic() - began
            result = make_result(job, state, stopping, checkpoints, seconds, watch.first_step)
            if first:
                show_examples(config, job, state, workdir, run_log)
                run_log.finished(step)
                write_json(workdir / RESULT, result)
    log.info("%s: done, best validation %s", workdir, result["best"])
    return result


def validate(job: Job, state: TrainState) -> tuple[dict[str, float], np.ndarray]:
    """Judge the whole validation split; return its scores and the confusion int [K, K]."""
    sums = put_state(jax.device_get(empty_sums(len(job.classes))), job.mesh)
    variables = judged(state)
    for batch in job.validation:
        batch.pop("rows")
        batch = put_batch(batch, job.mesh)
        with jax.transfer_guard("disallow"):
            sums = job.eval_step(variables, sums, batch, job.tiles["validation"])
    sums = local(sums)
    return scores_of(sums), sums["confusion"]
