"""Checkpoints of a run: the newest to go on from and the best to use."""

from __future__ import annotations

import contextlib
import logging
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from jax.sharding import Sharding
from orbax.checkpoint.checkpoint_managers import (
    AnyPreservationPolicy,
    LatestN,
    PreservationPolicy,
)

from xai_traffic.errors import RunError
from xai_traffic.training.state import TrainState


class Checkpoints:
    """The folder `checkpoints` of a run. Every process makes one and calls its methods alike.

    A checkpoint holds the variables and their average, the rest of the training state, and the
    position: plain JSON values that the loop needs to go on (loader, early stopping, seconds).

    Args:
        folder: made where it is missing, unless `read_only`.
        keep: newest checkpoints kept; the best one is kept beside them.
        read_only: for those who only use a run.
    """

    def __init__(self, folder: pathlib.Path, keep: int = 1, *, read_only: bool = False):
        self.folder = pathlib.Path(folder).absolute()
        self._best = _KeepBest()
        options = ocp.CheckpointManagerOptions(
            # orbax sets 0 itself where nothing is saved, and warns that it does.
            save_interval_steps=0 if read_only else 1,
            create=not read_only,
            read_only=read_only,
            preservation_policy=AnyPreservationPolicy([LatestN(keep), self._best]),
        )
        with _reading_only_untold():
            self._manager = ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def latest(self) -> int | None:
        """Step of the newest complete checkpoint, None where there is none."""
        return self._manager.latest_step()

    @property
    def steps(self) -> list[int]:
        """Steps of all complete checkpoints."""
        return sorted(self._manager.all_steps())

    def save(self, step: int, state: TrainState, position: dict[str, Any], best_step: int) -> None:
        """Write a checkpoint in the background.

        Args:
            step: steps done; nothing is written when it is there already.
            state: of the training.
            position: JSON values; ["stopping"]["best_step"] is read back by `restore`.
            best_step: which checkpoint to keep, be it old or this one; 0 for none yet.
        """
        self._best.step = best_step
        if step in self._manager.all_steps():
            return
        items = {
            "variables": ocp.args.StandardSave(state.variables),
            "training": ocp.args.StandardSave(_rest(state)),
            "position": ocp.args.JsonSave(position),
        }
        if state.average:
            items["average"] = ocp.args.StandardSave(state.average)
        self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def restore(
        self, step: int, like: TrainState, sharding: Sharding
    ) -> tuple[TrainState, dict[str, Any]]:
        """Read a checkpoint on any number of devices.

        Args:
            like: a state or `jax.eval_shape` of one: structure, shapes and dtypes.
            sharding: where its arrays shall lie.

        Raises:
            RunError: the checkpoint is damaged or of another model.
        """
        items = {
            "variables": ocp.args.StandardRestore(_abstract(like.variables, sharding)),
            "training": ocp.args.StandardRestore(_abstract(_rest(like), sharding)),
            "position": ocp.args.JsonRestore(),
        }
        if like.average:
            items["average"] = ocp.args.StandardRestore(_abstract(like.average, sharding))
        found = self._read(step, items)
        state = TrainState(
            step=found["training"]["step"],
            variables=found["variables"],
            average=found["average"] if like.average else {},
            optimizer=found["training"]["optimizer"],
        )
        self._best.step = found["position"]["stopping"]["best_step"]
        return state, found["position"]

    def restore_variables(
        self, step: int, like: dict[str, Any], sharding: Sharding, *, average: bool
    ) -> dict[str, Any]:
        """Read what users of a model need; `average` takes the averaged parameters."""
        abstract = _abstract(like, sharding)
        items = {"variables": ocp.args.StandardRestore(abstract)}
        if average:
            items["average"] = ocp.args.StandardRestore(abstract["params"])
        found = self._read(step, items)
        return {**found["variables"], **({"params": found["average"]} if average else {})}

    def position(self, step: int) -> dict[str, Any]:
        """Read the position of a checkpoint.

        Raises:
            RunError: the checkpoint is damaged.
        """
        return self._read(step, {"position": ocp.args.JsonRestore()})["position"]

    def wait(self) -> None:
        """Wait until everything is on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and let the folder go."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _read(self, step: int, items: dict[str, Any]) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except (ValueError, KeyError, OSError) as error:
            raise RunError(
                f"the checkpoint of step {step} in {self.folder} cannot be read: {error}"
            ) from error


@contextlib.contextmanager
def _reading_only_untold() -> Iterator[None]:
    """Keep orbax from warning that a folder is read only, which is what was asked for."""

    def is_news(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Given directory is read only=")

    logger = absl_logging.get_absl_logger()
    logger.addFilter(is_news)
    try:
        yield
    finally:
        logger.removeFilter(is_news)


def _rest(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "optimizer": state.optimizer}


def _abstract(tree: Any, sharding: Sharding) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


class _KeepBest(PreservationPolicy):
    """Keep the checkpoint that early stopping calls the best.

    orbax' own policies judge by metrics that it forgets at a restart, and keep the later of
    equals.
    """

    step = 0

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        return [checkpoint.step == self.step for checkpoint in checkpoints]
