"""Hand on a stream's pieces as they come, and say so when none come."""

from __future__ import annotations

import collections
import os
import stat
import threading
import time
from collections.abc import Generator, Iterator

from xai_traffic.capture.reader import CHUNK, STANDARD_INPUT

AHEAD = 64 << 20
"""Bytes read ahead while the reader of the pieces is busy; then the stream has to wait."""


def is_live(path: str | os.PathLike) -> bool:
    """Tell whether a capture may be written while it is read: a pipe, not a file.

    Args:
        path: a file, or "-" for standard input.
    """
    try:
        mode = (os.fstat(0) if os.fspath(path) == STANDARD_INPUT else os.stat(path)).st_mode
    except OSError:  # opening it says why
        return os.fspath(path) == STANDARD_INPUT
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def timed_chunks(chunks: Iterator[bytes], seconds: float) -> Generator[bytes, None, None]:
    """Yield the pieces of a stream as they come, and b"" whenever none came for so long.

    A thread of its own reads them from now on, at most AHEAD bytes before they are asked for. It
    ends with the stream, or with the interpreter: nothing else can wake it from a read.

    Raises:
        Exception: what the stream raises, behind all that it gave before.
    """
    queue = _Queue()
    threading.Thread(target=queue.fill, args=(chunks,), name="capture", daemon=True).start()
    return _taken(queue, seconds)


def _taken(queue: _Queue, seconds: float) -> Generator[bytes, None, None]:
    try:
        while (chunk := queue.take(seconds)) is not None:
            yield chunk
    finally:
        queue.close()


class _Queue:
    """Pieces between two threads, bounded by their bytes."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._chunks: collections.deque[bytes] = collections.deque()
        self._bytes = 0
        self._ended = self._closed = False
        self._error: BaseException | None = None

    def fill(self, chunks: Iterator[bytes]) -> None:
        """Put in all pieces; wait while there is no room."""
        error = None
        try:
            for chunk in chunks:
                with self._changed:
                    self._changed.wait_for(lambda: self._bytes < AHEAD or self._closed)
                    if self._closed:
                        return
                    self._chunks.append(chunk)
                    self._bytes += len(chunk)
                    self._changed.notify_all()
        except Exception as raised:  # noqa: BLE001 - raised again where the pieces are taken
            error = raised
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def take(self, seconds: float) -> bytes | None:
        """Return all that is there, CHUNK bytes at most, in one piece: small ones cost time.

        b"" when nothing comes in time, None behind the end.
        """
        until = time.monotonic() + seconds
        with self._changed:
            while not self._chunks and not self._ended:
                left = until - time.monotonic()
                if left <= 0:
                    return b""
                self._changed.wait(left)
            if self._chunks:
                taken = [self._chunks.popleft()]
                size = len(taken[0])
                while self._chunks and size + len(self._chunks[0]) <= CHUNK:
                    taken.append(self._chunks.popleft())
                    size += len(taken[-1])
                self._bytes -= size
                self._changed.notify_all()
                return taken[0] if len(taken) == 1 else b"".join(taken)
            if self._error is not None:
                raise self._error
            return None

    def close(self) -> None:
        """Want no more pieces."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
