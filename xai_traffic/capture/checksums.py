"""Internet checksums carried forward from the bytes that changed, many packets at once.

Source: RFC 1624, Computation of the Internet Checksum via Incremental Update, 1994, equation 3.
"""

from __future__ import annotations

import dataclasses

import numpy as np

ABSENT = 1 << 20
"""An offset behind any tile."""


@dataclasses.dataclass(frozen=True)
class Cover:
    """One checksum of each packet, and what it covers: int32 [n] offsets in the tile.

    Args:
        field: of the checksum, ABSENT where the packet has none.
        start, stop: bytes that it covers, in words from `start`, as far as the tile goes.
        addresses, behind: those of the IP header that it covers too, with the length of what it
            covers; ABSENT where it does not.
        grows: bool [n], it covers the payload.
        udp: bool [n], 0 means none, and a sum of 0 is sent as 65535.
    """

    field: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    addresses: np.ndarray
    behind: np.ndarray
    grows: np.ndarray
    udp: np.ndarray

    def take(self, rows) -> Cover:
        """Return those of some packets."""
        return Cover(*(getattr(self, part.name)[rows] for part in dataclasses.fields(self)))


def carry_forward(after: np.ndarray, before: np.ndarray, cover: Cover, grown: np.ndarray) -> None:
    """Write the checksums of `after` in place, from those of `before` and what changed."""
    touched = (after != before).any(1) | (grown != 0)
    (rows,) = np.nonzero(touched & (cover.field < ABSENT))
    if not len(rows):
        return
    cover, grown, new, old = cover.take(rows), grown[rows], after[rows], before[rows]
    positions = np.arange(before.shape[1], dtype=np.int32)
    field, start = cover.field[:, None], cover.start[:, None]
    own = (positions == field) | (positions == field + 1)
    covered = (positions >= start) & ~own
    old_covered = covered & (positions < cover.stop[:, None])
    gained = np.where(cover.grows, grown, 0)
    new_covered = covered & (positions < (cover.stop + gained)[:, None])
    delta = _word_sum(new, new_covered, start) - _word_sum(old, old_covered, start)
    addresses = cover.addresses[:, None]
    both = (positions >= addresses) & (positions < cover.behind[:, None])
    delta += _word_sum(new, both, addresses) - _word_sum(old, both, addresses)
    delta += np.where(cover.addresses < ABSENT, gained, 0)  # the length in the pseudo-header
    differs = ((new != old) & (old_covered | new_covered | both)).any(1) | (gained != 0)
    at = cover.field
    checksum = old[np.arange(len(rows)), at].astype(np.int32) << 8
    checksum |= old[np.arange(len(rows)), at + 1]
    new = renewed(checksum, delta, cover.udp)
    write_words(after, rows, at, np.where(differs, new, checksum))


def renewed(checksums: np.ndarray, delta: np.ndarray, udp: np.ndarray) -> np.ndarray:
    """Return checksums int [n] after the sum of the words that they cover grew by `delta`.

    A UDP checksum of 0 is none and stays.
    """
    total = ((~checksums & 0xFFFF) + delta) % 0xFFFF
    # Of the two zeros of one's complement a sum of words that are not all zero gives 65535.
    new = 0xFFFF - np.where(total == 0, 0xFFFF, total)
    new = np.where(udp & (new == 0), 0xFFFF, new)
    return np.where(udp & (checksums == 0), 0, new)


def _word_sum(tiles: np.ndarray, where: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Return int32 [n], the sum of some bytes as halves of the big-endian words from `start`."""
    odd = (np.arange(tiles.shape[1]) - start) & 1 == 1
    high = np.where(where & ~odd, tiles, 0).sum(1, dtype=np.int32)
    return (high << 8) + np.where(where & odd, tiles, 0).sum(1, dtype=np.int32)


def write_words(tiles: np.ndarray, rows: np.ndarray, at: np.ndarray, words: np.ndarray) -> None:
    """Write a big-endian 16-bit word to each row, in place."""
    tiles[rows, at], tiles[rows, at + 1] = words >> 8 & 255, words & 255
