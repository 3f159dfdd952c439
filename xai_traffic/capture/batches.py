"""Read a capture piece by piece: tiles and rows as they come, and what is wrong with it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator

import numpy as np

from xai_traffic.capture import images
from xai_traffic.capture.core import Batch, open_core
from xai_traffic.capture.masking import apply_mask, parse_mask
from xai_traffic.capture.reader import open_chunks
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.errors import CaptureError


class CaptureReader:
    """Iterate over what the pieces of a capture give, as they come: `Batch` after `Batch`.

    Sessions come mixed, whether one is kept is known when it ends: see `gather`. Under layout
    ustc28 a batch has only the packets that reach their session's 784 bytes.

    Args:
        path: capture, see `reader.open_chunks`.
        rules: how to read it; tiles are masked by its mask.
        early: report a session once, as soon as it has all its tiles, or by `expire`.
        chunks: pieces of its stream, by default those of `reader.open_chunks`. An empty piece gives
            a batch without anything new.

    Attributes:
        packets: packet records so far.
        dropped: packets dropped so far by reason.
        fault: why reading stopped before the end, None if it did not; set when all is read.

    Raises:
        CaptureError: from the iterator: it cannot be opened, or is no capture at all.
        ConfigError: filter or mask have an error.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        rules: ReadingRules,
        *,
        early: bool = False,
        chunks: Generator[bytes, None, None] | None = None,
    ):
        self.path, self.rules = os.fspath(path), rules
        self.fault: str | None = None
        self._masked = bool(parse_mask(rules.mask))
        self._core = open_core(rules, early)
        self._chunks, self._stopped = chunks, False
        self._written = np.zeros(0, np.int64)
        self._batches = self._read()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        return next(self._batches)

    @property
    def packets(self) -> int:
        return self._core.packets

    @property
    def dropped(self) -> dict[str, int]:
        return self._core.dropped

    def expire(self, time_ns: int) -> np.ndarray:
        """Report the open sessions without a packet since then, SESSION [m]; see `early`."""
        return self._core.expire(time_ns)

    def stop(self) -> None:
        """Take the end of the pieces, when it comes, for one that was asked for, not a fault."""
        self._stopped = True

    def close(self) -> None:
        """Close the capture before its end."""
        self._batches.close()

    def _read(self) -> Generator[Batch, None, None]:
        damage = None
        any_bytes = False
        with contextlib.closing(self._chunks or open_chunks(self.path)) as chunks:
            try:
                for chunk in chunks:
                    any_bytes = any_bytes or len(chunk) > 0
                    yield self._prepare(self._core.feed(chunk))
                    if self._core.fault:
                        break
            except CaptureError as error:
                damage = error
        fault = self._core.fault
        last = self._prepare(self._core.finish())
        if not self._stopped:
            fault = self._core.fault
        if not self._core.packets and damage:
            raise damage
        if not any_bytes and not self._stopped:
            raise CaptureError(self.path, "the file is empty: capture or copy it again")
        if fault and fault[0].startswith("not a capture"):
            raise CaptureError(
                self.path,
                f"{fault[0]}; it takes those, also compressed by gzip, zstd or xz: "
                "convert other formats with Wireshark's editcap",
            )
        # The core sees a damaged stream as one cut short: the damage is the better reason.
        if damage:
            self.fault = str(damage)
        elif fault:
            reason, offset, packet = fault
            self.fault = str(
                CaptureError(
                    self.path, f"{reason}; what came before is used", offset=offset, packet=packet
                )
            )
        yield last

    def _prepare(self, batch: Batch) -> Batch:
        tiles, packets, sessions = batch
        if self.rules.layout == "ustc28" and len(packets):
            begins, size = self._advance(packets)
            reach = (begins < images.STREAM) & (size > 0)
            tiles, packets = tiles[reach], packets[reach]
        if self._masked:
            tiles = apply_mask(tiles, packets, self.rules.mask)
        return Batch(tiles, packets, sessions)

    def _advance(self, packets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        more = int(packets["session"].max()) + 1 - len(self._written)
        if more > 0:
            more = max(more, len(self._written))  # double it
            fresh = np.full(more, stream_start(self.rules.layers))
            self._written = np.concatenate([self._written, fresh])
        return images.stream_positions(packets, self._written, self.rules.layers)


def read_batches(path: str | os.PathLike, rules: ReadingRules) -> CaptureReader:
    """Open a capture for reading piece by piece; see `CaptureReader`."""
    return CaptureReader(path, rules)


def stream_start(layers: str) -> int:
    """Return how many bytes of a session's stream come before its first packet (ustc28)."""
    return len(images.FILE_HEADER) if layers == "all" else 0
