"""Run what a benchmark measures, each run a process of its own, in turn round by round."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

PATIENCE = 600
"""Seconds until a run is given up: heiFIP hangs where it cannot read a file."""


class Run(NamedTuple):
    """One thing that is measured in a case."""

    name: str
    command: list[str]
    amount: float = 0  # packets, bytes or images, where it does not print them itself
    unit: str = "packets"
    rounds: int = 99  # at most
    core: str = ""  # XAI_TRAFFIC_CORE
    source: list[str] = []  # what writes its standard input
    free: bool = False  # to use every core
    note: str = ""
    absent: str = ""  # why it cannot run
    facts: dict = {}  # put into its records


def measure(case: str, runs: list[Run], rounds: int) -> list[dict]:
    """Run a case's runs in turn, round by round; print and return a record of each."""
    records = []
    for number in range(rounds):
        for run in runs:
            if number >= run.rounds or (run.absent and number):
                continue
            record = {
                "case": case,
                "name": run.name,
                "round": number,
                "unit": run.unit,
                **run.facts,
            }
            record |= {"note": run.note} if run.note else {}
            record |= {"absent": run.absent} if run.absent else execute(run)
            amount = record.get(run.unit) or run.amount
            if "seconds" in record:
                record["amount"], record["per_second"] = amount, amount / record["seconds"]
            records.append(record)
            print(json.dumps(record), flush=True)
            if "absent" in record:
                runs = [other for other in runs if other is not run]
    return records


def execute(run: Run) -> dict:
    """Run a process; return what it printed, or its time by the clock, and its peak memory."""
    environment = os.environ | ({"XAI_TRAFFIC_CORE": run.core} if run.core else {})
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        stdin = subprocess.DEVNULL
        if run.source:
            source = subprocess.Popen(run.source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            stack.enter_context(source)
            stack.callback(source.kill)
            stdin = source.stdout
        for made in ("made", "png", "split"):
            _clear(run.command, made)
        os.sync()  # what other runs wrote is not this one's to write to disk
        output = stack.enter_context(tempfile.TemporaryFile())
        errors = stack.enter_context(tempfile.TemporaryFile())
        prints = pathlib.PurePath(run.command[0]).name not in ("gzip", "zstd", "cat")
        began = time.perf_counter()
        process = subprocess.Popen(
            run.command,
            stdin=stdin,
            stdout=output if prints else subprocess.DEVNULL,
            stderr=errors,
            env=environment,
            preexec_fn=None if run.free else lambda: os.sched_setaffinity(0, cores[-1:]),
        )
        if run.source:
            source.stdout.close()
        with watched(process) as seen:
            process.wait()
            seconds = time.perf_counter() - began
        output.seek(0)
        errors.seek(0)
        printed = output.read().decode(errors="replace").strip().splitlines()
        wrong = errors.read().decode(errors="replace").strip().splitlines()
    outside = {"seconds": seconds, "peak": max(seen, default=None), "whole_process": True}
    if printed and printed[-1].startswith("{"):
        inside = json.loads(printed[-1])
        outside["whole_process"] = False
        return {"absent": inside["absent"]} if "absent" in inside else outside | inside
    if process.returncode:
        wrong = [f"stopped after {PATIENCE} s"] if seconds > PATIENCE else wrong
        return {"absent": f"failed: {wrong[-1] if wrong else process.returncode}"}
    return outside


def _clear(command: list[str], made: str) -> None:
    """Remove what an earlier run of this command wrote."""
    for argument in command:
        if pathlib.PurePath(argument).name == made:
            shutil.rmtree(argument, ignore_errors=True)
            if made != "made":
                os.mkdir(argument)


@contextlib.contextmanager
def watched(process: subprocess.Popen) -> Iterator[list[int]]:
    """Note the VmHWM of a process in bytes while it runs, and end it after PATIENCE."""
    seen: list[int] = []
    ended = threading.Event()

    def look() -> None:
        began, pause = time.perf_counter(), 0.001
        while not ended.wait(pause):
            with contextlib.suppress(OSError, IndexError, ValueError):
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                seen.append(int(status.split("VmHWM:")[1].split()[0]) * 1024)
            if time.perf_counter() - began > PATIENCE:
                process.kill()
            pause = min(2 * pause, 0.05)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        ended.set()
        looking.join()
