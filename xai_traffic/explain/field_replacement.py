"""Remove protocol fields so that packets stay valid: the same field of other packets stands in."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from xai_traffic.capture.fields import Field, dissect
from xai_traffic.capture.records import FRAGMENT
from xai_traffic.explain.removal import Removal
from xai_traffic.explain.replacement import generator, kinds_of, replaced, same_mask
from xai_traffic.explain.traffic import Traffic

POOL = 4096
"""Most packets of a pool whose fields are found: it takes some hundred microseconds for each."""

_ENDS = {
    **{f"{layer}.src": f"{layer}.dst" for layer in ("eth", "ip", "ipv6")},
    **{f"{layer}.srcport": f"{layer}.dstport" for layer in ("tcp", "udp", "sctp")},
}
_ENDS |= {destination: source for source, destination in _ENDS.items()}
"""Fields that name an endpoint, and those that name the other one: they change sides with the
direction, and one is drawn for all packets of a session."""


def drawn_fields(
    traffic: Traffic,
    pool: Traffic,
    *,
    fields: Sequence[Sequence[Field]] | None = None,
    draws: int = 1,
    seed: int = 0,
    most: int = POOL,
) -> list[Removal]:
    """Return removals of fields that put the same field of drawn packets in their places.

    Packets keep their lengths, and are repaired.

    Args:
        traffic: the sessions to explain, in the order of x.
        pool: where fields are drawn from, such as the training split, under the same mask.
        fields: those of each packet of `traffic`, as for `field_groups`; None finds them in the
            tiles. Name them where a mask hides what tells fields apart.
        draws: how many removals; methods take the mean of their logits.
        seed: of the draw.
        most: packets of the pool that are drawn from, chosen at random.

    Raises:
        ValueError: draws are fewer than 1, the masks differ, or fields do not fit the packets.
    """
    if draws < 1:
        raise ValueError(f"{draws} draws: need at least 1")
    same_mask(traffic, pool)
    if fields is None:
        rows = zip(traffic.tiles, traffic.packets, strict=True)
        fields = [dissect(tile, row) for tile, row in rows]
    if len(fields) != len(traffic.tiles):
        raise ValueError(f"{len(traffic.tiles)} packets, and the fields of {len(fields)}")
    rng = generator(seed, 0)
    whole = np.flatnonzero(pool.packets["flags"] & FRAGMENT == 0)
    values = _field_values(pool, rng.permutation(whole)[:most])
    kinds = kinds_of(traffic, np.arange(len(fields)))
    return [
        replaced(
            traffic, _stand_in(traffic, fields, kinds, values, generator(seed, draw)), whole=False
        )
        for draw in range(1, draws + 1)
    ]


def _stand_in(traffic: Traffic, fields, kinds, values, rng) -> np.ndarray:
    """Draw every field of every packet, uint8 [T, 256].

    Of fields as long as its own, else of longer ones their first bytes, else zeros.
    """
    tiles = np.zeros_like(traffic.tiles)
    ends: dict[Hashable, bytes] = {}
    rows = zip(tiles, traffic.sessions, kinds, fields, strict=True)
    for tile, session, kind, parts in rows:
        for field in parts:
            size = field.end - field.start
            key, end = _key(kind, field.name)
            drawn = ends.get((session, key, size)) if end else None
            if drawn is None:
                drawn = _draw(values.get(key, {}), size, rng)
                if end:
                    ends[session, key, size] = drawn
            tile[field.start : field.end] = np.frombuffer(drawn, np.uint8)
    return tiles


def _draw(values: dict[int, list[bytes]], size: int, rng) -> bytes:
    """Draw a value of that size from lists by size."""
    found = values.get(size)
    if found is None:
        found = [value for length, own in values.items() if length > size for value in own]
    return found[rng.integers(len(found))][:size] if found else bytes(size)


def _field_values(pool: Traffic, numbers) -> dict[Hashable, dict[int, list[bytes]]]:
    """Return what the fields of some packets hold, by kind of packet and name, and by size."""
    values: dict[Hashable, dict[int, list[bytes]]] = {}
    for number, kind in zip(numbers, kinds_of(pool, numbers), strict=True):
        data = pool.tiles[number].tobytes()
        for field in dissect(data, pool.packets[number]):
            own = values.setdefault(_key(kind, field.name)[0], {})
            own.setdefault(field.end - field.start, []).append(data[field.start : field.end])
    return values


def _key(kind: tuple, name: str) -> tuple[Hashable, bool]:
    """Return what fields must have in common to stand in, and whether one names an endpoint."""
    protocol, direction, *rest = kind
    base, mark, layer = name.partition("#")
    if base not in _ENDS:
        return (kind, name), False
    base = _ENDS[base] if direction else base
    return (protocol, *rest, base + mark + layer), True
