"""Time a step that runs again and again; used by our worker and by the peers' alike."""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Callable


def time_steps(
    step: Callable[[], object], wait: Callable[[object], object], seconds: float
) -> dict:
    """Run a step for so many seconds, behind its first run, which compiles, and a second one.

    Where the second run alone takes that long it is the measurement, and no third follows.

    Args:
        step: one step; may return before the device is done.
        wait: called with what the last step returned, comes back when the device is done.
        seconds: to measure for, at least; 0 measures one step.

    Returns:
        first_step (seconds, with the compilation), steps, seconds (of all those steps).
    """
    began = time.perf_counter()
    wait(step())
    first = time.perf_counter() - began
    began = time.perf_counter()
    wait(step())
    took, steps = time.perf_counter() - began, 1
    if took < seconds:
        steps = math.ceil(seconds / took)
        began = time.perf_counter()
        for _ in range(steps):
            last = step()
        wait(last)
        took = time.perf_counter() - began
    return {"first_step": first, "steps": steps, "seconds": took}


def peak_of_process() -> int:
    """Return the most memory that this process has had, in bytes."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error of any of the frameworks means that the device's memory is full."""
    text = f"{type(error).__name__}: {error}".lower()
    return any(sign in text for sign in ("resource_exhausted", "out of memory", "outofmemory"))
