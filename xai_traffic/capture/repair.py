"""Make packets valid again whose bytes were changed: lengths, and checksums by increments.

A tile holds the first bytes of a packet, so a checksum over all of it cannot be computed anew. It
can be carried forward, from the bytes that changed alone (RFC 1624, equation 3): what was right
stays right, and what was wrong before (a checksum that the network card was to fill in) stays wrong
by the same amount.

    checksums   of every IPv4 header, of TCP, UDP, ICMP and ICMPv6 with what is covered of the IP
                header (addresses), of UDP and GRE around tunnels. A UDP checksum of 0 is none.
    structure   what says where headers begin, how long they are and what follows stays as it was:
                versions, lengths, protocols, fragment offsets, Ethernet types, the TCP data offset.
                In other link layers than Ethernet, in tunnels (whose ports say what they carry) and
                in IPv6 extension headers all stays but addresses, identifiers, classes and times
                to live.
    hidden      bytes that the dataset's mask hides stay as they are, checksums among them.

Limits. Lengths and checksums of what TCP and UDP carry, of packets that ICMP errors quote, SCTP's
CRC32c and the checks of link layers are not repaired. A later fragment belongs to the checksum of
the first one, in another tile. Source routes: their final destination counts as payload. Checksums
of UDP around a tunnel are found by its ports, so not where mask `ports` hides them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xai_traffic.capture.checksums import ABSENT, Cover, carry_forward, write_words
from xai_traffic.capture.fields import Field, header_fields
from xai_traffic.capture.fields.masks import ADDRESSES, FIELDS
from xai_traffic.capture.masking import hidden, parse_mask
from xai_traffic.capture.records import ICMP, ICMP6, NONE, TCP, UDP
from xai_traffic.capture.tables import packet_rows_of

_ETHERNET, _ETHERNET_SIZE = 1, 14
_ROWS = 8192  # rows worked on at once: the working arrays stay within some MiB
_CHECKSUMS = {TCP: 16, UDP: 6, ICMP: 2, ICMP6: 2}
"""Where the checksum stands in the transport header."""

_GRE_CHECKSUM = 0x80
_CLASSES = ("ip.dsfield", "ipv6.tclass")


@dataclasses.dataclass(frozen=True)
class RepairPlan:
    """What `repair` must know of n packets as they were; make it once, use it often.

    Args:
        tiles: uint8 [n, width], valid.
        fixed: uint8 [n, width], bits that stay as they are.
        covers: checksums, the innermost first.
        lengths: int32 [L, n], offsets of 16-bit lengths that grow with the packet.
        whole: bool [n], the tile holds the packet to the end of its datagram.
        captured: int32 [n], bytes of the tile that are no padding.
    """

    tiles: np.ndarray
    fixed: np.ndarray
    covers: tuple[Cover, ...]
    lengths: np.ndarray
    whole: np.ndarray
    captured: np.ndarray

    def __len__(self) -> int:
        """Return the number of packets."""
        return len(self.tiles)

    def take(self, rows) -> RepairPlan:
        """Return the plan of some packets, as often as `rows` names them."""
        return RepairPlan(
            self.tiles[rows],
            self.fixed[rows],
            tuple(cover.take(rows) for cover in self.covers),
            self.lengths[:, rows],
            self.whole[rows],
            self.captured[rows],
        )


def plan_repair(tiles: np.ndarray, packets: Any, mask: str = "none") -> RepairPlan:
    """Find the lengths and checksums of packets, before any of their bytes change.

    Args:
        tiles: uint8 [n, width], as they are in the dataset.
        packets: n packet rows: PACKET array or pyarrow table.
        mask: that of the dataset.

    Raises:
        ConfigError: unknown mask.
        ValueError: there are more or fewer rows than tiles.
    """
    tiles = np.asarray(tiles, np.uint8)
    packets = rows_of(packets)
    if len(tiles) != len(packets):
        raise ValueError(f"{len(tiles)} tiles, but {len(packets)} packet rows")
    width, veils = tiles.shape[1], parse_mask(mask)
    length = np.minimum(packets["length"].astype(np.int32), width)
    columns = {
        name: np.where(packets[name] == NONE, ABSENT, packets[name].astype(np.int32))
        for name in ("network", "transport")
    }
    layer = _Layer(
        tiles, length, columns["network"], columns["transport"], packets["protocol"].astype(int)
    )
    fixed = np.where(np.arange(width) < length[:, None], 0, 255).astype(np.uint8)
    _fix(fixed, layer.structure())
    covers, lengths = [layer.transport_cover(), layer.header_cover()], layer.length_fields()
    ethernet = (packets["link"] == _ETHERNET) & (layer.network == _ETHERNET_SIZE)
    _fix(fixed, [(np.where(ethernet, 12, ABSENT), 255), (np.where(ethernet, 13, ABSENT), 255)])
    plain = ethernet | (layer.network == 0) | (layer.network >= ABSENT)
    more_covers, more_lengths = _name_others(fixed, layer, packets, ~plain, "addresses" in veils)
    covers, lengths = covers + more_covers, lengths + more_lengths
    if veils:
        veiled = hidden(tiles, packets, mask)
        # In masked tiles 01 looks like the mark of a group of Ethernet addresses.
        veiled[packets["link"] == _ETHERNET, :12] |= "addresses" in veils
        fixed[veiled] = 255
        veiled = np.pad(veiled, ((0, 0), (0, 2)))
        covers = [_seen(cover, veiled) for cover in covers]
    for cover in covers:
        _fix(fixed, [(cover.field, 255), (cover.field + 1, 255)])
        # A checksum that the tile cuts cannot be written.
        cover.field[cover.field + 2 > length] = ABSENT
    whole = (layer.network < ABSENT) & (layer.declared <= length)
    return RepairPlan(tiles, fixed, tuple(covers), np.stack(lengths), whole, length)


def repair(plan: RepairPlan, changed: np.ndarray, grown: np.ndarray | None = None) -> np.ndarray:
    """Return packets whose bytes were changed with lengths and checksums that fit them.

    Source: RFC 1624, Computation of the Internet Checksum via Incremental Update, 1994.

    Args:
        plan: of the same packets before.
        changed: uint8 [n, width]; checksums may hold anything.
        grown: int [n], bytes that the payload gained, less than 0 for lost ones; IP and UDP lengths
            follow, those of PPPoE, GTP and 802.3 do not. Only for packets that the tile holds
            whole, before and after. None: none did.

    Returns:
        uint8 [n, width], a new array.

    Raises:
        ValueError: shapes differ, or a packet grew that the tile does not hold.
    """
    changed = np.asarray(changed, np.uint8)
    grown = np.zeros(len(plan), np.int32) if grown is None else np.asarray(grown, np.int32)
    if changed.shape != plan.tiles.shape or grown.shape != (len(plan),):
        raise ValueError(
            f"changed tiles {changed.shape} and growth {grown.shape} must fit {plan.tiles.shape}"
        )
    until = plan.captured + grown
    if ((grown != 0) & ~(plan.whole & (until <= plan.tiles.shape[1]))).any():
        raise ValueError("only a packet that its tile holds whole, before and after, can grow")
    result = np.empty_like(changed)
    for first in range(0, len(plan), _ROWS):
        rows = slice(first, first + _ROWS)
        result[rows] = _repaired(plan.take(rows), changed[rows], grown[rows])
    return result


def rows_of(packets: Any) -> np.ndarray:
    """Return packet rows, PACKET or a pyarrow table, as PACKET [n]."""
    return packets if isinstance(packets, np.ndarray) else packet_rows_of(packets)


def _repaired(plan: RepairPlan, changed: np.ndarray, grown: np.ndarray) -> np.ndarray:
    fixed = plan.fixed
    if grown.any():
        padding = np.arange(fixed.shape[1]) >= plan.captured[:, None]
        fixed = np.where(padding & (grown != 0)[:, None], 0, fixed)
    result = (changed & ~fixed) | (plan.tiles & fixed)
    for field in plan.lengths:
        (rows,) = np.nonzero((field < ABSENT) & (grown != 0))
        at = field[rows]
        before = plan.tiles[rows, at].astype(np.int32) << 8 | plan.tiles[rows, at + 1]
        write_words(result, rows, at, before + np.where(before > 0, grown[rows], 0))
    for cover in plan.covers:
        carry_forward(result, plan.tiles, cover, grown)
    return result


def _fix(fixed: np.ndarray, fields: Sequence[tuple[np.ndarray, int]]) -> None:
    """Note that some bits of the byte at each row's offset stay."""
    for offset, bits in fields:
        (rows,) = np.nonzero(offset < fixed.shape[1])
        fixed[rows, offset[rows]] |= np.uint8(bits)


