"""Remove packets from sessions so that what is left is a session that a network could carry.

Zero-fill makes packets that no network carries, and a model may answer to them as it likes. These
removals leave valid packets, for every method that takes `removal`:

    closed_up       a removed packet was never there: later ones move forward
    drawn_packets   a packet of other traffic stands in for it, made to belong to the session
    drawn_fields    the same field of other packets stands in for a field, see
                    `field_replacement.py`

What is drawn is drawn once and stays the same over all masks, so each is a game of its own; several
draws make the mean of their games. Headers and checksums are valid as far as `capture/repair.py`
goes. The order of TCP's sequence numbers is not made good: a drawn packet has its own, and closing
up leaves a gap, as a capture that missed a packet does.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from xai_traffic.capture.fields import header_fields
from xai_traffic.capture.records import CUT, FRAGMENT, NONE, SCTP, TCP, UDP
from xai_traffic.capture.repair import plan_repair, repair
from xai_traffic.explain.removal import Removal
from xai_traffic.explain.traffic import Traffic, packets_kept, put_together


def closed_up(traffic: Traffic) -> Removal:
    """Return the removal of packets that closes sessions up behind them.

    The image is that of the session without them, empty tiles at its end. Of sessions longer than
    64 packets the 65th is not known, so none moves up to the last tile.

    Args:
        traffic: the sessions to explain, in the order of x.

    Raises:
        ValueError: when called with a packet that is removed in part.
    """
    places = traffic.places()

    def removal(rows: np.ndarray, keep: np.ndarray) -> np.ndarray:
        mask, place, tile, kept, gone = packets_kept(traffic, places, rows, keep)
        leaves = gone.any(1)
        if (leaves & kept.any(1)).any():
            raise ValueError("closing up removes whole packets: take players of packet_groups")
        mask, tile = mask[~leaves], tile[~leaves]
        counts = np.bincount(mask, minlength=len(rows))
        place = np.arange(len(mask)) - np.repeat(np.cumsum(counts) - counts, counts)
        return put_together(len(rows), mask, place, traffic.tiles[tile])

    return removal


def drawn_packets(
    traffic: Traffic, pool: Traffic, *, draws: int = 1, seed: int = 0
) -> list[Removal]:
    """Return removals of packets that put drawn ones in their places, see `draw_packets`.

    Of a packet that is removed in part the bytes at the same places are drawn, and it is repaired.

    Args:
        traffic: the sessions to explain, in the order of x.
        pool: where packets are drawn from, such as the training split, under the same mask.
        draws: how many removals; methods take the mean of their logits.
        seed: of the draw.

    Raises:
        ValueError: draws are fewer than 1, or the masks differ.
    """
    if draws < 1:
        raise ValueError(f"{draws} draws: need at least 1")
    tiles = [draw_packets(traffic, pool, seed=seed, draw=draw)[0] for draw in range(draws)]
    return [replaced(traffic, own, whole=True) for own in tiles]


def draw_packets(
    traffic: Traffic, pool: Traffic, *, seed: int = 0, draw: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a packet of other traffic for each packet of some sessions, and make it belong there.

    It has the same protocol, direction, IP version, link layer and tunnels, and is cut within the
    tile only where the other is; link layer, addresses and ports become the session's, and
    checksums are repaired. Its length is its own. Fragments are not drawn.

    Args:
        traffic, pool, seed: as for `drawn_packets`.
        draw: number of the draw.

    Returns:
        uint8 [T, 256], and bool [T], whether the pool has one of that kind: where not, zeros.

    Raises:
        ValueError: the masks differ.
    """
    same_mask(traffic, pool)
    by_kind: dict[Hashable, list[int]] = {}
    whole = np.flatnonzero(pool.packets["flags"] & FRAGMENT == 0)
    for number, kind in zip(whole, kinds_of(pool, whole), strict=True):
        by_kind.setdefault(kind, []).append(number)
    rng = generator(seed, draw)
    chosen = np.full(len(traffic.tiles), -1)
    for number, kind in enumerate(kinds_of(traffic, np.arange(len(chosen)))):
        if found := by_kind.get(kind):
            chosen[number] = found[rng.integers(len(found))]
    found = chosen >= 0
    tiles = np.zeros_like(traffic.tiles)
    tiles[found] = _at_home(traffic, np.flatnonzero(found), pool, chosen[found])
    return tiles, found


