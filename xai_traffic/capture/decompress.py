"""Decompress a stream of gzip members, xz streams or zstd frames, in steps of bounded size.

However well the data is compressed, a step gives at most STEP bytes, so a decompression bomb takes
time and no memory. What comes before a damaged place is given before the error.
"""

from __future__ import annotations

import contextlib
import lzma
import re
import zlib
from collections.abc import Iterator
from typing import Protocol

import zstandard

from xai_traffic.errors import CaptureError

STEP = 256 * 1024
"""Most bytes that a step gives."""

MAGIC = 6
"""Bytes that tell every format from every other."""

_MEMORY = 1 << 28
"""Bytes a decompressor may ask for: `xz -9` and `zstd --long` need less."""

_CAREFUL = 256
"""Compressed bytes fed at a time where damage is near: it bounds what is lost before it."""

_LZMA_STEP, _LZMA_PIECE = 64 * 1024, 4096
"""Likewise of xz, decompressed and compressed: a step that fails cannot be redone."""

_ZSTD_BLOCK = 128 * 1024
_SKIPPABLE = b"\x2a\x4d\x18"

_ERRORS = (zlib.error, lzma.LZMAError, zstandard.ZstdError, MemoryError)


class _Member(Protocol):
    """A gzip member, xz stream or zstd frame at work.

    `eof`: it ended; `rest`: what was fed behind its end, or is not yet decompressed.
    """

    eof: bool
    rest: bytes | memoryview

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        """Take more of it and yield what that gives."""

    def end(self) -> Iterator[bytes]:
        """Yield what can be had of a member that is cut short."""


class _Gzip:
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)
        self.eof, self.rest = False, b""

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        self.rest = data
        made = b""
        while (self.rest or len(made) == STEP) and not self.eof:
            before = self._inflate.copy()
            try:
                made = self._inflate.decompress(self.rest, STEP)
            except zlib.error:
                yield from self._again(before)
                raise
            self.eof = self._inflate.eof
            self.rest = self._inflate.unused_data if self.eof else self._inflate.unconsumed_tail
            yield made

    def _again(self, inflate: zlib._Decompress) -> Iterator[bytes]:
        """Redo a step that failed, a little at a time, up to the damage."""
        rest = self.rest
        for start in range(0, len(rest), _CAREFUL):
            self.rest = rest[start:]
            yield inflate.decompress(self.rest[:_CAREFUL])

    def end(self) -> Iterator[bytes]:
        yield from ()


class _Xz:
    def __init__(self) -> None:
        self._lzma = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
        self.eof, self.rest = False, b""

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        for start in range(0, len(data), _LZMA_PIECE):
            self.rest = data[start:]
            piece = self.rest[:_LZMA_PIECE]
            while not self.eof and (piece or not self._lzma.needs_input):
                made = self._lzma.decompress(piece, _LZMA_STEP)
                piece = b""
                self.eof = self._lzma.eof
                yield made
            if self.eof:
                self.rest = self._lzma.unused_data + self.rest[_LZMA_PIECE:]
                return
        self.rest = b""

    def end(self) -> Iterator[bytes]:
        yield from ()


