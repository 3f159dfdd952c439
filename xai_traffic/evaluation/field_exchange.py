"""Exchange a field among sessions: each gets the values that another one has in it.

The values stay real and as frequent as they were; only what they tell of the session is gone. One
session gives all that another gets, so what was equal within a session stays equal, and counters
stay counters. Addresses and ports change sides with the direction, as they do on the wire. Lengths
and checksums are made right again, so packets stay valid; what says where headers begin stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from xai_traffic.capture.fields import Field
from xai_traffic.capture.repair import plan_repair, repair
from xai_traffic.explain.traffic import Traffic

_OTHER_END = {
    **{f"{layer}.src": f"{layer}.dst" for layer in ("eth", "ip", "ipv6")},
    **{f"{layer}.srcport": f"{layer}.dstport" for layer in ("tcp", "udp", "sctp")},
}
_OTHER_END |= {there: here for here, there in _OTHER_END.items()}


def exchange_fields(
    traffic: Traffic,
    fields: Sequence[Sequence[Field]],
    names: Collection[str],
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Exchange some fields among the sessions that have any of them, by one permutation.

    The n-th different value that a session has of a field becomes the n-th that its partner has of
    it, or the last; a value of another length overwrites the bytes that both have. What the partner
    does not have stays.

    Args:
        fields: of each packet of `traffic`, see `capture.fields.dissect`.
        names: of fields; numbers of layers (`#1`) included.

    Returns:
        (tiles uint8 [T, 256], partner of each session int [B], itself where it has no such field).
    """
    values = [_values(traffic, fields, names, session) for session in range(len(traffic))]
    have = np.flatnonzero([bool(own) for own in values])
    partner = np.arange(len(traffic))
    partner[have] = rng.permutation(have)
    changed = np.array(traffic.tiles)
    for session in have.tolist():
        own, others = values[session], values[partner[session]]
        for tile, key, field in _places(traffic, fields, names, session):
            theirs = others.get(key)
            if not theirs:
                continue
            value = traffic.tiles[tile, field.start : field.end].tobytes()
            new = theirs[min(own[key].index(value), len(theirs) - 1)]
            size = min(len(new), len(value))
            changed[tile, field.start : field.start + size] = np.frombuffer(new[:size], np.uint8)
    plan = plan_repair(traffic.tiles, traffic.packets, traffic.mask)
    return repair(plan, changed), partner


def _values(
    traffic: Traffic, fields: Sequence[Sequence[Field]], names: Collection[str], session: int
) -> dict[tuple[str, int], list[bytes]]:
    """Return the different values of each field of a session, in the order they come in."""
    found: dict[tuple[str, int], list[bytes]] = {}
    for tile, key, field in _places(traffic, fields, names, session):
        value = traffic.tiles[tile, field.start : field.end].tobytes()
        own = found.setdefault(key, [])
        if value not in own:
            own.append(value)
    return found


def _places(
    traffic: Traffic, fields: Sequence[Sequence[Field]], names: Collection[str], session: int
) -> Iterator[tuple[int, tuple[str, int], Field]]:
    """Yield (tile, what must agree for values to stand in, field) in the order of the packets."""
    start = int(traffic.counts[:session].sum())
    for tile in range(start, start + int(traffic.counts[session])):
        side = int(traffic.packets["direction"][tile])
        for field in fields[tile]:
            if field.name in names:
                yield tile, _key(field.name, side), field


def _key(name: str, side: int) -> tuple[str, int]:
    base, mark, layer = name.partition("#")
    if base in _OTHER_END:
        return (_OTHER_END[base] if side else base) + mark + layer, 0
    return name, side
