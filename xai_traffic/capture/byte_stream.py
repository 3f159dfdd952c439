"""Walk through the bytes of a capture that comes in pieces; memory is bounded."""

from __future__ import annotations

from collections.abc import Generator

from xai_traffic.errors import CaptureError


class ByteStream:
    """A capture of which a part is held, from a place that moves forward.

    Args:
        pieces: as `reader.open_chunks` gives them.

    Attributes:
        buffer: the bytes held, some of them read already.
        at: position in the buffer of what is not read yet.
        base: offset in the stream of the buffer's first byte.
        damage: why the stream ended before its end, None if it did not.
    """

    def __init__(self, pieces: Generator):
        self._pieces = pieces
        self.buffer = bytearray()
        self.at = self.base = 0
        self.damage: CaptureError | None = None

    def holds(self, count: int) -> bool:
        """Get so many bytes into the buffer; False where the stream ends before."""
        while len(self.buffer) - self.at < count:
            try:
                piece = next(self._pieces, None)
            except CaptureError as error:
                self.damage, piece = error, None
            if piece is None:
                return False
            del self.buffer[: self.at]
            self.base, self.at = self.base + self.at, 0
            self.buffer += piece
        return True

    def take(self, count: int) -> bytes:
        """Return the next bytes, which the buffer holds, and go on behind them."""
        self.at += count
        return bytes(self.buffer[self.at - count : self.at])
