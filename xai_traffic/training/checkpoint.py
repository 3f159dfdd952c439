"""Checkpoints of a run: the newest to go on from and the best to use."""

from __future__ import annotations

import contextlib
import logging
import pathlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging as absl_logging
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import (
    AnyPreservationPolicy,
    LatestN,
    PreservationPolicy,
)

from xai_traffic.errors import PeerError, RunError
from xai_traffic.terminal import log, printable
from xai_traffic.training.seal import damage_of, is_sealed, seal
from xai_traffic.training.state import TrainState

_VARIABLES, _AVERAGE, _TRAINING, _POSITION = "variables", "average", "training", "position"


class Checkpoints:
    """The folder `checkpoints` of a run. Every process makes one and calls its methods alike.

    A checkpoint holds the variables and their average, the rest of the training state, and the
    position: plain JSON values that the loop needs to go on (loader, early stopping, seconds).
    It is sealed before it is complete, see `seal.py`.

    Left by an OSError, as when the disk is full, the context raises a RunError in its place that
    says from where the run goes on; left by what JAX raises where another process is gone, a
    PeerError.

    Args:
        folder: made where it is missing, unless `read_only`.
        keep: newest checkpoints kept; the best one is kept beside them.
        read_only: for those who only use a run.
    """

    def __init__(self, folder: pathlib.Path, keep: int = 1, *, read_only: bool = False):
        self.folder = pathlib.Path(folder).absolute()
        self._best = _KeepBest()
        self._written: int | None = None
        options = ocp.CheckpointManagerOptions(
            # orbax sets 0 itself where nothing is saved, and warns that it does.
            save_interval_steps=0 if read_only else 1,
            create=not read_only,
            read_only=read_only,
            cleanup_tmp_directories=not read_only,
            preservation_policy=AnyPreservationPolicy([LatestN(keep), self._best]),
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
        )
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(_orbax_told_once())
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if isinstance(error, jax.errors.JaxRuntimeError) and jax.process_count() > 1:
            # Nothing is waited for: what is being written waits for the process that is gone.
            told = str(error).partition("\n")[0]
            raise PeerError(
                f"process {jax.process_index()}: the work that the processes share failed, most "
                f"likely because another one ended, whose log says why ({told}); {self._goes_on()}"
            ) from error
        try:
            self.close()
        except RunError as failed:
            if error is None:
                raise
            log.error("%s", printable(failed))
        if isinstance(error, OSError):
            raise RunError(f"{error}: mend that; {self._goes_on()}") from error

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
            step: steps done; one that is there takes the place of another position only.
            state: of the training.
            position: JSON values; ["stopping"]["best_step"] is read back by `restore`.
            best_step: which checkpoint to keep, be it old or this one; 0 for none yet.

        Raises:
            RunError: this one, or the one before, could not be written.
        """
        self._best.step = best_step
        if step in self._manager.all_steps():
            if self.position(step)["loader"] == position["loader"]:
                return
            self._manager.delete(step)  # one that was interrupted before its validation
        items = {
            _VARIABLES: ocp.args.StandardSave(state.variables),
            _TRAINING: ocp.args.StandardSave(_rest(state)),
            _POSITION: ocp.args.JsonSave(position),
        }
        if state.average:
            items[_AVERAGE] = ocp.args.StandardSave(state.average)
        with self._writing():
            self._manager.wait_until_finished()  # its seal is told by `_written`
            self._written = step
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def restore_newest(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Read the newest checkpoint that is whole, None where none was ever written.

        A damaged one is moved out of the folder, with a warning.

        Args:
            like: see `restore`.

        Raises:
            RunError: all are damaged, or the newest is of another model.
        """
        damaged = []
        for step in reversed(self.steps):
            damage = self._agreed_damage(step)
            if damage is None:
                try:
                    return self.restore(step, like)
                except RunError as error:
                    # What is sealed is as it was written: then the fault is not the disk's.
                    if is_sealed(self.folder / str(step)) or jax.process_count() > 1:
                        raise
                    damage = str(error)
            aside = self._put_aside(step)
            log.warning(
                "the checkpoint of step %d is damaged (%s): moved to %s, going on from the one "
                "before",
                step,
                printable(damage),
                printable(aside),
            )
            damaged.append(str(step))
        if damaged:
            raise RunError(
                f"no checkpoint in {self.folder} can be read: those of steps {', '.join(damaged)} "
                "are damaged. Begin again in another --workdir"
            )
        return None

    def restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """Read a checkpoint on any number of devices, in whatever placement it was written.

        Args:
            like: shapes, dtypes and shardings of the state, see `sharding.shapes_at`.

        Raises:
            RunError: the checkpoint is damaged or of another model.
        """
        items = {
            _VARIABLES: ocp.args.StandardRestore(like.variables),
            _TRAINING: ocp.args.StandardRestore(_rest(like)),
            _POSITION: ocp.args.JsonRestore(),
        }
        if like.average:
            items[_AVERAGE] = ocp.args.StandardRestore(like.average)
        found = self._read(step, items)
        state = TrainState(
            step=found[_TRAINING]["step"],
            variables=found[_VARIABLES],
            average=found[_AVERAGE] if like.average else {},
            optimizer=found[_TRAINING]["optimizer"],
        )
        self._best.step = found[_POSITION]["stopping"]["best_step"]
        return state, found[_POSITION]

    def restore_variables(
        self, step: int, like: dict[str, Any], *, average: bool
    ) -> dict[str, Any]:
        """Read what users of a model need; `average` takes the averaged parameters.

        Raises:
            RunError: the checkpoint is damaged or of another model.
        """
        items = {_VARIABLES: ocp.args.StandardRestore(like)}
        if average:
            items[_AVERAGE] = ocp.args.StandardRestore(like["params"])
        damage = damage_of(self.folder / str(step), items)
        if damage:
            raise RunError(f"the checkpoint of step {step} is damaged: {damage}")
        found = self._read(step, items)
        return {**found[_VARIABLES], **({"params": found[_AVERAGE]} if average else {})}

    def position(self, step: int) -> dict[str, Any]:
        """Read the position of a checkpoint.

        Raises:
            RunError: the checkpoint is damaged.
        """
        return self._read(step, {_POSITION: ocp.args.JsonRestore()})[_POSITION]

    def wait(self) -> None:
        """Wait until everything is on disk.

        Raises:
            RunError: it could not be written.
        """
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and let the folder go; raises as `wait`."""
        try:
            self.wait()
        finally:
            with contextlib.suppress(Exception):  # what `wait` has raised already
                self._manager.close()
            self._quiet.close()

    def _read(self, step: int, items: dict[str, Any]) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # noqa: BLE001 - damage shows as any kind of error in orbax
            told = str(error).partition("\n")[0]
            raise RunError(
                f"the checkpoint of step {step} in {self.folder} cannot be read: "
                f"{type(error).__name__}: {told}"
            ) from error

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:
            told = str(error).partition("\n")[0]
            raise RunError(
                f"the checkpoint of step {self._written} could not be written: {told}: mend that; "
                f"{self._goes_on()}"
            ) from error

    def _goes_on(self) -> str:
        if self.latest is None:
            return "no checkpoint is there yet, and the same command begins anew"
        return (
            f"the checkpoint of step {self.latest} in {self.folder} is whole, and the same command "
            "goes on from there"
        )

    def _seal(self) -> None:
        """Seal a checkpoint when all its files are written, before it gets its name.

        Called in the background.
        """
        if jax.process_index() == 0:
            nameless = self.folder.glob(f"{self._written}{ocp.utils.TMP_DIR_SUFFIX}*")
            seal(next(nameless, self.folder / str(self._written)))

    def _agreed_damage(self, step: int) -> str | None:
        """Return what is wrong with a checkpoint; the first process looks, all hear of it."""
        damage = damage_of(self.folder / str(step)) if jax.process_index() == 0 else None
        if jax.process_count() > 1:
            found = multihost_utils.broadcast_one_to_all(np.array(damage is not None))
            if found and damage is None:
                damage = "as process 0 tells"
        return damage

    def _put_aside(self, step: int) -> pathlib.Path:
        aside = self.folder.parent / f"damaged-checkpoint-{step}"
        while aside.exists():
            aside = aside.with_name(f"{aside.name}-again")
        if jax.process_index() == 0:
            (self.folder / str(step)).rename(aside)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("put aside")
        self._manager.reload()
        return aside


@contextlib.contextmanager
def _orbax_told_once() -> Iterator[None]:
    """Keep orbax from logging what is no news.

    That a folder is read only was asked for; what fails in the background is raised by the next
    call, and otherwise each of its threads would log hundreds of lines about a full disk.
    """

    def is_news(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR and "orbax" in pathlib.Path(record.pathname).parts:
            return False
        return not str(record.msg).startswith("Given directory is read only=")

    logger = absl_logging.get_absl_logger()
    logger.addFilter(is_news)
    try:
        yield
    finally:
        logger.removeFilter(is_news)


def _rest(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "optimizer": state.optimizer}


class _KeepBest(PreservationPolicy):
    """Keep the checkpoint that early stopping calls the best.

    orbax' own policies judge by metrics that it forgets at a restart, and keep the later of
    equals.
    """

    step = 0

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        return [checkpoint.step == self.step for checkpoint in checkpoints]
