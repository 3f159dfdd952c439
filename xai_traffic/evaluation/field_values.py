"""What every protocol field holds in every session: the values that rules and identifiers are of.

A session has up to two values of a field: that of the initiator's first packet which has the field,
and that of the responder's; of a field that comes several times in a packet, the first. Only the
first PACKETS packets are looked at. Names are Wireshark's (`capture.fields.dissect`); a few values
that no single field holds are put together here:

    eth.src.oui, eth.dst.oui   the first three bytes of the address: the vendor
    tcp.option_kind            names of the TCP options of the first segment, in order
    ip.ttl + ip.proto          both together, the shortcut that is known of USTC-TFC2016
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict

import numpy as np

from xai_traffic.capture.fields import Field, dissect
from xai_traffic.capture.masking import MASKS, hidden
from xai_traffic.capture.sessions import packet_rows_of
from xai_traffic.data.store import Dataset
from xai_traffic.terminal import progress

PACKETS = 16
"""Packets of a session that are looked at."""

SAMPLED = 400
"""Sessions that tell which mask hides which field."""

SIDES = ("initiator", "responder")
KINDS, TTL_PROTOCOL = "tcp.option_kind", "ip.ttl + ip.proto"
VENDOR = 3
MADE_OF = {
    "eth.src.oui": "eth.src",
    "eth.dst.oui": "eth.dst",
    KINDS: "tcp.options.nop",
    TTL_PROTOCOL: "ip.ttl",
}
"""Values put together here, and a field that tells which mask hides them."""

_TOLD = tuple(name for name in MASKS if name != "header")
_HALF = 0.5  # a mask hides a field if it hides more than half of its bytes, over all packets
_OPTIONS, _INSIDE = "tcp.options", ("tcp.options.timestamp.", "tcp.options.mss_", ".shift")


@dataclasses.dataclass(frozen=True, eq=False)
class FieldValues:
    """Values of protocol fields of N sessions.

    Args:
        sessions: N.
        values: by field name and side (0 initiator, 1 responder): value by session, 0..N - 1.
        hidden_by: by field name, the mask that hides its bytes, of `masking.MASKS` but `header`;
            fields that none hides are left out.
        packets: how many were looked at.
    """

    sessions: int
    values: dict[tuple[str, int], dict[int, bytes]]
    hidden_by: dict[str, str]
    packets: int

    @property
    def names(self) -> list[str]:
        """Names of all fields, sorted."""
        return sorted({name for name, _ in self.values})


def field_values(dataset: Dataset, rows: np.ndarray) -> FieldValues:
    """Find the values of all protocol fields of some sessions.

    Takes some 0.1 ms a packet. Of a masked dataset, the values are what the mask left.

    Args:
        rows: int [N], rows of the dataset's table.
    """
    values: dict[tuple[str, int], dict[int, bytes]] = defaultdict(dict)
    shares = defaultdict(lambda: np.zeros(len(_TOLD)))
    packets = 0
    every = max(len(rows) // SAMPLED, 1)
    for session, row in enumerate(progress(rows.tolist(), "fields")):
        first = int(dataset.first_tiles[row])
        count = min(int(dataset.tile_counts[row]), PACKETS)
        tiles = np.asarray(dataset.tiles[first : first + count])
        own = packet_rows_of(dataset.packets.slice(first, count))
        veils = None
        if session % every == 0:
            veils = np.stack([hidden(tiles, own, name) for name in _TOLD], 1)
        for place in range(count):
            data = tiles[place].tobytes()
            fields = dissect(data, own[place])
            side = int(own["direction"][place])
            for field in fields:
                held = values[field.name, side]
                if session not in held:
                    held[session] = data[field.start : field.end]
                if veils is not None:
                    part = veils[place, :, field.start : field.end]
                    shares[field.name] += part.mean(1) - _HALF
            kinds = _option_kinds(fields)
            if kinds is not None:
                values[KINDS, side].setdefault(session, kinds)
        packets += count
    hidden_by = {
        name: _TOLD[int(score.argmax())] for name, score in shares.items() if score.max() > 0
    }
    values = dict(values)
    _put_together(values)
    hidden_by |= {name: hidden_by[of] for name, of in MADE_OF.items() if of in hidden_by}
    return FieldValues(len(rows), values, hidden_by, packets)


def _option_kinds(fields: list[Field]) -> bytes | None:
    """Return the names of a TCP segment's options, None of what is no TCP segment."""
    names = [field.name for field in fields if field.name.startswith("tcp.")]
    if not names:
        return None
    kinds = [
        name.removeprefix(_OPTIONS + ".")
        for name in names
        if name.startswith(_OPTIONS) and not any(part in name for part in _INSIDE)
    ]
    return " ".join(kinds).encode()


def _put_together(values: dict[tuple[str, int], dict[int, bytes]]) -> None:
    """Add the values that are made of others."""
    for side in range(len(SIDES)):
        for name in ("eth.src", "eth.dst"):
            if (name, side) in values:
                own = values[name, side].items()
                vendors = {session: value[:VENDOR] for session, value in own}
                values[f"{name}.oui", side] = vendors
        times, protocols = (values.get((name, side), {}) for name in ("ip.ttl", "ip.proto"))
        both = {at: times[at] + protocols[at] for at in times.keys() & protocols.keys()}
        if both:
            values[TTL_PROTOCOL, side] = both
