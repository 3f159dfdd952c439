"""Time a step that runs again and again; used by our worker and by the peers' alike."""

from __future__ import annotations

import math
import pathlib
import statistics
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


def time_calls(call: Callable[[], object], repeats: int, warm: bool = True) -> dict:
    """Call so many times; return medians of seconds by the clock and of the cores' work.

    Args:
        call: comes back when it is done.
        repeats: calls that are timed.
        warm: call once before, for what is compiled or made at the first call.

    Returns:
        seconds, busy, first (seconds of the call before, None without it), last (its result).
    """
    began = time.perf_counter()
    last = call() if warm else None
    first = time.perf_counter() - began if warm else None
    seconds, busy = [], []
    for _ in range(repeats):
        began, worked = time.perf_counter(), time.process_time()
        last = call()
        seconds.append(time.perf_counter() - began)
        busy.append(time.process_time() - worked)
    medians = {"seconds": statistics.median(seconds), "busy": statistics.median(busy)}
    return {**medians, "first": first, "last": last}


def resident() -> int:
    """Return the memory that this process has, in bytes."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


def reset_peak() -> None:
    """Begin `peak_of_process` anew."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")
