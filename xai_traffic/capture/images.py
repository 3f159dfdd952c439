"""Put tiles together into images, and take images apart again.

Layout `tiles`: an image is an 8 x 8 grid of packets, each 16 x 16 bytes, so `image[y, x]` is byte
`(y % 16) * 16 + x % 16` of packet `(y // 16) * 8 + x // 16`.

Layout `ustc28`: 28 x 28 pixels are the first 784 bytes of the session's own pcap file (layers
`all`) or of its payload (layers `payload`), as USTC-TK2016 makes them (Wang et al., "Malware
traffic classification using convolutional neural network for representation learning", 2017).
"""

from __future__ import annotations

import math

import numpy as np

from xai_traffic.capture.assembly import EXTENT, ROW, SIDE, assemble
from xai_traffic.capture.records import GRID, TILE

STREAM = 784
"""Bytes of a session that ustc28 keeps."""

STREAM_TILES = -(-STREAM // TILE)
"""Tiles that hold them; the last is padded."""

FILE_HEADER = np.frombuffer(
    bytes.fromhex("a1b2c3d4 0002 0004 00000000 00000000 0000ffff 00000001"), np.uint8
)
"""Of a big-endian pcap file, version 2.4, longest packet 65,535, link type 1 whatever it was."""

RECORD_HEADER = np.dtype([(name, ">u4") for name in ("seconds", "micros", "captured", "wire")])


def grid_images(tiles: np.ndarray) -> np.ndarray:
    """Return the images [N, 128, 128] of dense tiles [N, 64, 256], of any dtype."""
    parts = tiles.reshape(-1, SIDE, SIDE, ROW, ROW)
    return parts.transpose(0, 1, 3, 2, 4).reshape(-1, EXTENT, EXTENT)


def tiles_of_images(images: np.ndarray) -> np.ndarray:
    """Return the dense tiles [N, 64, 256] of images [N, 128, 128]; the inverse of `grid_images`."""
    parts = images.reshape(-1, SIDE, ROW, SIDE, ROW)
    return parts.transpose(0, 1, 3, 2, 4).reshape(-1, GRID, TILE)


def filled_tiles(images: np.ndarray, packets: int = GRID) -> np.ndarray:
    """Return how many of the first tiles of each image there are up to the last that is not zero.

    Args:
        images: any dtype [N, 128, 128, ...].
        packets: tiles that are looked at.

    Returns:
        int64 [N], 0..packets.
    """
    lines = -(-packets // SIDE) * ROW
    width = ROW * math.prod(images.shape[3:])
    parts = images[:, :lines].reshape(len(images), lines // ROW, ROW, SIDE, width)
    filled = parts.any(axis=(2, 4)).reshape(len(images), lines // ROW * SIDE)[:, :packets]
    return np.where(filled.any(axis=1), packets - filled[:, ::-1].argmax(axis=1), 0)


def images_of(
    tiles: np.ndarray,
    first_tile: np.ndarray,
    count: np.ndarray,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Return the images of sessions whose tiles lie contiguous.

    Args:
        tiles: uint8 [T, 256].
        first_tile: int [N], row of each session's first tile.
        count: int [N], tiles of each session, at most 64.
        out: uint8 [N, 128, 128], contiguous memory to use; new memory by default.

    Returns:
        uint8 [N, 128, 128]; tiles that are missing are zero.

    Raises:
        IndexError: a session has tiles that do not exist.
    """
    held = None
    if out is None:  # fresh pages are zero: they need not be written
        out = np.zeros((len(count), EXTENT, EXTENT), np.uint8)
        held = np.zeros(len(count), np.int64)
    return assemble(tiles, first_tile, count, out, held)


def stream_images(tiles: np.ndarray, first_tile: np.ndarray) -> np.ndarray:
    """Return the images uint8 [N, 28, 28] of sessions under layout ustc28."""
    rows = np.asarray(first_tile, np.int64)[:, None] + np.arange(STREAM_TILES)
    return tiles[rows].reshape(-1, STREAM_TILES * TILE)[:, :STREAM].reshape(-1, 28, 28)


def stream_positions(
    packets: np.ndarray, written: np.ndarray, layers: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return where in its session's stream each packet begins, and how many bytes it adds.

    Args:
        packets: PACKET [n], those of a session in order, sessions mixed as they like.
        written: int64 [S], bytes in each session's stream so far, indexed by session number; it
            is brought forward.
        layers: "all" or "payload".

    Returns:
        int64 [n] and int64 [n]. A packet reaches the stream if it begins before STREAM and adds
        at least one byte.
    """
    if layers == "all":
        size = packets["captured"].astype(np.int64) + RECORD_HEADER.itemsize
    else:
        size = packets["length"].astype(np.int64)
    order = np.argsort(packets["session"], kind="stable")
    session = packets["session"][order]
    until = np.cumsum(size[order])
    first = np.flatnonzero(np.diff(session, prepend=-1))  # rows where the next session begins
    before = (until - size[order])[first]  # bytes of all other sessions in front of it
    run = np.repeat(np.arange(len(first)), np.diff(first, append=len(session)))
    begins = np.empty_like(size)
    begins[order] = until - size[order] - before[run] + written[session]
    np.add.at(written, session, size[order])
    return begins, size


def stream_tiles(
    tiles: np.ndarray, packets: np.ndarray, begins: np.ndarray, sessions: np.ndarray, layers: str
) -> np.ndarray:
    """Write the first 784 bytes of sessions' streams, each as four tiles.

    Args:
        tiles: uint8 [n, width], masked or not.
        packets: PACKET [n], the packets that reach the streams of the sessions below.
        begins: int64 [n], from `stream_positions`.
        sessions: int64 [N], session numbers, ascending.
        layers: "all": a pcap file of its own; "payload": nothing but payload.

    Returns:
        uint8 [4 * N, 256].
    """
    streams = np.zeros((len(sessions), STREAM_TILES * TILE), np.uint8)
    row = np.searchsorted(sessions, packets["session"])
    begins = np.asarray(begins, np.int64)
    if layers == "all":
        streams[:, : len(FILE_HEADER)] = FILE_HEADER
        headers = np.empty(len(packets), RECORD_HEADER)
        seconds, rest = np.divmod(packets["time_ns"], 1_000_000_000)
        headers["seconds"] = seconds & 0xFFFFFFFF
        headers["micros"] = rest // 1000
        headers["captured"], headers["wire"] = packets["captured"], packets["wire"]
        octets = headers.view(np.uint8).reshape(len(packets), RECORD_HEADER.itemsize)
        _write(streams, row, begins, octets, np.full(len(packets), octets.shape[1]))
        begins = begins + octets.shape[1]
    _write(streams, row, begins, tiles, packets["length"].astype(np.int64))
    return streams.reshape(-1, TILE)


def spread(count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for runs of `count` items one behind the other, each item's run and place in it."""
    run = np.repeat(np.arange(len(count)), count)
    return run, np.arange(len(run)) - np.repeat(np.cumsum(count) - count, count)


def _write(
    streams: np.ndarray, row: np.ndarray, begins: np.ndarray, source: np.ndarray, size: np.ndarray
) -> None:
    """Copy the first `size` bytes of each source row to where it begins, as far as STREAM."""
    size = np.clip(np.minimum(size, STREAM - begins), 0, None)
    for part in range(0, len(row), 8192):  # the index arrays stay small
        rows = slice(part, part + 8192)
        item, place = spread(size[rows])
        streams[row[rows][item], begins[rows][item] + place] = source[rows][item, place]