class _Zstd:
    """Feeds block by block, each of which gives at most 128 KiB: libzstd has no other bound."""

    def __init__(self) -> None:
        self._zstd = zstandard.ZstdDecompressor(max_window_size=_MEMORY).decompressobj()
        self._held, self._at = b"", 0  # what was fed, and how much of it is done
        self._size_of_next = self._size_of_header
        self._skipped = 0
        self.eof = False

    @property
    def rest(self) -> bytes:
        return self._held[self._at :]

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        self._held, self._at = self.rest + data, 0
        while self._at < len(self._held) and not self.eof:
            size = self._size_of_next()
            if not size or size > len(self._held) - self._at:
                return
            part = self._held[self._at : self._at + size]
            made = self._zstd.decompress(part)
            self._at += size
            self._go_on_behind(part)
            yield made

    def end(self) -> Iterator[bytes]:
        if rest := self.rest:
            yield self._zstd.decompress(rest)

    def _go_on_behind(self, part: bytes) -> None:
        self.eof = self._zstd.eof
        if self._size_of_next == self._size_of_header:
            self._skipped = int.from_bytes(part[4:], "little") if part[1:4] == _SKIPPABLE else 0
            self._size_of_next = self._size_of_skipped if self._skipped else self._size_of_block
        elif self._size_of_next == self._size_of_skipped:
            self._skipped -= len(part)
        elif part[0] & 1:  # the last block
            self._size_of_next = lambda: 4  # the checksum, if there is one

    def _size_of_header(self) -> int:
        """Return how long the frame's header is, 0 while that is unknown (RFC 8878, 3.1.1.1)."""
        head = self._held[self._at : self._at + 5]
        if head[1:4] == _SKIPPABLE:
            return 8
        if len(head) < 5:
            return 0
        single, size = head[4] >> 5 & 1, head[4] >> 6
        return 6 - single + (0, 1, 2, 4)[head[4] & 3] + (single, 2, 4, 8)[size]

    def _size_of_skipped(self) -> int:
        return min(self._skipped, len(self._held) - self._at)

    def _size_of_block(self) -> int:
        """Return how long the block is with its header, 0 while that is unknown (3.1.1.2)."""
        head = self._held[self._at : self._at + 3]
        if len(head) < 3:
            return 0
        header = int.from_bytes(head, "little")
        kind, size = header >> 1 & 3, header >> 3
        if kind == 1:  # one byte, repeated; of too many libzstd says so
            return 4
        if kind == 3 or size > _ZSTD_BLOCK:  # impossible, as libzstd says of the header alone
            return 3
        return 3 + size


FORMATS: dict[str, tuple[re.Pattern[bytes], type[_Member]]] = {
    "gzip": (re.compile(rb"\x1f\x8b"), _Gzip),
    "xz": (re.compile(rb"\xfd7zXZ\0"), _Xz),
    # a frame, or a skippable one (RFC 8878), with which pzstd begins
    "zstd": (re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", re.DOTALL), _Zstd),
}


def compression_of(head: bytes) -> str | None:
    """Return the name of the compression that a stream's first MAGIC bytes tell, or None."""
    return next((kind for kind, (magic, _) in FORMATS.items() if magic.match(head)), None)


def decompressed(name: str, kind: str, chunks: Iterator[bytes | memoryview]) -> Iterator[bytes]:
    """Yield what a compressed stream gives, step by step, and b"" behind each of its pieces.

    Args:
        name: of the capture, for errors.
        kind: a key of FORMATS.
        chunks: the stream, from its beginning.

    Raises:
        CaptureError: behind all that could be had, where the stream is damaged or ends early.
    """
    magic, make = FORMATS[kind]
    member: _Member | None = None
    between = b""  # what was read behind the last member
    end = 0  # bytes read
    for data in chunks:
        end += len(data)
        while data:
            if member is None:
                between, data = (between + data).lstrip(b"\0"), b""  # members may be padded
                if len(between) < MAGIC:
                    break
                if not magic.match(between):
                    raise _damage(
                        name, kind, end - len(between), f"what follows there is not {kind}"
                    )
                member, data, between = make(), between, b""
            try:
                yield from member.feed(data)
            except _ERRORS as error:
                raise _damage(name, kind, end - len(member.rest), str(error)) from error
            data = b""
            if member.eof:
                member, data = None, member.rest
        yield b""
    if member is not None:
        with contextlib.suppress(*_ERRORS):
            yield from member.end()
    if member is not None or between:
        raise _damage(name, kind, None, "it ends early")


def _damage(name: str, kind: str, offset: int | None, detail: str) -> CaptureError:
    where = "" if offset is None else f" near byte {offset:,} of the compressed file"
    return CaptureError(
        name,
        f"the {kind} data is damaged{where} ({detail}): what came before it is used; "
        "get a whole copy of the file",
    )
