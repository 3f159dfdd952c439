"""What a finished training leaves: result.json, and sessions with heat maps in TensorBoard."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Any

import jax
import ml_collections
import numpy as np

from xai_traffic.capture.layouts import model_layout
from xai_traffic.errors import RunError
from xai_traffic.parallel.sharding import local
from xai_traffic.terminal import log, printable
from xai_traffic.training.checkpoint import Checkpoints
from xai_traffic.training.logging import RunLog
from xai_traffic.training.pictures import heat_map_png
from xai_traffic.training.run import Run
from xai_traffic.training.state import TrainState, count_parameters, judged, params_sha256
from xai_traffic.training.stopping import Stopping
from xai_traffic.training.watch import StepWatch

if TYPE_CHECKING:
    from xai_traffic.training.job import Job


def make_result(
    job: Job,
    state: TrainState,
    stopping: Stopping,
    checkpoints: Checkpoints,
    seconds: float,
    watch: StepWatch,
) -> dict[str, Any]:
    """Return the content of `result.json`; every process must call it.

    Args:
        state: behind the last step.
        stopping: what is known of the best epoch, whose checkpoint `load_run` loads.
        seconds: that the training took, over all its starts.
        watch: of the steps of this start.
    """
    last, first_step = local(state), watch.first_step
    best = judged(last)
    if stopping.best_step != int(last.step):
        best = local(
            checkpoints.restore_variables(
                stopping.best_step, job.like.variables, average=bool(last.average)
            )
        )
    return {
        "step": int(last.step),
        "epoch": int(last.step) // len(job.loader),
        "best": dict(stopping.best),
        "best_step": stopping.best_step,
        "best_epoch": stopping.best_epoch,
        "params_sha256": params_sha256(last.variables),
        "best_params_sha256": params_sha256(best),
        "parameters": count_parameters(last.variables),
        "leaky": job.leaky,
        "sessions": {"train": job.loader.sessions, "validation": job.validation.sessions},
        "skipped": watch.skipped["all"],
        "seconds": round(seconds, 3),
        "seconds_to_first_step": None if first_step is None else round(first_step, 3),
        "device": f"{job.mesh.devices.size} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
    }


def show_examples(
    config: ml_collections.ConfigDict,
    job: Job,
    state: TrainState,
    workdir: pathlib.Path,
    run_log: RunLog,
) -> None:
    """Log some validation sessions with Grad-CAM heat maps of the last step's verdicts.

    Every process must call it; the first one explains, on one device.
    """
    count = min(config.log.images, len(job.validation_rows))
    if not count:
        return
    state = local(state)
    if jax.process_index():
        return
    places = np.linspace(0, len(job.validation_rows) - 1, count).astype(int)
    rows = job.validation_rows[places]
    run = Run(
        path=workdir,
        config=config,
        task=config.task,
        rules=job.dataset.rules,
        classes=job.classes,
        dataset={},
        model=job.model,
        variables=judged(state),
        step=int(state.step),
    )
    images = job.dataset.images(rows, model_layout(job.dataset.rules.layout))
    probabilities = run.predict(images)
    try:
        heats = run.explain(images, "grad_cam", target=probabilities.argmax(-1).astype(np.int32))
    except RunError as error:
        log.warning("no heat maps: %s", printable(error))
        return
    table = job.dataset.table.select(["capture", "session"]).take(rows).to_pylist()
    for number, row in enumerate(table):
        verdict = int(probabilities[number].argmax())
        title = (
            f"{row['capture']} session {row['session']}: {job.classes[verdict]} "
            f"{probabilities[number, verdict]:.3f}, Grad-CAM"
        )
        picture = heat_map_png(images[number], heats[number], title)
        run_log.picture(f"examples/{number}", picture, run.step, captured=True)
