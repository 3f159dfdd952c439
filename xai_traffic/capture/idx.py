"""Read image sets in IDX format, as USTC-TK2016 and DeepTraffic publish sessions.

    *-idx3-ubyte     images, uint8 [N, 28, 28]: the first 784 bytes of a session, see `images.py`
    *-labels-idx1-ubyte   uint8 [N], of the *-images-idx3-ubyte beside it

Both also compressed. A file is a big-endian header, 00 00 08 and the number of dimensions, then a
4-byte size of each, and the bytes (Y. LeCun, "The MNIST database of handwritten digits").
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import struct
from collections.abc import Generator

import numpy as np

from xai_traffic.capture.images import STREAM
from xai_traffic.capture.reader import open_chunks
from xai_traffic.errors import CaptureError

SIDE = 28

_TOGETHER = 4096
"""Images read at a time: 3 MiB."""

_NAME = re.compile(
    r"(?P<stem>.+?)(-(session|flow)-(all|l7)(-?layers)?)?(?P<images>-images)?"
    r"-idx3-ubyte(\.(gz|zst|xz))?",
    re.IGNORECASE,
)
_COMPRESSIONS = ("", ".gz", ".zst", ".xz")


def is_image_set(path: str | os.PathLike) -> bool:
    """Tell by its name whether a file holds images."""
    return bool(_NAME.fullmatch(pathlib.Path(path).name))


def stem_of(path: str | os.PathLike) -> str:
    """Return what an image set is called: "Tinba" of Tinba-session-all-layers-idx3-ubyte.gz."""
    found = _NAME.fullmatch(pathlib.Path(path).name)
    return found["stem"] if found else pathlib.Path(path).name


def labels_beside(path: str | os.PathLike) -> pathlib.Path | None:
    """Return the file of labels that belongs to a *-images-idx3-ubyte, None if there is none."""
    path = pathlib.Path(path)
    found = _NAME.fullmatch(path.name)
    if not found or not found["images"]:
        return None
    begin, end = found.span("images")
    for compression in _COMPRESSIONS:
        beside = path.with_name(f"{path.name[:begin]}-labels-idx1-ubyte{compression}")
        if beside.is_file():
            return beside
    return None


def read_images(path: str | os.PathLike) -> Generator[np.ndarray, None, None]:
    """Yield the images of a set, uint8 [n, 784], some at a time.

    Raises:
        CaptureError: the file is no set of 28 x 28 images, or is damaged; all whole images before
            the damage were yielded.
    """
    with contextlib.closing(_Bytes(path)) as source:
        (count, *shape) = source.header(3)
        if shape != [SIDE, SIDE]:
            height, width = shape
            raise CaptureError(
                source.name,
                f"its images are {height} x {width}, not 28 x 28: it is no USTC set",
                offset=8,
            )
        left = count
        while left:
            size = min(left, _TOGETHER) * STREAM
            data = source.read(size)
            whole = len(data) // STREAM
            if whole:
                yield np.frombuffer(data, np.uint8, whole * STREAM).reshape(-1, STREAM)
            left -= whole
            if len(data) < size:
                raise CaptureError(
                    source.name,
                    f"it is cut short: {count} images are promised, {count - left} are there",
                    offset=source.offset,
                )
        source.check_end()


def read_labels(path: str | os.PathLike) -> np.ndarray:
    """Return the labels of a set, uint8 [N].

    Raises:
        CaptureError: the file holds no labels, or is damaged.
    """
    with contextlib.closing(_Bytes(path)) as source:
        (count,) = source.header(1)
        data = source.read(count)
        if len(data) < count:
            raise CaptureError(
                source.name,
                f"it is cut short: {count} labels are promised, {len(data)} are there",
                offset=source.offset,
            )
        source.check_end()
    return np.frombuffer(data, np.uint8)


class _Bytes:
    """The decompressed bytes of a file, as many at a time as are asked for."""

    def __init__(self, path: str | os.PathLike):
        self.name = os.fspath(path)
        self.offset = 0
        self._chunks = open_chunks(path)
        self._held = bytearray()

    def close(self) -> None:
        self._chunks.close()

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer at the end of the file."""
        while len(self._held) < size:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._held += chunk
        data = bytes(self._held[:size])
        del self._held[:size]
        self.offset += len(data)
        return data

    def header(self, dimensions: int) -> tuple[int, ...]:
        """Return the sizes that the header gives.

        Raises:
            CaptureError: it is another header, or cut short.
        """
        magic, sizes = self.read(4), self.read(4 * dimensions)
        if magic != bytes([0, 0, 8, dimensions]):
            raise CaptureError(
                self.name,
                f"it begins with {magic.hex(' ') or 'nothing'}, not with 00 00 08 "
                f"{dimensions:02x}: it is no IDX file of bytes in {dimensions} dimensions",
                offset=0,
            )
        if len(sizes) < 4 * dimensions:
            raise CaptureError(self.name, "it is cut short in its header", offset=self.offset)
        return struct.unpack(f">{dimensions}I", sizes)

    def check_end(self) -> None:
        """Refuse bytes behind what the header promised.

        Raises:
            CaptureError: there are some.
        """
        if self.read(1):
            raise CaptureError(
                self.name, "it goes on behind what its header promises", offset=self.offset - 1
            )