def replaced(traffic: Traffic, stand_in: np.ndarray, *, whole: bool) -> Removal:
    """Return the removal that puts the bytes of `stand_in` in the places of removed ones.

    Args:
        traffic: the sessions.
        stand_in: uint8 [T, 256], for each of their tiles.
        whole: a packet of which nothing is kept becomes the stand-in, length and all. Else it keeps
            its length, as every packet does that is removed in part, and is repaired.
    """
    plan, places = plan_repair(traffic.tiles, traffic.packets, traffic.mask), traffic.places()

    def removal(rows: np.ndarray, keep: np.ndarray) -> np.ndarray:
        mask, place, tile, kept, gone = packets_kept(traffic, places, rows, keep)
        tiles = traffic.tiles[tile]
        leaves = gone.any(1) & ~kept.any(1) & whole
        tiles[leaves] = stand_in[tile[leaves]]
        (part,) = np.nonzero(gone.any(1) & ~leaves)
        changed = np.where(gone[part], stand_in[tile[part]], tiles[part])
        tiles[part] = repair(plan.take(tile[part]), changed)
        return put_together(len(rows), mask, place, tiles)

    return removal


def generator(seed: int, draw: int) -> np.random.Generator:
    """Return the generator of one draw."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, draw])))


def same_mask(traffic: Traffic, pool: Traffic) -> None:
    """Raise ValueError where a pool is masked otherwise."""
    if traffic.mask != pool.mask:
        raise ValueError(
            f"the pool has mask {pool.mask!r} and the sessions {traffic.mask!r}: draw from the "
            "dataset that the model was trained on"
        )


def kinds_of(traffic: Traffic, numbers: np.ndarray) -> list[Hashable]:
    """Return what packets must have in common to stand in for one another, for some tiles."""
    packets, tiles = traffic.packets[numbers], traffic.tiles[numbers]
    network = packets["network"].astype(int)
    inside = network < np.minimum(packets["length"], tiles.shape[1])
    version = tiles[np.arange(len(tiles)), np.where(inside, network, 0)] >> 4
    parts = [packets[name].tolist() for name in ("protocol", "direction", "link", "network")]
    parts += [np.where(inside, version, 0).tolist(), (packets["transport"] == NONE).tolist()]
    # What the capture cut within the tile looks like no packet that it holds whole.
    parts.append((packets["flags"] & CUT & (packets["length"] < tiles.shape[1])).tolist())
    around = [
        _around(tiles[row], packets[row]) if packets["depth"][row] else None
        for row in range(len(tiles))
    ]
    return list(zip(*parts, around, strict=True))


def _around(tile: np.ndarray, row: np.void) -> tuple:
    """Return the headers around the IP header of a packet in tunnels, as names and sizes."""
    data = tile[: row["length"]].tobytes()
    fields = header_fields(data, row, int(row["link"]), int(row["depth"]))
    return tuple((field.name, field.start) for field in fields if field.end <= row["network"])


def _at_home(traffic: Traffic, numbers, pool: Traffic, chosen) -> np.ndarray:
    """Return tiles of the pool with link layer, addresses and ports of the sessions' packets."""
    drawn, own = pool.tiles[chosen], traffic.tiles[numbers]
    rows, own_rows = pool.packets[chosen], traffic.packets[numbers]
    tiles = drawn.copy()
    network = rows["network"].astype(int)
    at = np.minimum(network, tiles.shape[1] - 1)
    version = np.where(network < rows["length"], drawn[np.arange(len(at)), at] >> 4, 0)
    transport, own_transport = (part["transport"].astype(int) for part in (rows, own_rows))
    ports = np.isin(rows["protocol"], (TCP, UDP, SCTP)) & (transport != NONE)
    positions = np.arange(tiles.shape[1])
    network = network[:, None]
    # The kind makes the link layer as long; what it says of lengths `repair` takes back.
    copied = (positions < network) & (network != NONE)
    for family, begin, end in ((4, 12, 20), (6, 8, 40)):
        inside = (positions >= network + begin) & (positions < network + end)
        copied |= inside & (version == family)[:, None]
    held = np.minimum(rows["length"], own_rows["length"]).astype(int)[:, None]
    tiles = np.where(copied & (positions < held), own, tiles)
    for offset in range(4):
        fits = ports & (transport + offset < rows["length"])
        (which,) = np.nonzero(fits & (own_transport + offset < own_rows["length"]))
        tiles[which, transport[which] + offset] = own[which, own_transport[which] + offset]
    return repair(plan_repair(drawn, rows, pool.mask), tiles)
