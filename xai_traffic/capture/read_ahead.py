"""Let a thread of its own make the pieces of a stream while those before are worked on."""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable, Generator
from typing import TypeAlias

Piece: TypeAlias = bytes | memoryview
"""Bytes of a stream; its memory may be used again once the next piece is asked for."""

AHEAD = 4
"""Pieces that are made before they are asked for, at most."""

IN_USE = AHEAD + 2
"""Pieces whose memory `read_ahead` needs at a time: also the one just made, and the one given."""


def read_ahead(chunks: Generator[Piece, None, None], *, wait: bool) -> Generator[Piece, None, None]:
    """Yield the pieces of a stream, which a thread makes from the first one asked for on.

    A piece is good until the next one is asked for, if the stream leaves its memory alone until
    IN_USE further ones were. Closed early, it ends the thread, which closes the stream.

    Args:
        chunks: the stream; its time should go into code that lets other threads run.
        wait: for the end of the thread, when closed. Not for a stream that may keep it waiting:
            such a thread ends with what it waits for, or with the interpreter.

    Raises:
        Exception: what the stream raises, behind all that it gave before.
    """
    ahead = Ahead(chunks, AHEAD, weigh=lambda piece: 1)
    thread = ahead.start()
    try:
        while (chunk := ahead.take()) is not None:
            yield chunk
    finally:
        ahead.close()
        if wait:
            thread.join()


class Ahead:
    """The pieces of a stream on their way between two threads.

    Args:
        chunks: the stream.
        most: weight of the pieces made before they are asked for, but for one piece; then the
            stream has to wait.
        weigh: a piece; by default its bytes.
    """

    def __init__(
        self,
        chunks: Generator[Piece, None, None],
        most: int,
        weigh: Callable[[Piece], int] = len,
    ):
        self._chunks, self._most, self._weigh = chunks, most, weigh
        self._changed = threading.Condition()
        self._made: collections.deque[Piece] = collections.deque()
        self._weight = 0
        self._ended = self._closed = False
        self._error: Exception | None = None

    def start(self) -> threading.Thread:
        """Start the thread that makes the pieces."""
        thread = threading.Thread(target=self._fill, name="read ahead", daemon=True)
        thread.start()
        return thread

    def _fill(self) -> None:
        error = None
        try:
            with contextlib.closing(self._chunks):
                for chunk in self._chunks:
                    with self._changed:
                        self._changed.wait_for(lambda: self._weight < self._most or self._closed)
                        if self._closed:
                            return
                        self._made.append(chunk)
                        self._weight += self._weigh(chunk)
                        self._changed.notify_all()
        except Exception as raised:  # noqa: BLE001 - raised again where the pieces are taken
            error = raised
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def take(self, seconds: float | None = None, size: int = 0) -> Piece | None:
        """Return the next piece, None behind the last.

        Args:
            seconds: to wait for one; b"" is returned where none comes in time.
            size: bytes up to which further pieces that are there are put together with it.

        Raises:
            Exception: what the stream raised.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._made or self._ended, seconds):
                return b""
            if not self._made:
                if self._error is not None:
                    raise self._error
                return None
            taken = [self._made.popleft()]
            total = len(taken[0])
            while self._made and total + len(self._made[0]) <= size:
                taken.append(self._made.popleft())
                total += len(taken[-1])
            self._weight -= sum(map(self._weigh, taken))
            self._changed.notify_all()
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def close(self) -> None:
        """Want no more pieces."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
