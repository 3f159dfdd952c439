"""Let a thread of its own make the pieces of a stream while those before are worked on."""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Generator

AHEAD = 4
"""Pieces that are made before they are asked for, at most."""


def read_ahead(chunks: Generator[bytes, None, None], *, wait: bool) -> Generator[bytes, None, None]:
    """Yield the pieces of a stream, which a thread makes from the first one asked for on.

    Closed early, it ends the thread, which closes the stream.

    Args:
        chunks: the stream; its time should go into code that lets other threads run.
        wait: for the end of the thread, when closed. Not for a stream that may keep it waiting:
            such a thread ends with what it waits for, or with the interpreter.

    Raises:
        Exception: what the stream raises, behind all that it gave before.
    """
    ahead = _Ahead(chunks)
    thread = threading.Thread(target=ahead.fill, name="read ahead", daemon=True)
    thread.start()
    try:
        while (chunk := ahead.take()) is not None:
            yield chunk
    finally:
        ahead.close()
        if wait:
            thread.join()


class _Ahead:
    """Pieces between two threads, at most AHEAD."""

    def __init__(self, chunks: Generator[bytes, None, None]):
        self._chunks = chunks
        self._changed = threading.Condition()
        self._made: collections.deque[bytes] = collections.deque()
        self._ended = self._closed = False
        self._error: Exception | None = None

    def fill(self) -> None:
        """Make all pieces; wait while there are enough."""
        error = None
        try:
            with contextlib.closing(self._chunks):
                for chunk in self._chunks:
                    with self._changed:
                        self._changed.wait_for(lambda: len(self._made) < AHEAD or self._closed)
                        if self._closed:
                            return
                        self._made.append(chunk)
                        self._changed.notify_all()
        except Exception as raised:  # noqa: BLE001 - raised again where the pieces are taken
            error = raised
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def take(self) -> bytes | None:
        """Return the next piece, None behind the last."""
        with self._changed:
            self._changed.wait_for(lambda: self._made or self._ended)
            if self._made:
                self._changed.notify_all()
                return self._made.popleft()
            if self._error is not None:
                raise self._error
            return None

    def close(self) -> None:
        """Want no more pieces."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
