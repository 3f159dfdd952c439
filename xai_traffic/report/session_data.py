"""What the page's script needs of a session beyond the static text, packed small.

One JSON value a session, compressed with zlib and in base64, so that nothing of a capture can end
the block that it stands in. Texts in it are as escaped as everywhere (`printable`); the script sets
them as text, never as HTML. Its keys:

    leading   name of the method that the static text follows
    bytes     base64, the tiles' captured bytes one packet behind the other
    hidden    [[first, end), ...] of these bytes, those that the mask hid
    columns   packets side by side in the picture
    rows      rows of packets in the picture
    packets   of each: number, frame, direction, words (without the direction), length (bytes of
              it in `bytes`), captured, start (bytes before the tile), read (by the model),
              layers [[title, first field, end)], fields [[index into names, end, value in words]]
    names     field names
    methods   of each: name, title, signed, grade, says, notes, top (share of the largest byte),
              levels (base64 int8 beside `bytes`, see `byte_levels`), packets (shares), fields
              (of each packet the shares of its fields), session (largest [[name, share]]), rest
              (share of all others, and how many they are)
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np

from xai_traffic.capture.records import TILE
from xai_traffic.explain import METHODS, PER_BYTE, field_units, session_fields
from xai_traffic.explain.token_grid import TILE_SIDE
from xai_traffic.report.explained import Explained
from xai_traffic.report.field_values import layers_of, value_of
from xai_traffic.terminal import printable

FIELDS = 12
"""Fields listed of a session."""

FULL = 31
"""Level of the largest attribution: more steps than the eye tells apart weigh too much."""


def packed(explained: Explained) -> str:
    """Return the block's content, base64 of the compressed JSON."""
    text = json.dumps(session_data(explained), separators=(",", ":"), ensure_ascii=True)
    return base64.b64encode(zlib.compress(text.encode("ascii"), 9)).decode("ascii")


def session_data(explained: Explained) -> dict[str, Any]:
    """Return what the script needs, see above."""
    held = np.arange(TILE) < explained.packets["length"][:, None]
    names: dict[str, int] = {}
    packets = [_packet(explained, row, names) for row in range(len(explained.packets))]
    height, width = explained.shown
    return {
        "leading": explained.leading,
        "bytes": _base64(explained.bytes[held]),
        "hidden": _runs(explained.hidden[held]),
        "columns": width // TILE_SIDE,
        "rows": height // TILE_SIDE,
        "packets": packets,
        "names": [printable(name) for name in names],
        "methods": [_method(explained, name, held) for name in explained.shares],
    }


def byte_levels(signed: np.ndarray) -> np.ndarray:
    """Return attributions as int8 -FULL..FULL, by the square root of their size.

    So a level's square is a byte's part of the largest, and small ones keep their difference.
    """
    largest = float(np.abs(signed).max(initial=0.0))
    if not largest:
        return np.zeros(signed.shape, np.int8)
    return (np.sign(signed) * np.rint(FULL * np.sqrt(np.abs(signed) / largest))).astype(np.int8)


def own_words(explained: Explained, row: int) -> str:
    """Return a packet in words, without its direction; hostile text."""
    return explained.words[row].partition(", ")[2]


def method_notes(explained: Explained, name: str) -> list[str]:
    """Return what is to be known of one explanation: whose shares, what it misses."""
    notes = [f"Shares of |attribution| by {METHODS[name]}."]
    if name in explained.completeness_error:
        error = explained.completeness_error[name]
        rise = float(explained.attributions[name].sum(dtype=float))
        notes.append(
            f"It accounts for {rise:+.3f} of the logit and misses {_small(error)} "
            "(completeness error)."
        )
    padding = explained.shares[name].padding
    if padding > 0.005:
        notes.append(f"{100 * padding:.1f}\u00a0% of it falls upon padding and is left out.")
    return notes


def largest_fields(explained: Explained, name: str) -> tuple[list[tuple[str, float]], float, int]:
    """Return a session's largest fields, the share of all others, and how many they are."""
    named = session_fields(explained.shares[name], explained.fields)
    top = [(field, share) for field, share in named.items() if share > 0][:FIELDS]
    rest = sum(named.values()) - sum(share for _, share in top)
    return top, rest if rest > 1e-9 else 0.0, len(named) - len(top)


def _small(error: float) -> str:
    return f"{error:.3f}" if error >= 0.001 else f"{error:.1e}" if error else "0"


def _packet(explained: Explained, row: int, names: dict[str, int]) -> dict[str, Any]:
    packet, fields = explained.packets[row], explained.fields[row]
    data = explained.bytes[row].tobytes()
    return {
        "number": int(packet["packet"]),
        "frame": int(packet["frame"]),
        "direction": int(packet["direction"]),
        "words": printable(own_words(explained, row)),
        "length": int(packet["length"]),
        "captured": int(packet["captured"]),
        "start": int(packet["start"]),
        "read": row < explained.read,
        "layers": layers_of(fields),
        "fields": [
            [names.setdefault(field.name, len(names)), field.end, printable(value_of(field, data))]
            for field in fields
        ],
    }


def _method(explained: Explained, name: str, held: np.ndarray) -> dict[str, Any]:
    shares = explained.shares[name]
    card = explained.card(name)
    top, rest, others = largest_fields(explained, name)
    signed = shares.signed if name in PER_BYTE else np.abs(shares.signed)
    return {
        "name": name,
        "title": METHODS[name],
        "signed": name in PER_BYTE,
        "grade": card.grade,
        "says": card.conclusion.partition(": ")[2],
        "notes": method_notes(explained, name),
        "top": _rounded(shares.bytes().max(initial=0.0)),
        "levels": _base64(byte_levels(signed)[held]),
        "packets": [_rounded(share) for share in shares.packets()],
        "fields": [
            [_rounded(shares.share(units)) for units in parts]
            for parts in field_units(shares, explained.fields)
        ],
        "session": [[printable(field), _rounded(share)] for field, share in top],
        "rest": [_rounded(rest), others],
    }


def _rounded(share: float) -> float:
    return float(f"{share:.4g}")


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _runs(flags: np.ndarray) -> list[list[int]]:
    """Return where flags are set, as [first, end) each."""
    steps = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return steps.reshape(-1, 2).tolist()
