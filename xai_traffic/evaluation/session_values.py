"""What is known of every session besides the bytes of its packets: times, sizes, directions.

None of this is in the image, so no model here can see it and no mask can hide it; but what is made
of it (an age, a rate, a split by time) can, and it tells how the captures were made. A dataset of
captures from 1970 and from 2016 is two datasets.
"""

from __future__ import annotations

import numpy as np

from xai_traffic.data.store import Dataset

FIRST = 8
"""Packets whose directions make a pattern."""

TIME, GAP = "frame.time_epoch", "frame.time_delta"
STEPS = {4: "year", 7: "month", 10: "day", 13: "hour"}
"""Characters of a time as text, and what they give."""


def session_values(dataset: Dataset, rows: np.ndarray) -> dict[str, dict[int, bytes]]:
    """Return values by name, each by session 0..N - 1, as text.

    frame.time_epoch     begin of the session in UTC, `2016-05-01T13`
    frame.time_delta     time from its first to its second packet, in powers of two of a microsecond
    frame.len            bytes of its first packet on the wire
    frame.cap_len        whether the capture cut that packet, and at how many bytes
    session.packets      packets, all of them
    session.bytes        bytes, in steps of a quarter of a power of two
    session.duration     in powers of two of a microsecond
    session.directions   who sent each of the first 8 packets: `>` the initiator, `<` the responder

    Args:
        rows: int [N], rows of the dataset's table.
    """
    table = dataset.table
    begin, end = (table[name].to_numpy()[rows] for name in ("first_time", "last_time"))
    begin, end = begin.astype("datetime64[ns]"), end.astype("datetime64[ns]")
    packets, size = (table[name].to_numpy()[rows] for name in ("packets", "bytes"))
    texts = np.datetime_as_string(begin, unit="h").tolist()
    duration = (end - begin).astype(np.int64) // 1000
    found = {
        TIME: [text.encode() for text in texts],
        "session.packets": _numbers(packets),
        "session.bytes": _numbers(np.floor(4 * np.log2(np.maximum(size, 1)))),
        "session.duration": _numbers(_power(duration)),
    }
    result = {name: dict(enumerate(values)) for name, values in found.items()}
    if not len(dataset.packets):
        return result
    first, count = dataset.first_tiles[rows], dataset.tile_counts[rows]
    held = {
        name: dataset.packets[name].to_numpy()
        for name in ("time_ns", "direction", "wire", "captured")
    }
    wire, captured = held["wire"][first], held["captured"][first]
    result["frame.len"] = dict(enumerate(_numbers(wire)))
    cut = np.where(captured < wire, captured, 0)
    result["frame.cap_len"] = dict(enumerate(_numbers(cut)))
    several = np.flatnonzero(count > 1)
    gaps = held["time_ns"][first[several] + 1] - held["time_ns"][first[several]]
    result[GAP] = dict(zip(several.tolist(), _numbers(_power(gaps // 1000)), strict=True))
    arrows = np.where(held["direction"] == 0, ord(">"), ord("<")).astype(np.uint8)
    result["session.directions"] = {
        at: arrows[start : start + min(int(number), FIRST)].tobytes()
        for at, (start, number) in enumerate(zip(first.tolist(), count.tolist(), strict=True))
    }
    return result


def _power(microseconds: np.ndarray) -> np.ndarray:
    return np.floor(np.log2(np.maximum(microseconds, 0) + 1.0))


def _numbers(values: np.ndarray) -> list[bytes]:
    return [b"%d" % int(value) for value in values]
