"""The numbers of the steps, looked at one step late so that the device never waits for them."""

from __future__ import annotations

import json
import math
import pathlib
import time
from typing import Any

import jax
import numpy as np

from xai_traffic.data.store import Dataset
from xai_traffic.errors import RunError
from xai_traffic.terminal import log, printable

SHOWN = 5
"""Sessions named in the message; the file names all."""


_REMEDY = "lower optimizer.learning_rate or set optimizer.clip, in a new --workdir"


class StepWatch:
    """Collect what steps return, and stop a run whose numbers are no longer finite.

    Args:
        dataset: whose sessions a batch's rows name.
        run: the run's folder.
        most_skips: updates in a row that the step may have left out because its numbers were not
            finite; None where it leaves out none.

    Attributes:
        skipped: updates left out so far, {"all": n, "in_a_row": n}.
        good_checkpoint: step of the newest checkpoint, for the message.
        first_step: seconds until the first step was done: compiling, mostly.
    """

    def __init__(self, dataset: Dataset, run: pathlib.Path, most_skips: int | None = None):
        self._dataset, self._run, self._most_skips = dataset, run, most_skips
        self.skipped = {"all": 0, "in_a_row": 0}
        self._pending: tuple[int, dict[str, Any], np.ndarray] | None = None
        self._sums: dict[str, float] = {}
        self._steps = self._sessions = 0
        self._since: float | None = None
        self._began = time.monotonic()
        self.good_checkpoint: int | None = None
        self.first_step: float | None = None

    def begin(self) -> None:
        """Count the time to the first step from here."""
        self._began = time.monotonic()

    def add(self, step: int, metrics: dict[str, Any], rows: np.ndarray, sessions: int) -> None:
        """Take over the numbers of a step, and look at those of the step before.

        Args:
            step: steps done with this one.
            metrics: scalars on the device.
            rows: the dataset's rows of this process' share of the batch.
            sessions: sessions in the whole batch.

        Raises:
            RunError: the step before had a loss or gradient that is not finite, and none, or no
                more, may be left out.
        """
        self.settle()
        self._pending = (step, metrics, rows)
        self._sessions += sessions

    def settle(self) -> None:
        """Wait for the last step and look at its numbers; raises as `add`."""
        if self._pending is None:
            return
        step, metrics, rows = self._pending
        self._pending = None
        numbers = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if all(math.isfinite(number) for number in numbers.values()):
            for name, number in numbers.items():
                self._sums[name] = self._sums.get(name, 0.0) + number
            self._steps += 1
            self.skipped["in_a_row"] = 0
        else:
            self._skip(step, numbers, rows)
        if self.first_step is None:
            self.first_step = time.monotonic() - self._began
            log.info("the first step was done after %.1f s, compiled or fetched", self.first_step)
        if self._since is None:  # the first step compiles: no measure of throughput
            self._since, self._sessions = time.monotonic(), 0

    def means(self) -> dict[str, float]:
        """Return the means since the last call, and images_per_second where it can be told.

        Of steps that were left out nothing but their number is told: skipped, over the whole run.
        """
        self.settle()
        found = {name: total / self._steps for name, total in self._sums.items()}
        if self._most_skips is not None:
            found["skipped"] = self.skipped["all"]
        now = time.monotonic()
        if self._sessions and self._since is not None and now > self._since:
            found["images_per_second"] = self._sessions / (now - self._since)
        self._sums, self._steps, self._sessions = {}, 0, 0
        self._since = now
        return found

    def pause(self) -> None:
        """Leave out of the throughput what happens from here to the next step."""
        self.settle()
        self._since = None

    def _skip(self, step: int, numbers: dict[str, float], rows: np.ndarray) -> None:
        told = self._not_finite(step, numbers, rows)
        self.skipped = {key: count + 1 for key, count in self.skipped.items()}
        if self._most_skips is None:
            raise RunError(
                f"{told}; {self._last_good()}. Go on from there with "
                f"--config.loss.not_finite=skip, or {_REMEDY}"
            )
        if self.skipped["in_a_row"] > self._most_skips:
            count = self.skipped["in_a_row"]
            raise RunError(
                f"{told}, the {count} last ones alike, and loss.skips_in_a_row is "
                f"{self._most_skips}; {self._last_good()}. {_REMEDY.capitalize()}"
            )
        log.warning("%s: its update is left out, the %d. so far", told, self.skipped["all"])

    def _last_good(self) -> str:
        if self.good_checkpoint is None:
            return "no checkpoint was written yet"
        return f"the last good checkpoint is step {self.good_checkpoint}"

    def _not_finite(self, step: int, numbers: dict[str, float], rows: np.ndarray) -> str:
        table = self._dataset.table.select(["capture", "session"]).take(rows[rows >= 0])
        sessions = table.to_pylist()
        process = f"-{jax.process_index()}" if jax.process_index() else ""
        report = self._run / f"not-finite{process}.json"
        report.write_text(
            json.dumps({"step": step, "numbers": _named(numbers), "sessions": sessions}, indent=1),
            encoding="utf-8",
        )
        named = ", ".join(
            f"{printable(row['capture'])} session {row['session']}" for row in sessions[:SHOWN]
        )
        more = f" and {len(sessions) - SHOWN} more" if len(sessions) > SHOWN else ""
        which = ", ".join(f"{name} {number}" for name, number in _named(numbers).items())
        return f"step {step}: {which}: not finite. The batch was {named}{more} (all in {report})"


def _named(numbers: dict[str, float]) -> dict[str, str]:
    return {name: str(number) for name, number in numbers.items()}
