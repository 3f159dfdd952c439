"""What a fuzzed input says: 16 bytes of options, an own filter program perhaps, then a capture.

The tables below are the only ones: `python tests/fuzz/inputs.py` prints them as a C header, which
run.sh builds the fuzz targets with.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from xai_traffic.capture.filters import Program, compile_filter
from xai_traffic.capture.rules import DEFAULT_FILTER, LAYERS, SESSION_RULES
from xai_traffic.errors import ConfigError

OPTIONS = struct.Struct("<8Bq")
"""Rule; layers and flags; filter; shape; time-out and sessions; cuts; expire; allocation that
fails (C target only); time for expire."""

OWN_PROGRAM = 128
"""Filters from this number on: that many instructions more, 12 at most, stand in the input."""

INSTRUCTION = 24
FILTERS = (
    "",
    DEFAULT_FILTER,
    "not (port 53 or 80) or less 80",
    "ip6 or net 192.168.0.0/16",
    "src port 80 or dst portrange 1000-2000",
    "portrange 0-65535",
    "src host 10.0.0.1 or dst net fd00::/9",
    "sctp or icmp or icmp6 or proto 47",
    "greater 100 and not tcp port 1000",
    "src and dst port 1000 or src and dst net 10.0.0.0/28",
)
SHAPES = ((256, 64), (50, 3), (744, 14), (1, 1), (16, 2), (2000, 64), (65_535, 2), (300, 65_535))
"""Bytes of a tile and tiles of a session."""

IDLE_TIMEOUTS = (0, 0, 0, 0, 1, 10**9, 60 * 10**9, 2**63 - 1)
MOST_OPEN = (0, 0, 0, 0, 1, 2, 3, 8)
CUTS = (0, 1, 5, 40, 900, 17, 16, 4)


class Input(NamedTuple):
    """An input taken apart.

    rules: keyword arguments of a core but the filter; program: compiled filter, None where the
    input's own is none; cuts: sizes of the pieces to feed, before the rest; expire: time (ns) to
    ask for quiet sessions after each piece, or None.
    """

    rules: dict
    code: bytes
    program: Program | None
    capture: bytes
    cuts: list[int]
    expire: int | None


def take_apart(data: bytes) -> Input:
    """Return what an input says."""
    options = OPTIONS.unpack(data[: OPTIONS.size].ljust(OPTIONS.size, b"\0"))
    rule, bits, chosen, shape, bounds, cuts, expire, _, time_ns = options
    capture = data[OPTIONS.size :]
    if chosen < OWN_PROGRAM:
        program: Program | None = compile_filter(FILTERS[chosen % len(FILTERS)])
        code = program.code
    else:
        size = (chosen - OWN_PROGRAM) % 13 * INSTRUCTION
        code, capture = capture[:size], capture[size:]
        try:
            program = Program("own", code)
        except ConfigError:
            program = None
    width, limit = SHAPES[shape % len(SHAPES)]
    rules = {
        "rule": SESSION_RULES[rule % len(SESSION_RULES)],
        "layers": LAYERS[bits & 3],
        "width": width,
        "limit": limit,
        "idle_timeout_ns": IDLE_TIMEOUTS[bounds & 7],
        "max_open": MOST_OPEN[bounds >> 3 & 7],
        "tunnels": "outer" if bits & 4 else "inner",
        "retransmissions": "drop" if bits & 8 else "keep",
        "early": bool(bits & 16),
    }
    pieces = list(_cuts(capture, cuts))
    return Input(rules, code, program, capture, pieces, time_ns if expire & 1 else None)


def _cuts(capture: bytes, code: int) -> Iterator[int]:
    """Yield sizes of pieces: none; to the end of each record; all equal; or mixed."""
    left, value = len(capture), code >> 2
    if code & 3 == 1:
        yield from _record_sizes(capture)
    elif code & 3 == 2:
        value += 1 + len(capture) // 512
        while left > value:
            yield value
            left -= value
    elif code & 3 == 3:
        while left:
            value = (value * 1_103_515_245 + 12_345) % 2**31
            size = min(left, CUTS[value >> 16 & 7])
            yield size
            left -= size


def _record_sizes(capture: bytes) -> Iterator[int]:
    """Yield the sizes of the header and the records, as far as they make sense."""
    at, magic = 0, capture[:4]
    big = magic in (b"\xa1\xb2\xc3\xd4", b"\xa1\xb2\x3c\x4d")
    if magic == b"\n\r\r\n":
        big = capture[8:12] == b"\x1a\x2b\x3c\x4d"
        base, size_at, first = 0, 4, 0
    else:
        base, size_at, first = 16, 8, 24
    if first and len(capture) > first:
        yield first
        at = first
    while len(capture) - at >= 16:
        size = base + int.from_bytes(
            capture[at + size_at : at + size_at + 4], "big" if big else "little"
        )
        if size < 12 or size > len(capture) - at:
            break
        yield size
        at += size


def _c_bytes(code: bytes) -> str:
    return "{" + ", ".join(map(str, code)) + "}" if code else "{0}"


def header() -> str:
    """Return the tables as C."""
    longest = max(len(compile_filter(text).code) for text in FILTERS)
    programs = [compile_filter(text).code for text in FILTERS]
    lines = [
        "/* Made by tests/fuzz/inputs.py. */",
        f"enum {{ FILTERS = {len(FILTERS)}, OWN_PROGRAM = {OWN_PROGRAM} }};",
        "static const struct {",
        f"    size_t size;\n    uint8_t code[{longest}];",
        "} filters[] = {",
        *(f"    {{{len(code)}, {_c_bytes(code)}}}," for code in programs),
        "};",
        f"static const uint32_t shapes[{len(SHAPES)}][2] = {{",
        *(f"    {{{width}, {limit}}}," for width, limit in SHAPES),
        "};",
    ]
    for name, values in (
        ("idle_timeouts", IDLE_TIMEOUTS),
        ("most_open", MOST_OPEN),
        ("cut_sizes", CUTS),
    ):
        lines.append(
            f"static const uint64_t {name}[{len(values)}] = "
            f"{{{', '.join(f'{value}u' for value in values)}}};"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(header(), end="")
