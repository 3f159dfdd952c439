"""Heat maps of a few validation sessions while a run trains: what it looks at, and from when on.

They are gradient x input of the logit of the session's label: one program gives them and the
verdict, for the cost of a small training step, and the label stays the same while verdicts change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from xai_traffic.capture.layouts import model_layout
from xai_traffic.explain.model_function import sum_channels, target_of
from xai_traffic.models import Model
from xai_traffic.parallel.sharding import on_one_device
from xai_traffic.terminal import log, printable
from xai_traffic.training.heat_map_grid import GridRow, grid_png
from xai_traffic.training.logging import RunLog
from xai_traffic.training.state import TrainState, judged

if TYPE_CHECKING:
    from xai_traffic.training.job import Job

TAG = "validation/heat_maps"
A_CLASS = 2
"""Most sessions of one class."""


class HeatMaps:
    """Log a grid of heat maps before the first step and behind every so many epochs.

    Args:
        config: of the training; task, log.images and log.heat_maps_every are read.
        job: whose validation sessions are shown, the same ones each time.
        run_log: gets the pictures. They show bytes of captures and stay out of its mirrors.
    """

    def __init__(self, config: ml_collections.ConfigDict, job: Job, run_log: RunLog):
        self._every = config.log.heat_maps_every if config.log.images else 0
        self._job, self._run_log = job, run_log
        if not self._every or jax.process_index():
            return
        labels = job.dataset.task_labels(config.task)[job.validation_rows]
        places = chosen_sessions(labels, config.log.images)
        rows = job.validation_rows[places]
        self._labels = labels[places].astype(np.int32)
        self._images = job.dataset.images(rows, model_layout(job.dataset.rules.layout))
        self._packets = job.dataset.tile_counts[rows]
        self._names = [
            f"{row['capture']} session {row['session']}"
            for row in job.dataset.table.select(["capture", "session"]).take(rows).to_pylist()
        ]
        self._explain = jax.jit(verdict_and_map, static_argnums=0)

    def show(self, state: TrainState, step: int, epoch: int) -> None:
        """Log a grid if one is due; every process must call it, the first one explains.

        Args:
            state: behind the step; its averaged parameters are shown where it keeps any.
            epoch: epochs done.
        """
        if not self._every or epoch % self._every:
            return
        variables = on_one_device(judged(state))
        if jax.process_index():
            return
        x = jax.device_put(np.float32(self._images[..., None]), jax.local_devices()[0])
        try:
            found = self._explain(self._job.model, variables, x, self._labels)
            probabilities, maps = jax.device_get(found)
        except jax.errors.JaxRuntimeError as error:  # no memory, say: the training is worth more
            log.warning("no heat maps of step %d: %s", step, printable(error))
            return
        rows = [
            GridRow(
                title=f"{name}: {self._job.classes[label]}",
                verdict=self._said(chances, label),
                image=image,
                heat=heat,
                packets=int(packets),
            )
            for name, label, chances, image, heat, packets in zip(
                self._names, self._labels, probabilities, self._images, maps, self._packets,
                strict=True,
            )
        ]  # fmt: skip
        self._run_log.picture(TAG, grid_png(rows, step, epoch), step, captured=True)

    def _said(self, probabilities: np.ndarray, label: int) -> str:
        best = int(probabilities.argmax())
        said = f"label {probabilities[label]:.3f}"
        if best != label:
            said += f", judged {self._job.classes[best]} {probabilities[best]:.3f}"
        return said


def chosen_sessions(labels: np.ndarray, most: int) -> np.ndarray:
    """Return places of the first session of each class, then the second, ascending by class.

    Where there are fewer places than classes, classes from the first to the last, evenly apart.

    Args:
        labels: int [N].
        most: places, at most.
    """
    classes, first = np.unique(labels, return_index=True)
    if most <= len(classes):
        return first[np.linspace(0, len(classes) - 1, most).round().astype(int)]
    members = [np.flatnonzero(labels == one)[:A_CLASS] for one in classes]
    turns = [[own[turn] for own in members if len(own) > turn] for turn in range(A_CLASS)]
    places = np.concatenate([np.array(turn, np.int64) for turn in turns])[:most]
    return places[np.argsort(labels[places], kind="stable")]


def verdict_and_map(
    model: Model, variables: dict, images: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Judge images and explain the logit of their labels by gradient x input.

    Args:
        images: float32 [B, 128, 128, 1], bytes.
        labels: int32 [B].

    Returns:
        probabilities float32 [B, K], and maps float32 [B, 128, 128], above zero for the label.
    """

    def score(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = model.logits(variables, x)
        return target_of(logits, labels).sum(), logits

    gradients, logits = jax.grad(score, has_aux=True)(images)
    return jax.nn.softmax(logits), sum_channels(gradients * images).astype(jnp.float32)
