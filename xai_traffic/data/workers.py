"""Read captures in several processes; what comes of them is the same, and in the same order."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import pathlib
import pickle
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from xai_traffic.capture.reader import STANDARD_INPUT
from xai_traffic.data.parts import Job, Part, Summary, read_parts

_LOOK = 0.2
"""Seconds between looks at how far the workers are."""


def usable_processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def read_captures(
    jobs: Sequence[Job], workers: int, told: Callable[[int], None]
) -> Generator[Generator[Part, None, Summary], None, None]:
    """Yield for each capture in turn the generator of its parts; use it up before the next.

    Close it if it is not used up: that ends the workers.

    Args:
        jobs: the captures.
        workers: processes that read side by side; up to 1, this process does.
        told: called with the bytes read of all captures, again and again.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        progress = [0] * len(jobs)
        with concurrent.futures.ThreadPoolExecutor(1, "parts") as thread:
            for number, job in enumerate(jobs):
                yield ahead(read_parts(job, _teller(progress, number, told)), thread)
        return
    with _Pool(workers, len(jobs)) as pool:
        files = [job.folder / f"parts-{number}" for number, job in enumerate(jobs)]
        # Standard input belongs to this process.
        waiting = {
            number: pool.read(number, job, files[number])
            for number, job in enumerate(jobs)
            if os.fspath(job.path) != STANDARD_INPUT
        }
        for number, job in enumerate(jobs):
            if number in waiting:
                yield _stored(job, files[number], waiting.pop(number), pool, told)
            else:
                yield read_parts(job, _teller(pool.progress, number, told))


def _teller(progress: Any, number: int, told: Callable[[int], None]) -> Callable[[int], None]:
    def tell(count: int) -> None:
        progress[number] = count
        told(sum(progress))

    return tell


def ahead(
    parts: Generator[Part, None, Summary], thread: concurrent.futures.Executor
) -> Generator[Part, None, Summary]:
    """Yield and return what `parts` does, each part made while the one before it is written."""
    with contextlib.closing(parts):
        # Before the first one the whole capture is read, which can be interrupted only here.
        part = _next(parts)
        while isinstance(part, Part):
            coming = thread.submit(_next, parts)
            try:
                yield part
            finally:
                concurrent.futures.wait([coming])
            part = coming.result()
        return part


def _next(parts: Generator[Part, None, Summary]) -> Part | Summary:
    try:
        return next(parts)
    except StopIteration as end:
        return end.value


def _stored(
    job: Job,
    file: pathlib.Path,
    reading: concurrent.futures.Future,
    pool: _Pool,
    told: Callable[[int], None],
) -> Generator[Part, None, Summary]:
    """Yield the parts that a worker put into a file; return its summary."""
    while not concurrent.futures.wait([reading], _LOOK).done:
        told(sum(pool.progress))
    result = reading.result()
    if isinstance(result, BaseException):
        raise result
    if result is None:
        file.unlink(missing_ok=True)
        fault = "the process that read it died, and it is left out: convert it alone to see why"
        return Summary({"capture": job.name, "sha256": None, "bytes": None}, fault=fault)
    summary, parts = result
    with open(file, "rb") as stream:
        for _ in range(parts):
            yield pickle.load(stream)
    file.unlink()
    return summary


class _Pool:
    """Processes, each served by a thread: one that dies costs the capture it was at, no other."""

    def __init__(self, workers: int, jobs: int):
        self._context = multiprocessing.get_context("spawn")
        self.progress = self._context.RawArray("q", jobs)
        self._threads = concurrent.futures.ThreadPoolExecutor(workers, "worker")
        self._own = threading.local()
        self._all: list[tuple[multiprocessing.Process, Connection]] = []
        self._closed = False

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process, _connection in list(self._all):
            process.terminate()
        self._threads.shutdown()
        for process, connection in self._all:
            process.terminate()  # one that was started meanwhile
            process.join()
            connection.close()

    def read(self, number: int, job: Job, file: pathlib.Path) -> concurrent.futures.Future:
        """Have a capture read into a file.

        The result is its summary with the number of parts in the file, an error that is not of
        the capture, or None when the process died.
        """
        return self._threads.submit(self._read, number, job, file)

    def _read(self, number: int, job: Job, file: pathlib.Path) -> Any:
        if self._closed:
            return None
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection, theirs = self._context.Pipe()
            process = self._context.Process(
                target=_work, args=(theirs, self.progress), name="convert", daemon=True
            )
            process.start()
            theirs.close()
            self._all.append((process, connection))
            self._own.connection = connection
        try:
            connection.send((number, job, file))
            return connection.recv()
        except (EOFError, OSError):
            self._own.connection = None
            return None


def _work(connection: Connection, progress: Any) -> None:
    """Read captures as they are asked for, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    with contextlib.suppress(EOFError, OSError):
        while True:
            number, job, file = connection.recv()
            try:
                result = _store(job, file, functools.partial(progress.__setitem__, number))
            except Exception as error:  # noqa: BLE001 - raised again where the parts are taken
                result = error
            connection.send(result)


def _store(job: Job, file: pathlib.Path, told: Callable[[int], None]) -> tuple[Summary, int]:
    parts = read_parts(job, told)
    count = 0
    with open(file, "wb") as stream:
        while True:
            try:
                part = next(parts)
            except StopIteration as end:
                return end.value, count
            pickle.dump(part, stream, protocol=5)
            count += 1
