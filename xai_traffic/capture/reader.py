"""Read capture files in pieces: plain, compressed (judged by content, not by name) or piped in."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import sys
from collections.abc import Callable, Generator
from typing import BinaryIO

from xai_traffic.capture.decompress import MAGIC, compression_of, decompressed
from xai_traffic.capture.inputs import STANDARD_INPUT, capture_name, find_captures
from xai_traffic.capture.read_ahead import IN_USE, Piece, read_ahead
from xai_traffic.errors import CaptureError

__all__ = ["CHUNK", "STANDARD_INPUT", "capture_name", "find_captures", "open_chunks"]

CHUNK = 512 * 1024
"""Most bytes of a piece: it stays in the processor's cache while it is read."""


def open_chunks(
    path: str | os.PathLike, told: Callable[[int], None] | None = None
) -> Generator[Piece, None, None]:
    """Open a capture and return its (decompressed) bytes in pieces of at most CHUNK.

    A piece is good until the next one is asked for: the same memory is filled again and again,
    for first touching new memory takes longer than reading. Close the iterator if it is not read
    to its end.

    Args:
        path: a file, or "-" for standard input. gzip, zstd and xz are known by their first bytes;
            several members or frames in a row are one stream.
        told: called with the bytes read of the file, again and again, from another thread where
            it is compressed.

    Raises:
        CaptureError: at once where the file cannot be opened; from the iterator, behind all that
            could be read, where reading fails or the compressed data is damaged.
    """
    name = os.fspath(path)
    if name == STANDARD_INPUT:
        if sys.stdin is None:
            raise CaptureError(name, "standard input is closed: pipe a capture into it")
        # Past its buffer: a thread that waits in there would keep the interpreter from its exit.
        stream: BinaryIO = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    else:
        try:
            stream = open(name, "rb", buffering=0)  # noqa: SIM115 - closed by _read_all
        except FileNotFoundError as error:
            raise CaptureError(name, "there is no such file: check the path") from error
        except IsADirectoryError as error:
            raise CaptureError(
                name, "this is a folder: name the captures in it, or give it to `convert`"
            ) from error
        except PermissionError as error:
            raise CaptureError(
                name, "no permission to read it: change its mode, or run as its owner"
            ) from error
        except (OSError, ValueError) as error:
            raise CaptureError(name, f"it cannot be opened ({error})") from error
    return _read_all(name, stream, told)


def _read_all(
    name: str, stream: BinaryIO, told: Callable[[int], None] | None
) -> Generator[Piece, None, None]:
    raw = _raw(name, stream)
    if told is not None:
        raw = _counted(raw, told)
    with contextlib.closing(_decompressed(name, raw, _is_file(stream))) as pieces:
        yield from pieces


def _is_file(stream: BinaryIO) -> bool:
    """Tell whether reading never has to wait for a writer."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:
        return True


def _raw(name: str, stream: BinaryIO) -> Generator[Piece, None, None]:
    # readinto1 hands on what a pipe has, without waiting for a whole chunk.
    read_into = getattr(stream, "readinto1", stream.readinto)
    memory = memoryview(bytearray(CHUNK))
    try:
        held = 0
        while held < MAGIC and (count := read_into(memory[held:])):
            held += count
        if held:
            yield memory[:held]
        while count := read_into(memory):
            yield memory[:count]
    except OSError as error:
        raise CaptureError(
            name, f"reading failed ({error}): what came before it is used"
        ) from error
    finally:
        if name != STANDARD_INPUT:
            stream.close()


def _counted(
    chunks: Generator[Piece, None, None], told: Callable[[int], None]
) -> Generator[Piece, None, None]:
    count = 0
    with contextlib.closing(chunks):
        for chunk in chunks:
            count += len(chunk)
            told(count)
            yield chunk


def _decompressed(
    name: str, chunks: Generator[Piece, None, None], is_file: bool
) -> Generator[Piece, None, None]:
    head = next(chunks, b"")
    kind = compression_of(head)
    whole = _put_before(head, chunks)
    if kind is None:
        yield from whole
        return
    pieces = read_ahead(_gathered(name, kind, whole), wait=is_file)
    with contextlib.closing(pieces):
        yield from pieces


def _put_before(head: Piece, chunks: Generator[Piece, None, None]) -> Generator[Piece, None, None]:
    with contextlib.closing(chunks):
        if head:
            yield head
        yield from chunks


def _gathered(
    name: str, kind: str, chunks: Generator[Piece, None, None]
) -> Generator[Piece, None, None]:
    """Decompress; put small steps together, up to CHUNK and up to where the stream may wait.

    A piece is good until IN_USE further ones were asked for.
    """
    memories = itertools.cycle([memoryview(bytearray(CHUNK)) for _ in range(IN_USE)])
    memory, size = next(memories), 0
    with contextlib.closing(chunks):
        try:
            for made in decompressed(name, kind, chunks):
                if size and (size + len(made) > CHUNK or not made):
                    yield memory[:size]
                    memory, size = next(memories), 0
                memory[size : size + len(made)] = made
                size += len(made)
        except CaptureError:
            if size:
                yield memory[:size]
            raise
    if size:
        yield memory[:size]
