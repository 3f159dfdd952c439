"""Numbers that depend on a seed and on keys alone: equal keys get equal ones, wherever they are."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from xai_traffic.capture.mixing import mix


def draw(seed: int, purpose: str, *keys: np.ndarray) -> np.ndarray:
    """Return uint64 [n], as good as random.

    Args:
        seed: of all draws.
        purpose: what they are for; draws for different purposes have nothing to do with each other.
        *keys: uint64 [n] each, or of a shape that goes with it.
    """
    state = np.array(_word(f"{seed} {purpose}".encode()), np.uint64)
    for key in keys:
        state = mix(state ^ mix(np.asarray(key, np.uint64)))
    return state


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Return a generator for one purpose."""
    return np.random.Generator(np.random.Philox(_word(f"{seed} {purpose}".encode())))


def text_keys(column: pa.ChunkedArray) -> np.ndarray:
    """Return a key for each text, uint64 [n]; null is a text of its own."""
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    words = [_word(repr(text).encode()) for text in encoded.dictionary.to_pylist()]
    return np.array(words, np.uint64)[encoded.indices.to_numpy(zero_copy_only=False)]


def octet_keys(octets: np.ndarray) -> np.ndarray:
    """Return a key for each row of uint8 [n, k]: uint64 [n], of all its bytes."""
    keys = np.zeros(len(octets), np.uint64)
    for start in range(0, octets.shape[1], 8):
        eight = np.zeros((len(octets), 8), np.uint8)
        part = octets[:, start : start + 8]
        eight[:, : part.shape[1]] = part
        keys = mix(keys ^ eight.view("<u8")[:, 0].astype(np.uint64))
    return keys


def _word(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")
