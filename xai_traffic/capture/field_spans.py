"""The named spans of a tile, and the cursor that lays them end to end."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Field:
    """A protocol field: Wireshark's filter name, and its bytes [start, end) in the tile."""

    name: str
    start: int
    end: int


class Spans:
    """A cursor over bytes [position, stop) that names what it passes.

    It never moves past `stop`: a field that the capture cuts is named as far as it goes, one that
    lies wholly behind is not there. So the spans cover what was passed, without gap or overlap,
    whatever lengths hostile bytes claim.
    """

    def __init__(self, data: bytes, position: int, stop: int, fields: list[Field] | None = None):
        self.data, self.position = data, position
        self.stop = max(position, min(stop, len(data)))
        self.fields: list[Field] = [] if fields is None else fields

    @property
    def left(self) -> int:
        """Bytes not yet named."""
        return self.stop - self.position

    def peek(self, size: int, ahead: int = 0) -> bytes:
        """Return up to `size` bytes that lie `ahead` of the cursor."""
        start = self.position + ahead
        return self.data[start : min(start + size, self.stop)]

    def number(self, size: int, ahead: int = 0) -> int:
        """Return the big-endian number `ahead` of the cursor, 0 where it is cut."""
        raw = self.peek(size, ahead)
        return int.from_bytes(raw, "big") if len(raw) == size else 0

    def take(self, name: str, size: int) -> bytes:
        """Name the next `size` bytes and return them."""
        end = min(self.position + max(size, 0), self.stop)
        start = self.position
        if end > start:
            self.fields.append(Field(name, start, end))
            self.position = end
        return self.data[start:end]

    def take_number(self, name: str, size: int) -> int:
        """Name the next `size` bytes and return their number, 0 where it is cut."""
        value = self.number(size)
        self.take(name, size)
        return value

    def rest(self, name: str) -> bytes:
        """Name everything up to `stop`."""
        return self.take(name, self.left)

    def part(self, size: int) -> Spans:
        """Return a cursor over the next `size` bytes, which it must name, and step behind them."""
        inner = Spans(self.data, self.position, min(self.position + max(size, 0), self.stop))
        inner.fields = self.fields
        self.position = inner.stop
        return inner
