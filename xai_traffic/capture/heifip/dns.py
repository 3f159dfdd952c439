"""Read DNS messages as scapy 2.5.0 does, and write them as heiFIP 1.1.1's HEADER mode does.

Names come uncompressed, record data is only looked at to know whether scapy can read it. All
counts and lengths are the packet's own: nothing here may trust them (RFC 1035 has the format).
"""

from __future__ import annotations

from typing import NamedTuple

HEADER = 12
_UNSET = bytes.fromhex("0000 0100 0000 0000 0000 0000")
"""What scapy takes for header bytes that are missing."""

_DEFAULT_QUESTION = (b"www.example.com.", 1)
"""Scapy's own question, in place of a section that is missing."""

_STEPS = 50_000
"""Labels and pointers followed in one message; no real one has so many."""

# Record data by type: sizes of fields, "name", "rest", or a length of 1 or 2 bytes and as much.
_RECORDS: dict[int, tuple[int | str, ...]] = {
    1: (4,),
    2: ("name",),
    3: ("name",),
    4: ("name",),
    5: ("name",),
    6: ("name", "name", 4, 4, 4, 4, 4),
    12: ("name",),
    15: (2, "name"),
    28: (16,),
    33: (2, 2, 2, "name"),
    43: (2, 1, 1, "rest"),
    46: (2, 1, 1, 4, 4, 4, 2, "name", "rest"),
    47: ("name", "rest"),
    48: (2, 1, 1, "rest"),
    50: (1, 1, 2, "byte", "byte", "rest"),
    51: (1, 1, 2, "byte"),
    250: ("name", 6, 2, "word", 2, 2, "word"),
    32769: (2, 1, 1, "rest"),
}


class Unreadable(Exception):
    """Scapy fails here, and takes all from the layer's beginning on as raw bytes."""


class Record(NamedTuple):
    """A question or a resource record.

    name: with a dot behind each label, b"" for the root; kind: its type; known: False stands for
    bytes that follow a record's data inside its length.
    """

    name: bytes
    kind: int
    known: bool = True


class Message(NamedTuple):
    """A message: its header, the records of its four sections, and how many bytes it takes.

    A section is None if the message ends before it.
    """

    header: bytes
    sections: list[list[Record] | None]
    size: int


class _Reader:
    """The part of a message behind its header, and how much may still be done with it."""

    def __init__(self, body: bytes):
        self.body, self.steps = body, 0

    def name(self, source: bytes, at: int) -> tuple[bytes, int, bytes]:
        """Return a name, where reading goes on, and what is left of the source.

        Pointers lead into the body, and before it: then they count from its end, as scapy's do.
        """
        labels, after, seen = [], None, set()
        left = None
        while abs(at) < len(source):
            self.steps += 1
            if self.steps > _STEPS:
                raise Unreadable
            size = source[at]
            at += 1
            if size & 0xC0:
                after = at + 1 if after is None else after
                if at >= len(source):
                    break
                at = ((size & 0x3F) << 8) + source[at] - HEADER
                if at in seen:
                    break
                if source is not self.body:
                    left, source = source[after:], self.body
                seen.add(at)
            elif size:
                labels.append(source[at : at + size] + b".")
                at += size
            else:
                break
        at = at if after is None else after
        return b"".join(labels), at, source[at:] if left is None else left

    def question(self, at: int) -> tuple[list[Record], int]:
        name, at, _ = self.name(self.body, at)
        fields = self.body[at : at + 4]
        if len(fields) % 2:
            raise Unreadable
        kind = int.from_bytes(fields[:2]) if fields else 1
        return [Record(name, kind)], at + 4

    def record(self, at: int) -> tuple[list[Record], int]:
        name, at, _ = self.name(self.body, at)
        fields = self.body[at : at + 10]
        if len(fields) < 10:
            raise Unreadable
        kind, size = int.from_bytes(fields[:2]), int.from_bytes(fields[8:])
        at += 10
        left = self.record_data(kind, self.body[at : at + size])
        return [Record(name, kind)] + [Record(b"", 0, False)] * bool(left), at + size

    def record_data(self, kind: int, data: bytes) -> bytes:
        """Return what scapy leaves over of a record's data."""
        for field in _RECORDS.get(kind, ("rest",)):
            if not data:
                break
            if field == "name":
                _, _, data = self.name(data, 0)
            elif field == "rest":
                data = b""
            elif isinstance(field, int):
                if len(data) < field:
                    raise Unreadable
                data = data[field:]
            else:
                size = 1 if field == "byte" else 2
                if len(data) < size:
                    raise Unreadable
                data = data[size + int.from_bytes(data[:size]) :]
        return data


def read_message(data: bytes) -> Message:
    """Read a message, without the length that it has over TCP.

    Raises:
        Unreadable: scapy cannot read it.
    """
    if len(data) < HEADER and len(data) not in (2, 3, 4, 6, 8, 10):
        raise Unreadable
    header, body = data[:HEADER] + _UNSET[len(data) :], data[HEADER:]
    sections: list[list[Record] | None] = [None] * 4
    reader = _Reader(body)
    left, at = len(body), 0
    for number in range(4 if body else 0):
        count = int.from_bytes(header[4 + 2 * number :][:2])
        sections[number] = []
        if count > len(body):  # scapy leaves the section, and begins anew for the next
            left, at = len(body), 0
            continue
        for _ in range(count):
            records, at = (reader.record if number else reader.question)(at)
            sections[number] += records
        left = max(0, len(body) - at)
    return Message(header, sections, len(data) - left)


def header_form(message: Message) -> tuple[bytes, bytes]:
    """Return the message as HEADER mode writes it, and the second time: flags and records alone.

    Names and types are kept; classes, times to live and record data go.

    Raises:
        Unreadable: heiFIP fails.
    """
    parts = []
    for number, section in enumerate(message.sections):
        if section is None and number == 0:
            section = [Record(*_DEFAULT_QUESTION)]
        parts.append(b"".join(_written(section or [], with_ttl=number > 0)))
    body = b"".join(parts)
    return message.header + body, message.header[2:4] + body


def _written(section: list[Record], with_ttl: bool) -> list[bytes]:
    """Return the records; for bytes of no record scapy looks to the next one."""
    made = []
    for place in range(len(section)):
        known = next((each for each in section[place:] if each.known), None)
        if known is None:
            raise Unreadable
        made.append(encode_name(known.name) + known.kind.to_bytes(2) + bytes(4 * with_ttl))
    return made


def encode_name(name: bytes) -> bytes:
    """Return a name in DNS form; labels with dots fall apart at them, and end after 63 bytes."""
    if not name or name == b".":
        return b"\0"
    return b"".join(bytes([len(label)]) + label for label in (k[:63] for k in name.split(b".")))
