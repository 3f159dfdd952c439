"""Read capture files in pieces: plain, compressed (judged by content, not by name) or piped in."""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import re
import stat
import sys
from collections.abc import Generator, Iterable, Iterator
from typing import BinaryIO

from xai_traffic.capture.decompress import MAGIC, compression_of, decompressed
from xai_traffic.capture.read_ahead import read_ahead
from xai_traffic.errors import CaptureError
from xai_traffic.terminal import log, printable

CHUNK = 512 * 1024
"""Most bytes of a piece: it stays in the processor's cache while it is read."""

STANDARD_INPUT = "-"

_SUFFIX = re.compile(r"\.(pcap|pcapng|cap|pcap\d+)(\.(gz|zst|xz))?$", re.IGNORECASE)


def open_chunks(path: str | os.PathLike) -> Generator[bytes, None, None]:
    """Open a capture and return its (decompressed) bytes in pieces of at most CHUNK.

    Close the iterator if it is not read to its end.

    Args:
        path: a file, or "-" for standard input. gzip, zstd and xz are known by their first bytes;
            several members or frames in a row are one stream.

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
    return _read_all(name, stream)


def find_captures(
    paths: Iterable[str | os.PathLike], missing: list[CaptureError] | None = None
) -> list[tuple[str, pathlib.Path]]:
    """Return (name, path) of every capture: files as they are given, folders searched through.

    In folders a capture is a regular file named *.pcap, *.pcapng or *.cap, also with a number
    behind pcap and with .gz, .zst or .xz; its name is its path from that folder, with slashes.
    A folder below that may not be searched stands for the captures in it: opening it fails. One
    that is a link is not followed, and a warning says so.
    Captures of equal name keep their full paths as names.

    Args:
        paths: files, folders, "-".
        missing: takes the errors of the paths where nothing is, so that they do not cost the
            others; without it the first is raised.

    Raises:
        CaptureError: nothing is there, or a folder holds no capture.
    """
    found: dict[pathlib.Path, str] = {}
    for given in map(pathlib.Path, paths):
        try:
            inside = _find(given)
        except CaptureError as error:
            if missing is None:
                raise
            missing.append(error)
            continue
        for name, file in inside:
            found.setdefault(file, name)
    seen = collections.Counter(found.values())
    return [(capture_name(file) if seen[name] > 1 else name, file) for file, name in found.items()]


def _find(given: pathlib.Path) -> list[tuple[str, pathlib.Path]]:
    if os.path.isdir(given):
        inside = sorted(_search(given))
        if not inside:
            raise CaptureError(
                str(given), "this folder holds no capture (*.pcap, *.pcapng, *.cap, ...)"
            )
        return inside
    if str(given) == STANDARD_INPUT or _is_there(given):
        return [(capture_name(given), given)]
    raise CaptureError(str(given), "there is no such file or folder: check the path")


def capture_name(path: str | os.PathLike) -> str:
    """Return a path as text for tables, slashes between its parts, bytes that are no text escaped.

    A file name is any bytes: Python holds those that are not UTF-8 as lone surrogates, which
    neither Arrow nor a page of UTF-8 can store.
    """
    return pathlib.PurePath(path).as_posix().encode("utf-8", "backslashreplace").decode()


def is_capture_name(name: str) -> bool:
    """Tell whether a file in a folder is taken for a capture."""
    return _SUFFIX.search(name) is not None


def _search(given: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """Yield (name, path) of the captures in a folder, and of folders that cannot be searched."""
    closed: list[OSError] = []
    for folder, folders, files in os.walk(given, onerror=closed.append):
        for file in (pathlib.Path(folder, name) for name in files):
            if is_capture_name(file.name) and _is_taken(file):
                yield capture_name(file.relative_to(given)), file
        for below in (pathlib.Path(folder, name) for name in folders):
            if below.is_symlink():
                log.warning(
                    "%s links to a folder and is not followed: name it as an input to read it",
                    printable(below),
                )
    for error in closed:
        yield capture_name(error.filename), pathlib.Path(error.filename)


def _is_taken(file: pathlib.Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # not even to be looked at: opening it says why
        return True


def _is_there(given: pathlib.Path) -> bool:
    try:
        given.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:  # opening it says why
        return True
    return True


def _read_all(name: str, stream: BinaryIO) -> Generator[bytes, None, None]:
    with contextlib.closing(_decompressed(name, _raw(name, stream), _is_file(stream))) as pieces:
        yield from pieces


def _is_file(stream: BinaryIO) -> bool:
    """Tell whether reading never has to wait for a writer."""
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except OSError:
        return True


def _raw(name: str, stream: BinaryIO) -> Generator[bytes, None, None]:
    # read1 hands on what a pipe has, without waiting for a whole chunk.
    read = getattr(stream, "read1", stream.read)
    try:
        head = b""
        while len(head) < MAGIC:
            more = read(CHUNK - len(head))
            if not more:
                break
            head += more
        if head:
            yield head
        while more := read(CHUNK):
            yield more
    except OSError as error:
        raise CaptureError(
            name, f"reading failed ({error}): what came before it is used"
        ) from error
    finally:
        if name != STANDARD_INPUT:
            stream.close()


def _decompressed(
    name: str, chunks: Generator[bytes, None, None], is_file: bool
) -> Generator[bytes, None, None]:
    head = next(chunks, b"")
    kind = compression_of(head)
    whole = _put_before(head, chunks)
    if kind is None:
        yield from whole
        return
    pieces = read_ahead(_gathered(name, kind, whole), wait=is_file)
    with contextlib.closing(pieces):
        yield from pieces


def _put_before(head: bytes, chunks: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    with contextlib.closing(chunks):
        if head:
            yield head
        yield from chunks


def _gathered(
    name: str, kind: str, chunks: Generator[bytes, None, None]
) -> Generator[bytes, None, None]:
    """Decompress; put small steps together, up to CHUNK and up to where the stream may wait."""
    held: list[bytes] = []
    size = 0
    with contextlib.closing(chunks):
        try:
            for made in decompressed(name, kind, chunks):
                if held and (size + len(made) > CHUNK or not made):
                    yield b"".join(held)
                    held, size = [], 0
                if made:
                    held.append(made)
                    size += len(made)
        except CaptureError:
            if held:
                yield b"".join(held)
            raise
    if held:
        yield b"".join(held)
