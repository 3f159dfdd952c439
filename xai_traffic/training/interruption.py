"""Ctrl-C and SIGTERM: finish what is at work, save, then stop."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

from xai_traffic.terminal import log

GRACE = 25.0
"""Seconds from SIGTERM to the end of a training: Slurm and Kubernetes kill after 30."""

INTERRUPTED = 130
"""Exit status, as shells say it of Ctrl-C: who started the command can tell it from a failure."""


class Interruption:
    """Turn the first SIGINT or SIGTERM into a flag that a loop looks at.

    A second SIGINT stops at once; a second SIGTERM changes nothing, for launchers send several.
    Outside the main thread signals are left alone. One within another begins as that stands, and
    hands on what it was asked.

    Args:
        when: it stops, as the log says it.
        grace: seconds from SIGTERM after which the process ends, whatever it is at (compiling, or
            a step that takes minutes), so that it is not killed without a word; None for never.
    """

    def __init__(self, when: str = "behind this step", grace: float | None = None) -> None:
        self.asked, self._when, self._grace = False, when, grace
        self._left = threading.Event()

    def __enter__(self) -> Interruption:
        self._before = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
            if self._grace is not None:
                self._watch_the_time()
        outer = getattr(self._before.get(signal.SIGINT), "__self__", None)
        self._outer = outer if isinstance(outer, Interruption) else None
        self.asked |= self._outer is not None and self._outer.asked
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        if self._before and self._grace is not None:
            signal.set_wakeup_fd(self._woken_before)
            os.close(self._wake)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._outer is not None:
            self._outer.asked |= self.asked

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            return
        self.asked = True
        log.info("%s: stopping %s; Ctrl-C to stop at once", signal.Signals(number).name, self._when)

    def _watch_the_time(self) -> None:
        # Python runs a handler between two of its own instructions, and a compilation is one: only
        # what the C handler writes into a pipe reaches a thread meanwhile.
        told, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._woken_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        threading.Thread(target=self._end_in_time, args=(told,), daemon=True).start()

    def _end_in_time(self, told: int) -> None:
        with open(told, "rb", buffering=0) as stream:
            while number := stream.read(1):
                if number[0] == signal.SIGTERM and not self._left.wait(self._grace):
                    log.error(
                        "SIGTERM came %.0f s ago, and what is at work takes longer: ending without "
                        "another checkpoint; the same command goes on from the last one",
                        self._grace,
                    )
                    os._exit(INTERRUPTED)
