"""Ctrl-C and SIGTERM: finish the step, save, then stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType

import jax
import numpy as np
from jax.experimental import multihost_utils

from xai_traffic.terminal import log


class Interruption:
    """Turn the first SIGINT or SIGTERM into a flag that the loop looks at after each step.

    A second signal stops at once. Outside the main thread signals are left alone.

    Args:
        every: steps between two looks where many processes must agree, which takes time.
        when: it stops, as the log says it.
    """

    def __init__(self, every: int = 1, when: str = "behind this step") -> None:
        self.asked, self._every, self._when = False, every, when

    def agreed(self, step: int = 0) -> bool:
        """Return whether any process was asked to stop; every process must call it alike."""
        if jax.process_count() == 1:
            return self.asked
        if step % self._every:
            return False
        return bool(np.any(multihost_utils.process_allgather(np.array(self.asked))))

    def __enter__(self) -> Interruption:
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        log.info(
            "%s: stopping %s; again to stop at once",
            signal.Signals(number).name,
            self._when,
        )
