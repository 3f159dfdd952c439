"""The named spans of a tile, and the cursor that lays them end to end."""

from __future__ import annotations

import dataclasses
from collections import Counter


@dataclasses.dataclass(frozen=True)
class Field:
    """A protocol field: Wireshark's filter name, and its bytes [start, end) in the tile.

    A field of an outer layer whose protocol comes again further in carries the number of its layer
    as in Wireshark's filters: `ip.src#1` of `ip.src#1`, `ip.src#2` and `ip.src`.
    """

    name: str
    start: int
    end: int


class Spans:
    """A cursor over bytes [position, stop) that names what it passes.

    It never moves past `stop`: a field that the capture cuts is named as far as it goes, one that
    lies wholly behind is not there. So the spans cover what was passed, without gap or overlap,
    whatever lengths hostile bytes claim.
    """

    def __init__(self, data: bytes, position: int, stop: int):
        self.data, self.position = data, position
        self.stop = max(position, min(stop, len(data)))
        self.fields: list[Field] = []
        self.layers: list[tuple[str, int]] = []

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

    def little(self, size: int, ahead: int = 0) -> int:
        """Return the little-endian number `ahead` of the cursor, 0 where it is cut."""
        raw = self.peek(size, ahead)
        return int.from_bytes(raw, "little") if len(raw) == size else 0

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

    def take_all(self, *fields: tuple[str, int]) -> None:
        """Name fields of the given sizes one after the other."""
        for name, size in fields:
            self.take(name, size)

    def rest(self, name: str) -> bytes:
        """Name everything up to `stop`."""
        return self.take(name, self.left)

    def part(self, size: int) -> Spans:
        """Return a cursor over the next `size` bytes, which it must name, and step behind them."""
        inner = Spans(self.data, self.position, min(self.position + max(size, 0), self.stop))
        inner.fields, inner.layers = self.fields, self.layers
        self.position = inner.stop
        return inner

    def begin(self, protocol: str) -> None:
        """Say that a layer of a protocol begins at the cursor: the names before the first dot."""
        self.layers.append((protocol, len(self.fields)))

    def numbered(self) -> list[Field]:
        """Return the fields, those of outer layers with the numbers of their layers."""
        last_field = {_protocol(field): index for index, field in enumerate(self.fields)}
        begins = [
            (protocol, index)
            for protocol, index in self.layers
            if index <= last_field.get(protocol, -1)  # else the capture ends before it
        ]
        last_begin, counts = dict(begins), Counter[str]()
        result, passed = [], 0
        for index, field in enumerate(self.fields):
            while passed < len(begins) and begins[passed][1] <= index:
                counts[begins[passed][0]] += 1
                passed += 1
            layer = counts[_protocol(field)]
            if layer and index < last_begin[_protocol(field)]:
                field = Field(f"{field.name}#{layer}", field.start, field.end)
            result.append(field)
        return result


def _protocol(field: Field) -> str:
    return field.name.partition(".")[0]