def _seen(cover: Cover, veiled: np.ndarray) -> Cover:
    """Leave out the checksums that a mask hides."""
    at = np.minimum(cover.field, veiled.shape[1] - 2)
    rows = np.arange(len(at))
    gone = veiled[rows, at] | veiled[rows, at + 1]
    return dataclasses.replace(cover, field=np.where(gone, ABSENT, cover.field))


class _Layer:
    """The headers of n packets that make the session: offsets int32 [n], ABSENT where none."""

    def __init__(self, tiles, length, network, transport, protocol):
        self.tiles, self.length = tiles, length
        self.network, self.transport, self.protocol = network, transport, protocol
        self.version = self._number(network, 1) >> 4
        four, six = self.version == 4, self.version == 6
        total = np.where(four, self._number(network + 2, 2), 0)
        payload = self._number(network + 4, 2)
        # A length of zero stands for "as long as it is": segmentation offload, jumbograms.
        said = (payload > 0) | (self._number(network + 6, 1) == 59)
        total = np.where(six & said, 40 + payload, total)
        self.declared = np.where(total > 0, network + total, length)
        self.end = np.minimum(self.declared, length)

    def _number(self, offset: np.ndarray, size: int) -> np.ndarray:
        """Return int32 [n], the big-endian number at each row's offset, 0 where it is cut."""
        inside = offset + size <= self.length
        rows, at = np.arange(len(offset)), np.where(inside, offset, 0)
        value = np.zeros(len(offset), np.int32)
        for index in range(size):
            value = value << 8 | self.tiles[rows, np.where(inside, at + index, 0)]
        return np.where(inside, value, 0)

    def structure(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yield offsets of bytes, and which of their bits say how the packet is built."""
        four, six = self.version == 4, self.version == 6
        tcp, udp = self.protocol == TCP, self.protocol == UDP
        for begin, where, parts in (
            # of byte 6 the bit for more fragments and the offset's; "do not fragment" is free
            (self.network, four, ((0, 255), (2, 255), (3, 255), (6, 0x3F), (7, 255), (9, 255))),
            (self.network, six, ((0, 0xF0), (4, 255), (5, 255), (6, 255))),
            (self.transport, tcp, ((12, 0xF0),)),
            (self.transport, udp, ((4, 255), (5, 255))),
        ):
            for offset, bits in parts:
                yield np.where(where, begin + offset, ABSENT), bits

    def length_fields(self) -> list[np.ndarray]:
        """Return the offsets of the IP and UDP lengths."""
        four, six = self.version == 4, self.version == 6
        ip = self.network + np.where(four, 2, 4)
        udp = (self.protocol == UDP) & (self.transport < ABSENT)
        return [
            np.where((four | six) & (ip + 2 <= self.length), ip, ABSENT),
            np.where(udp & (self.transport + 6 <= self.length), self.transport + 4, ABSENT),
        ]

    def header_cover(self) -> Cover:
        """Return the checksum of the IPv4 header."""
        size = (self._number(self.network, 1) & 15) * 4
        there = (self.version == 4) & (size >= 20)
        none = np.full_like(self.network, ABSENT)
        never = np.zeros(len(none), bool)
        field = np.where(there, self.network + 10, ABSENT)
        stop = np.minimum(self.network + size, self.length)
        return Cover(field, self.network, stop, none, none, never, never)

    def transport_cover(self) -> Cover:
        """Return the checksum of the transport header."""
        place = np.full_like(self.transport, ABSENT)
        for protocol, offset in _CHECKSUMS.items():
            place[self.protocol == protocol] = offset
        udp = self.protocol == UDP
        said = self._number(self.transport + 4, 2)
        stop = np.where(udp & (said >= 8), np.minimum(self.transport + said, self.end), self.end)
        # ICMP covers no addresses; those of an IP header outside of the tile cannot change.
        addressed = (self.network < ABSENT) & (self.protocol != ICMP)
        four = self.version == 4
        addresses = np.where(addressed, self.network + np.where(four, 12, 8), ABSENT)
        behind = np.where(addressed, addresses + np.where(four, 8, 32), ABSENT)
        field, always = np.minimum(self.transport + place, ABSENT), np.ones(len(udp), bool)
        return Cover(field, self.transport, stop, addresses, behind, always, udp)


def _name_others(
    fixed: np.ndarray, layer: _Layer, packets: np.ndarray, linked: np.ndarray, veiled: bool
) -> tuple[list[Cover], list[np.ndarray]]:
    """Find what `_Layer` does not know, packet by packet, and note in `fixed` what stays of it.

    Args:
        linked: bool [n], link layers of other forms.
        veiled: addresses are hidden.

    Returns:
        Checksums and offsets of lengths of the headers around, the innermost first.
    """
    extended = (layer.version == 6) & (layer.transport - layer.network > 40)
    around: list[list[tuple]] = [[] for _ in fixed]
    lengths: list[list[int]] = [[] for _ in fixed]
    for row in np.flatnonzero(linked | (packets["depth"] > 0) | extended):
        data, places = layer.tiles[row, : layer.length[row]].tobytes(), packets[row]
        fields = header_fields(data, places, int(places["link"]), int(places["depth"]))
        stop = min(int(layer.transport[row]), int(places["payload"]), len(data))
        own = slice(layer.network[row], layer.network[row] + 40 if extended[row] else stop)
        stays = _structure_by_name(fields, stop, veiled)
        stays[own] = 0  # the layer told
        fixed[row, :stop] |= stays
        around[row], lengths[row] = _outer(data, fields, int(layer.network[row]))
    return _outer_covers(around), _outer_lengths(lengths)


def _structure_by_name(fields: Sequence[Field], stop: int, addresses: bool) -> np.ndarray:
    """Return uint8 [stop], which bits stay of headers by the names of their fields.

    All do but what masks know as addresses, identifiers or time to live, and the class; all
    `addresses` too where they are hidden.
    """
    stays = np.full(stop, 255, np.uint8)
    for field in fields:
        span = slice(field.start, min(field.end, stop))
        if field.name in _CLASSES or field.name in ADDRESSES and not addresses:
            stays[span] = 0
            continue
        for mask in ("ids", "ttl"):
            if (keep := FIELDS[mask].get(field.name)) is not None:
                size = field.end - field.start
                stays[span] = np.frombuffer(keep.ljust(size, b"\0")[:size], np.uint8)[
                    : stays[span].size
                ]
    return stays


def _outer(data: bytes, fields: Sequence[Field], network: int) -> tuple[list[tuple], list[int]]:
    """Return the checksums of the headers around the IP header at `network`, and their lengths.

    The checksums innermost first, each as `Cover` has it.
    """
    covers: list[tuple] = []
    lengths: list[int] = []
    addresses = behind = ABSENT
    end, begun = len(data), 0
    for field in fields:
        at = field.start
        if at >= network:
            break
        if field.name == "ip.version":
            addresses, behind, header = at + 12, at + 20, (data[at] & 15) * 4
            end = min(at + (_word(data, at + 2) or len(data)), len(data))
            lengths.append(at + 2)
            covers.append((at + 10, at, at + header, ABSENT, ABSENT, False, False))
        elif field.name == "ipv6.version":
            addresses, behind = at + 8, at + 40
            end = min(at + 40 + (_word(data, at + 4) or len(data)), len(data))
            lengths.append(at + 4)
        elif field.name == "udp.srcport":
            stop = min(at + (_word(data, at + 4) or len(data)), end)
            lengths.append(at + 4)
            covers.append((at + 6, at, stop, addresses, behind, True, True))
        elif field.name == "gre.flags_and_version":
            begun = at
        elif field.name == "gre.checksum" and data[begun] & _GRE_CHECKSUM:
            covers.append((at, begun, end, ABSENT, ABSENT, True, False))
    return covers[::-1], lengths


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def _outer_covers(around: list[list[tuple]]) -> list[Cover]:
    """Return the checksums of each level outwards, from the lists of each packet."""
    none = (ABSENT, 0, 0, ABSENT, ABSENT, False, False)
    result = []
    for level in range(max(map(len, around), default=0)):
        rows = [own[level] if level < len(own) else none for own in around]
        *offsets, grows, udp = zip(*rows, strict=True)
        numbers = (np.array(part, np.int32) for part in offsets)
        result.append(Cover(*numbers, np.array(grows, bool), np.array(udp, bool)))
    return result


def _outer_lengths(more: list[list[int]]) -> list[np.ndarray]:
    """Return the offsets of the lengths of each level, from the lists of each packet."""
    return [
        np.array([own[level] if level < len(own) else ABSENT for own in more], np.int32)
        for level in range(max(map(len, more), default=0))
    ]
