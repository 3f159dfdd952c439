"""Hash columns of sessions to words: two rows are equal where, but for 2**-64, their words are."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from xai_traffic.capture.mixing import mix


def hash_texts(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return a word for each text, uint64 [N]: 0 where it is null, not 0 elsewhere.

    Texts that repeat cost little; where hardly two are equal see `hash_names`.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    encoded = column if isinstance(column, pa.DictionaryArray) else column.dictionary_encode()
    words = _words(encoded.dictionary.cast(pa.large_binary()))
    places = encoded.indices.fill_null(len(words)).to_numpy(zero_copy_only=False)
    return np.append(words, np.uint64(0))[places]


def _words(texts: pa.LargeBinaryArray) -> np.ndarray:
    """Return a word for each text, uint64 [n]: 8 bytes after the other are mixed in."""
    texts = pa.concat_arrays([texts])  # of its own buffers, from the first byte
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[: len(texts) + 1]
    octets = np.frombuffer(data or b"", np.uint8)
    words, begins, lengths = np.zeros(len(texts), np.uint64), ends[:-1], np.diff(ends)
    going = np.arange(len(texts))
    for start in range(0, int(lengths.max(initial=0)) + 1, 8):
        places = begins[going, None] + start + np.arange(8)
        inside = start + np.arange(8) < lengths[going, None]
        eight = np.zeros(places.shape, np.uint8)
        eight[inside] = octets[places[inside]]
        words[going] = mix(words[going] ^ mix(eight.view("<u8")[:, 0].astype(np.uint64)))
        going = going[lengths[going] > start + 8]
    words = mix(words ^ lengths.astype(np.uint64))
    words[words == 0] = 1
    if texts.null_count:
        words[texts.is_null().to_numpy(zero_copy_only=False)] = 0
    return words


def hash_names(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return the first word of content hashes as `duplicates.hex_names` writes them, uint64 [N]."""
    names = column.to_pylist()
    try:
        octets = bytes.fromhex("".join(names))
    except (TypeError, ValueError):  # written by another program
        return hash_texts(column)
    if len(octets) != 16 * len(names):
        return hash_texts(column)
    return np.frombuffer(octets, "<u8").reshape(-1, 2)[:, 0].astype(np.uint64)


def hash_five_tuples(batch: pa.RecordBatch | pa.Table) -> np.ndarray:
    """Return uint64 [N], equal for sessions of one protocol and pair of endpoints.

    Args:
        batch: `protocol`, `source`, `source_port`, `destination`, `destination_port`.
    """
    ends = np.zeros(len(batch), np.uint64)
    for side in ("source", "destination"):
        port = batch[f"{side}_port"].to_numpy(zero_copy_only=False).astype(np.uint64)
        ends += mix(hash_texts(batch[side]) ^ mix(port))  # the same both ways round
    return mix(ends ^ hash_texts(batch["protocol"]))
