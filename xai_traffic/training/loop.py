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

from xai_traffic.parallel.agreement import Agreement
from xai_traffic.parallel.compilation import use_compilation_cache
from xai_traffic.parallel.sharding import local, put, put_batch, replicated
from xai_traffic.parallel.startup import start_processes
from xai_traffic.terminal import log, progress
from xai_traffic.training.checkpoint import Checkpoints
from xai_traffic.training.config import check_config, flatten, with_absolute_paths
from xai_traffic.training.heat_maps import HeatMaps
from xai_traffic.training.interruption import GRACE, Interruption
from xai_traffic.training.job import Job, check_same, claim, prepare
from xai_traffic.training.logging import RunLog
from xai_traffic.training.metrics import empty_sums, scores_of
from xai_traffic.training.pictures import confusion_matrix_png
from xai_traffic.training.result import make_result, show_examples
from xai_traffic.training.run import CHECKPOINTS, RESULT
from xai_traffic.training.state import TrainState, judged
from xai_traffic.training.stopping import Stopping
from xai_traffic.training.watch import StepWatch
from xai_traffic.whole import write_json


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
        Interruption(grace=GRACE) as interruption,
        Checkpoints(workdir / CHECKPOINTS, config.checkpoint.keep) as checkpoints,
    ):
        state, position = job.restore(checkpoints)
        stopping = Stopping(config.early_stopping.metric, config.early_stopping.patience)
        most_skips = config.loss.skips_in_a_row if config.loss.not_finite == "skip" else None
        watch = StepWatch(job.dataset, workdir, most_skips)
        watch.good_checkpoint, before = checkpoints.latest, 0.0
        if position is not None:
            loader.restore(position["loader"])
            stopping, before = Stopping(**position["stopping"]), position["seconds"]
            watch.skipped = position["skipped"]
            log.info("going on behind step %d", checkpoints.latest)
        began, step = time.monotonic(), checkpoints.latest or 0
        asked_to_stop = Agreement(job.mesh, lambda: interruption.asked)

        def save(place: dict[str, int]) -> None:
            watch.settle()
            position = {
                "loader": place,
                "stopping": vars(stopping),
                "skipped": watch.skipped,
                "seconds": before + time.monotonic() - began,
            }
            checkpoints.save(step, state, position, stopping.best_step)
            watch.good_checkpoint = step

        def leave() -> None:
            checkpoints.wait()
            log.info("stopped behind step %d: the same command goes on from there", step)
            raise KeyboardInterrupt

        due = loader.state()["step"] == len(loader)  # the epoch is done, but not validated
        with RunLog(workdir, step if position else -1, writes=first, due=due) as run_log:
            heat_maps = HeatMaps(config, job, run_log)
            if position is None:
                run_log.settings(dict(flatten(config)), json.dumps(config.to_dict(), indent=1))
                heat_maps.show(state, step, epoch=0)
            watch.begin()
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
                    at = loader.state()
                    if at["step"] == len(loader):
                        continue  # validation is still due, and the epoch's end saves
                    if asked_to_stop():
                        save(at)
                        leave()
                    if config.checkpoint.every_steps and step % config.checkpoint.every_steps == 0:
                        save(at)
                watch.pause()
                found = validate(job, state, asked_to_stop)
                if found is None:
                    save(at)
                    leave()
                stopping = stopping.after(step, epoch, found[0])
                if first:
                    log_validation(run_log, job.classes, name, step, epoch, *found)
                heat_maps.show(state, step, epoch)
                save(loader.state())
                if asked_to_stop():
                    leave()
            checkpoints.wait()
            seconds = before + time.monotonic() - began
            result = make_result(job, state, stopping, checkpoints, seconds, watch)
            show_examples(config, job, state, workdir, run_log)
            if first:
                run_log.finished(step)
                write_json(workdir / RESULT, result)
    log.info("%s: done, best validation %s", workdir, result["best"])
    return result


def log_validation(
    run_log: RunLog,
    classes: list[str],
    name: str,
    step: int,
    epoch: int,
    scores: dict[str, float],
    confusion: np.ndarray,
) -> None:
    """Log what `validate` found, and say it."""
    run_log.scores(step, epoch, "validation", scores)
    picture = confusion_matrix_png(confusion, classes)
    run_log.picture("validation/confusion_matrix", picture, step)
    told = ", ".join(f"{key} {value:.4f}" for key, value in scores.items())
    log.info("%s: validation %s", name, told)


def validate(
    job: Job, state: TrainState, asked_to_stop: Agreement
) -> tuple[dict[str, float], np.ndarray] | None:
    """Judge the whole validation split; return its scores and the confusion int [K, K].

    None where it was asked to stop.
    """
    sums = put(jax.device_get(empty_sums(len(job.classes))), replicated(job.mesh))
    variables = judged(state)
    for batch in job.validation:
        if asked_to_stop():
            return None
        batch.pop("rows")
        batch = put_batch(batch, job.mesh)
        with jax.transfer_guard("disallow"):
            sums = job.eval_step(variables, sums, batch, job.tiles["validation"])
    sums = local(sums)
    return scores_of(sums), sums["confusion"]
