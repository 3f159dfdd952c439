"""Put sessions of few packets side by side into rows of tokens, so that none stands for nothing.

A vision transformer has one token a packet and one a session. On the dense grid every session
costs as many tokens as the longest could have; packed, a row holds several sessions, and attention
keeps them apart. Krell et al., "Efficient Sequence Packing without Cross-contamination", 2021.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from xai_traffic.capture.images import spread

FULL = 0.95
"""Share of the slots that best fit fills at least, of a batch of many sessions."""


class Packing(NamedTuple):
    """Where the tokens of B sessions stand in R rows of L slots.

    Args:
        session: int32 [R, L], place in the batch of the slot's session, -1 for a free slot.
        place: int32 [R, L], 0 for the session's class token, k + 1 for its packet k.
        head: int32 [B], slot of each session's class token, counted through all rows.
    """

    session: np.ndarray
    place: np.ndarray
    head: np.ndarray


def row_length(packets: int) -> int:
    """Return L, the slots of a row: a whole session of so many packets, rounded up to even."""
    return (packets + 1) + (packets + 1) % 2


def find_places(
    sizes: np.ndarray, length: int, rows: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Give each size in turn a place in the row that it fills best.

    Args:
        sizes: int [B], 1..length.
        length: slots of a row.
        rows: how many there are; None takes as many as it needs.

    Returns:
        row and first slot in it, int64 [b] each; b < B if the next one finds no room.
    """
    open_rows: list[list[int]] = [[] for _ in range(length + 1)]  # by what is free in them
    used, found = 0, []
    for size in sizes.tolist():
        for free in range(size, length + 1):
            if open_rows[free]:
                row = open_rows[free].pop()
                break
        else:
            if used == rows:
                break
            row, free, used = used, length, used + 1
        found.append((row, length - free))
        open_rows[free - size].append(row)
    places = np.array(found, np.int64).reshape(-1, 2)
    return places[:, 0], places[:, 1]


def pack(sizes: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return row and first slot of each size, in few rows: the longest go first."""
    order = np.argsort(-sizes, kind="stable")
    row, begin = np.empty((2, len(sizes)), np.int64)
    row[order], begin[order] = find_places(sizes[order], length)
    return row, begin


def usual_rows(sizes: np.ndarray, batch: int, length: int, multiple: int = 1) -> tuple[int, ...]:
    """Return the numbers of rows that a training takes: a program is compiled for each.

    The sum over a shuffled batch is within one standard deviation of its mean five times in six,
    and within three but once in some hundred batches; FULL of the slots are taken.

    Args:
        sizes: int [N], tokens of all sessions of the split, at most `length` each.
        batch: sessions of a batch.
        length: slots of a row.
        multiple: what the rows must divide by, such as the number of devices.

    Returns:
        ascending; the last is `batch`, which any batch fits into.
    """
    deviation = math.sqrt(batch) * sizes.std()
    tokens = [batch * sizes.mean() + times * deviation for times in (1, 3)]
    rows = [math.ceil(some / (FULL * length) / multiple) * multiple for some in tokens]
    return (*sorted({some for some in rows if some < batch}), batch)


def slots(row: np.ndarray, begin: np.ndarray, sizes: np.ndarray, rows: int, length: int) -> Packing:
    """Fill in what stands in each slot.

    Args:
        row, begin: int64 [B], as `pack` returns them.
        sizes: int [B], a session's tokens, the class token counted.
        rows, length: R and L.
    """
    session = np.full(rows * length, -1, np.int32)
    place = np.zeros(rows * length, np.int32)
    head = row * length + begin
    which, number = spread(sizes)
    slot = head[which] + number
    session[slot], place[slot] = which, number
    shape = (rows, length)
    return Packing(session.reshape(shape), place.reshape(shape), head.astype(np.int32))
