"""Hand on a stream's pieces as they come, and say so when none come."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Generator

from xai_traffic.capture.read_ahead import Ahead, Piece
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


def timed_chunks(
    chunks: Generator[Piece, None, None], seconds: float
) -> Generator[bytes, None, None]:
    """Yield the pieces of a stream as they come, and b"" whenever none came for so long.

    A thread of its own reads them from now on, at most AHEAD bytes before they are asked for, and
    small ones that wait are put together: each costs its reader time. It ends with the stream, or
    with the interpreter: nothing else can wake it from a read.

    Raises:
        Exception: what the stream raises, behind all that it gave before.
    """
    ahead = Ahead(_kept(chunks), AHEAD)
    ahead.start()
    return _taken(ahead, seconds)


def _kept(chunks: Generator[Piece, None, None]) -> Generator[bytes, None, None]:
    """Copy the pieces, whose memory is used again, out of it."""
    with contextlib.closing(chunks):
        yield from map(bytes, chunks)


def _taken(ahead: Ahead, seconds: float) -> Generator[bytes, None, None]:
    try:
        while (chunk := ahead.take(seconds, CHUNK)) is not None:
            yield chunk
    finally:
        ahead.close()
