"""Ctrl-C and SIGTERM: finish the step, save, then stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from xai_traffic.terminal import log


class Interruption:
    """Turn the first SIGINT or SIGTERM into a flag that the loop looks at after each step.

    A second signal stops at once. Outside the main thread signals are left alone.
    """

    def __init__(self) -> None:
        self.asked = False

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
            "%s: stopping behind this step; again to stop at once", signal.Signals(number).name
        )
