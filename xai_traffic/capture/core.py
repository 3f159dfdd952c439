"""Choose the capture core: C where it was built, else NumPy; both give the same bits."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from xai_traffic.capture import core_numpy
from xai_traffic.capture.filters import compile_filter
from xai_traffic.capture.heifip import render_tiles
from xai_traffic.capture.images import FILE_HEADER, RECORD_HEADER, STREAM
from xai_traffic.capture.layouts import RENDERINGS, TILE_LAYOUTS
from xai_traffic.capture.records import DROPS, FAULTS, GRID, PACKET, SESSION, TILE
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.errors import ConfigError

try:
    from xai_traffic.capture import _core
except ImportError:  # no compiler at installation
    _core = None

VARIABLE = "XAI_TRAFFIC_CORE"
FOREVER = 9e9
"""Seconds; more than times of 64-bit nanoseconds can lie apart from 1970."""


MOST_OPEN = 2**63 - 1
"""Sessions open at a time; more than a core can count is no limit."""


WIDEST = 65_535
"""Most bytes of a tile."""

_WIDE_CHUNK = 16 << 10
"""Bytes of a capture that are fed at a time when tiles are widest: they hold 20 MiB of tiles."""


class Batch(NamedTuple):
    """What one piece of a capture gave.

    tiles: uint8 [n, width]; packets: PACKET [n], in order of the capture; sessions: SESSION [m],
    in order of their ends.
    """

    tiles: np.ndarray
    packets: np.ndarray
    sessions: np.ndarray


def core_name() -> str:
    """Return "c" or "numpy": the core in use.

    Raises:
        ConfigError: XAI_TRAFFIC_CORE asks for something that is not there.
    """
    wanted = os.environ.get(VARIABLE) or ("numpy" if _core is None else "c")
    if wanted not in ("c", "numpy"):
        raise ConfigError(f"{VARIABLE}={wanted!r} is unknown: choose c or numpy, or leave it unset")
    if wanted == "c" and _core is None:
        raise ConfigError(
            f"{VARIABLE}=c, but the C core was not built: install again with a C compiler at hand, "
            "or unset it for the NumPy core"
        )
    return wanted


def tile_shape(rules: ReadingRules) -> tuple[int, int]:
    """Return (bytes of a tile, tiles of a session) that the layout needs from a core.

    The stream of `ustc28` holds 760 bytes of records, so 744 of a packet and of at most 22 packets
    (raw IP headers alone); its stream of payload may begin in any packet. heiFIP's renderings look
    at whole packets.
    """
    if rules.layout in TILE_LAYOUTS:
        return TILE, GRID
    if rules.layout in RENDERINGS:
        return WIDEST, GRID
    if rules.layers == "payload":
        return STREAM, 65_535
    room, header = STREAM - len(FILE_HEADER), RECORD_HEADER.itemsize
    return room - header, -(-room // (header + 20))


class OpenCore:
    """A core at work on one capture, with arrays instead of bytes."""

    def __init__(self, rules: ReadingRules, early: bool = False):
        self.width, limit = tile_shape(rules)
        program = compile_filter(rules.filter)
        self.name = core_name()
        make = core_numpy.Core if self.name == "numpy" else _core.Core
        self._layout = rules.layout
        self._core = make(
            rules.rule,
            rules.layers,
            program if self.name == "numpy" else program.code,
            self.width,
            limit,
            round(min(rules.idle_timeout, FOREVER) * 1e9),
            min(rules.max_open, MOST_OPEN),
            rules.tunnels,
            rules.retransmissions,
            early,
        )

    def feed(self, chunk) -> Batch:
        """Read a piece of the stream, of any size."""
        if self._layout not in RENDERINGS:
            return self._arrays(self._core.feed(chunk))
        pieces = range(0, max(1, len(chunk)), _WIDE_CHUNK)
        batches = [self._arrays(self._core.feed(chunk[at : at + _WIDE_CHUNK])) for at in pieces]
        return Batch(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))

    def finish(self) -> Batch:
        """End the stream: close what is open."""
        return self._arrays(self._core.finish())

    def expire(self, time_ns: int) -> np.ndarray:
        """Report the open sessions without a packet since then, SESSION [m]; they stay open."""
        return np.frombuffer(self._core.expire(time_ns), SESSION)

    @property
    def packets(self) -> int:
        """Packet records seen so far."""
        return self._core.packets

    @property
    def dropped(self) -> dict[str, int]:
        """Packets dropped so far by reason, without the reasons that did not occur."""
        counts = zip(DROPS, self._core.dropped, strict=True)
        return {reason: count for reason, count in counts if count}

    @property
    def fault(self) -> tuple[str, int, int] | None:
        """What is wrong with the stream, its byte offset and 1-based packet; None if nothing."""
        code, offset, packet = self._core.fault
        return (FAULTS[code], offset, packet) if code else None

    def _arrays(self, made) -> Batch:
        tiles, packets = np.frombuffer(made[0], np.uint8), np.frombuffer(made[1], PACKET)
        tiles = tiles.reshape(-1, self.width)
        if self._layout in RENDERINGS:
            tiles, packets = render_tiles(tiles, packets, self._layout == "heifip-header")
        return Batch(tiles, packets, np.frombuffer(made[2], SESSION))


def open_core(rules: ReadingRules, early: bool = False) -> OpenCore:
    """Return a core that reads one capture by these rules.

    Args:
        rules: how to read it.
        early: report a session once, as soon as it has all its tiles, or by `expire`.

    Raises:
        ConfigError: the filter has an error, or XAI_TRAFFIC_CORE cannot be met.
    """
    return OpenCore(rules, early)
