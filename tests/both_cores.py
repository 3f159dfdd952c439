"""Run either capture core over bytes in memory, and hold what comes out to its invariants."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pytest

from xai_traffic.capture import core_numpy
from xai_traffic.capture.filters import compile_filter
from xai_traffic.capture.records import CUT, ENDS, FRAGMENT, NONE, PACKET, SESSION, TUNNELS

try:
    from xai_traffic.capture import _core
except ImportError:
    _core = None

C_CORE = pytest.param(
    "c", marks=pytest.mark.skipif(_core is None, reason="the C core was not built: no compiler")
)
CORES = ["numpy", C_CORE]


class Result(NamedTuple):
    """All that a core says about a capture."""

    tiles: bytes
    packet_rows: bytes
    session_rows: bytes
    packets: int
    dropped: tuple[int, ...]
    fault: tuple[int, int, int]

    def table(self) -> np.ndarray:
        return np.frombuffer(self.packet_rows, PACKET)

    def sessions(self) -> np.ndarray:
        return np.frombuffer(self.session_rows, SESSION)


def make_core(
    name: str,
    *,
    rule="five_tuple",
    layers="all",
    filter="",
    width=256,
    limit=64,
    idle_timeout_ns=0,
    max_open=0,
    tunnels="inner",
    retransmissions="keep",
    early=False,
):
    program = compile_filter(filter)
    make, argument = (_core.Core, program.code) if name == "c" else (core_numpy.Core, program)
    return make(
        rule,
        layers,
        argument,
        width,
        limit,
        idle_timeout_ns,
        max_open,
        tunnels,
        retransmissions,
        early,
    )


def run(
    name: str, data: bytes, cuts: Iterable[int] = (), *, expire: int | None = None, **rules
) -> Result:
    """Feed the data in pieces of the sizes `cuts`, the rest at once.

    With `expire`, quiet sessions before that time (ns) are asked for after each piece.
    """
    core = make_core(name, **rules)
    made = []
    at = 0
    for size in (*cuts, len(data)):
        made.append(core.feed(memoryview(data)[at : at + size]))
        at += size
        if expire is not None:
            made.append((b"", b"", core.expire(expire)))
    made.append(core.finish())
    tiles, packets, sessions = (b"".join(map(bytes, parts)) for parts in zip(*made, strict=True))
    return Result(tiles, packets, sessions, core.packets, tuple(core.dropped), core.fault)


def check_invariants(
    result: Result, width: int = 256, limit: int = 64, early: bool = False
) -> None:
    """Every packet is accounted for, and rows, tiles and sessions fit each other.

    With `early`, sessions may be reported before their ends: once each, with what they had then.
    """
    packets, sessions = result.table(), result.sessions()
    counted = sessions["packets"].sum() + sum(result.dropped)
    assert counted <= result.packets if early else counted == result.packets
    assert len(result.tiles) == len(packets) * width
    assert sorted(sessions["session"]) == list(range(len(sessions)))
    assert (sessions["tiles"] == np.minimum(sessions["packets"], limit)).all()
    reported = sessions["tiles"].sum()
    assert reported <= len(packets) if early else reported == len(packets)
    assert (sessions["end"] < (len(ENDS) if early else ENDS.index("packet limit"))).all()
    assert not sessions["reserved"].any() and not packets["reserved"].any()
    assert (sessions["first_time"] <= sessions["last_time"]).all()
    # Only a later fragment, which waited for its first one, comes behind its place.
    assert len(np.unique(packets["frame"])) == len(packets)
    late = packets["frame"] < np.maximum.accumulate(packets["frame"])
    assert (packets["flags"][late] & FRAGMENT != 0).all()
    assert (packets["transport"][late] == NONE).all()
    assert (packets["flags"] < 16).all()
    cut = packets["captured"] < packets["wire"]
    assert ((packets["flags"] & CUT != 0) == cut).all()
    tiles = np.frombuffer(result.tiles, np.uint8).reshape(-1, width)
    assert not tiles[np.arange(width) >= packets["length"][:, None]].any()
    for offset in ("network", "transport", "payload", "outer"):
        there = packets[offset] != NONE
        ends = packets[offset].astype(int) + packets["start"]
        assert (ends[there] <= packets["captured"][there]).all()
    for table in (packets, sessions):
        assert ((table["tunnel"] == 0) == (table["depth"] == 0)).all()
        assert (table["tunnel"] < len(TUNNELS)).all() and (table["depth"] <= 4).all()
    assert ((sessions["outer_family"] != 0) == (sessions["depth"] != 0)).all()
    assert (packets["outer"][packets["depth"] == 0] == NONE).all()
    order = np.argsort(packets["session"], kind="stable")
    first = np.searchsorted(packets["session"][order], np.arange(len(sessions)))
    index = np.arange(len(packets)) - first[packets["session"][order]]
    assert (packets["packet"][order] == index).all()
