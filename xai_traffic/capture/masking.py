"""Masks: hide named parts of packets in place, so that a model cannot rest its verdict on them.

A mask is a function of (tile, packet row) alone. It takes tiles as captured: lengths and options
are read from the tile itself, so a tile that is masked already must not be masked again.

    addresses   MAC, IPv4 and IPv6 addresses. The initiator's bytes become 01, the responder's 02:
                direction stays, identity goes. Multicast and broadcast addresses are kept. Of a
                Linux cooked header the one address it has, the sender's, with its padding. What
                belongs to neither side (hops of a source route, the network of Wi-Fi stations
                without an access point, a Teredo client's origin) becomes 00.
    ports       TCP, UDP and SCTP ports.
    ids         IPv4 identification and header checksum, IPv6 flow label and fragment
                identification, TCP sequence and acknowledgement number, TCP, UDP and SCTP checksum,
                SCTP verification tag, both TCP time-stamp option values. VLAN identifiers, and what
                takes their part elsewhere: MPLS labels, VXLAN and Geneve network identifiers, GRE
                keys, GTP tunnel endpoints, PPPoE sessions, security parameter indices; sequence
                numbers, checksums and clocks of such headers.
    ttl         IPv4 time to live, IPv6 hop limit, MPLS time to live.
    window      TCP window.
    options     all bytes of TCP options.
    header      every byte outside the transport payload, the link layer's header and its trailer
                behind the datagram included, except the IP version nibble, the IP protocol (next
                header) byte and the TCP flags byte. IP options and extension headers are headers.
    payload     transport payload up to the end of the datagram. For protocols other than TCP, UDP
                and SCTP everything behind the IP header is payload.

In a tunnel all this holds for every layer down to the headers that make the session; `header`
keeps its three fields of these alone. Where the outermost headers make the session (tunnels
"outer"), what they carry is payload, as are the packets that ICMP errors quote.

All zero what they hide, but `addresses`. Names compose with "+" into the union, in any order;
`header` covers what the others hide of headers, so zero wins over 01 and 02.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from xai_traffic.capture.core_numpy.shims import MAX_TAGS, VLAN_TAGS
from xai_traffic.capture.fields import header_fields
from xai_traffic.capture.fields.masks import FIELDS, INITIATOR, RESPONDER, covers
from xai_traffic.capture.records import NONE, SCTP, TCP, UDP
from xai_traffic.errors import ConfigError

MASK_VERSION = 2
"""Raised whenever the same mask would hide other bytes."""

MASKS = ("addresses", "ports", "ids", "ttl", "window", "options", "header", "payload")
"""Names of the masks, in the order of a canonical mask name."""

_COLUMNS = ("length", "network", "transport", "payload", "link", "protocol", "direction", "depth")
_ETHERNET, _SLL, _SLL2 = 1, 113, 276
_LINK_SIZES = {0: 4, 108: 4, 104: 4, _SLL: 16, _SLL2: 20}
"""Of link layers whose own bytes hold nothing that is not hidden by its offset."""

_BY_NAME = {"addresses", *FIELDS}
_ABSENT = 1 << 20  # an offset behind any tile, so that what begins there hides nothing
_ROWS = 8192  # rows worked on at once: the working arrays stay within a few MiB
_TIMESTAMP = 8  # TCP option kind


def parse_mask(mask: str) -> tuple[str, ...]:
    """Return the masks that a name like "ports+addresses" is made of, in canonical order.

    "none" gives an empty tuple.

    Raises:
        ConfigError: an unknown name; the message lists the known ones.
    """
    names = [name.strip() for name in mask.split("+")]
    if names == ["none"]:
        return ()
    for name in names:
        if name == "none":
            raise ConfigError(f"mask {mask!r}: 'none' stands alone, remove it or the other names")
        if name not in MASKS:
            raise ConfigError(
                f"mask {mask!r}: {name!r} is unknown, choose 'none' or join names of "
                f"{', '.join(MASKS)} with '+'"
            )
    return tuple(name for name in MASKS if name in names)


def mask_name(mask: str) -> str:
    """Return the canonical spelling of a mask, equal for masks that hide the same by name."""
    return "+".join(parse_mask(mask)) or "none"


def apply_mask(tiles: np.ndarray, packets: Any, mask: str) -> np.ndarray:
    """Return a copy of the tiles with everything hidden that the mask names.

    Args:
        tiles: uint8 [n, width], as captured (not masked).
        packets: n packet rows: PACKET array, pyarrow table, or mapping of columns to arrays.
        mask: names joined by "+".

    Returns:
        uint8 [n, width], always a new array.

    Raises:
        ConfigError: unknown mask.
    """
    names = parse_mask(mask)
    masked = np.array(tiles, np.uint8)
    if not names:
        return masked
    for rows, keep, fill in _worked_out(masked, packets, names):
        part = masked[rows]
        part &= keep
        if fill is not None:
            part |= fill
    return masked


def hidden(tiles: np.ndarray, packets: Any, mask: str) -> np.ndarray:
    """Return bool [n, width]: which captured bytes the mask hides, wholly or one nibble of them.

    Arguments as for `apply_mask`. True also where the hidden byte happens to be zero already;
    never in the padding behind `length`.
    """
    names = parse_mask(mask)
    result = np.zeros(np.shape(tiles), bool)
    if names:
        for rows, keep, _ in _worked_out(np.asarray(tiles, np.uint8), packets, names):
            np.not_equal(keep, 255, out=result[rows])
    return result


def _worked_out(
    tiles: np.ndarray, packets: Any, names: tuple[str, ...]
) -> Iterator[tuple[slice, np.ndarray, np.ndarray | None]]:
    """Yield (rows, bits to keep uint8 [rows, width], bits to set or None) for slices of rows."""
    columns = _columns(packets)
    if len(columns["length"]) != len(tiles):
        raise ValueError(f"{len(tiles)} tiles, but {len(columns['length'])} packet rows")
    for first in range(0, len(tiles), _ROWS):
        rows = slice(first, min(first + _ROWS, len(tiles)))
        part = _Part.of(
            tiles[rows],
            {name: column[rows].astype(np.int32) for name, column in columns.items()},
        )
        if "header" in names:
            part.hide_header()
        else:
            for name in names:
                if name != "payload":
                    getattr(part, f"hide_{name}")()
            part.hide_by_name(tuple(name for name in names if name in _BY_NAME))
        if "payload" in names:
            part.hide_range(part.payload, part.end)
        yield rows, part.keep, part.fill


def _columns(packets: Any) -> dict[str, np.ndarray]:
    """Return the columns a mask needs as arrays, from any of the forms rows come in."""
    if isinstance(packets, (np.ndarray, np.void, Mapping)):
        return {name: np.atleast_1d(packets[name]) for name in _COLUMNS}
    return {name: packets.column(name).to_numpy() for name in _COLUMNS}


@dataclasses.dataclass
class _Part:
    """Some rows at work: their tiles, where their layers begin, and what is hidden so far.

    Offsets are int32 [n] from the tile's first byte, _ABSENT where a layer is not in the tile.
    """

    tiles: np.ndarray  # uint8 [n, width]
    keep: np.ndarray  # uint8 [n, width], bits that stay
    fill: np.ndarray | None  # uint8 [n, width], bits set afterwards
    length: np.ndarray  # captured bytes in the tile
    link_size: np.ndarray  # bytes of the tile before the IP header
    network: np.ndarray
    version: np.ndarray  # 4, 6, or 0 where there is no IP header in the tile
    transport: np.ndarray
    payload: np.ndarray
    end: np.ndarray  # end of the datagram, at most `length`
    link: np.ndarray
    protocol: np.ndarray
    direction: np.ndarray
    depth: np.ndarray

    @classmethod
    def of(cls, tiles: np.ndarray, columns: dict[str, np.ndarray]) -> _Part:
        """Find the layers and the end of the datagram."""
        offsets = {
            name: np.where(columns[name] == NONE, _ABSENT, columns[name])
            for name in ("network", "transport", "payload")
        }
        length = np.minimum(columns["length"], tiles.shape[1])
        network = offsets["network"]
        absent = np.zeros_like(network)
        part = cls(
            tiles=tiles,
            keep=np.full(tiles.shape, 255, np.uint8),
            fill=None,
            length=length,
            link_size=np.where(network < length, network, 0),
            network=network,
            version=absent,
            transport=offsets["transport"],
            payload=offsets["payload"],
            end=length,
            link=columns["link"],
            protocol=columns["protocol"],
            direction=columns["direction"],
            depth=columns["depth"],
        )
        part.version = part.byte(network) >> 4
        # a length of zero stands for "as long as it is": segmentation offload, jumbograms
        total = np.where(part.version == 4, part.word(network + 2), 0)
        payload_length = part.word(network + 4)
        six = (part.version == 6) & ((payload_length > 0) | (part.byte(network + 6) == 59))
        total = np.where(six, 40 + payload_length, total)
        part.end = np.where(total > 0, np.minimum(network + total, length), length)
        return part

    def byte(self, offset: np.ndarray) -> np.ndarray:
        """Return int32 [n], the byte at each row's offset, 0 where it is not captured."""
        inside = offset < self.length
        values = self.tiles[np.arange(len(offset)), np.where(inside, offset, 0)]
        return np.where(inside, values, 0).astype(np.int32)

    def word(self, offset: np.ndarray) -> np.ndarray:
        """Return int32 [n], the big-endian 16 bits at each row's offset."""
        return self.byte(offset) << 8 | self.byte(offset + 1)

    def hide(self, offset: np.ndarray, where: np.ndarray, bits: int = 0) -> None:
        """Keep only `bits` of the byte at each row's offset."""
        (rows,) = np.nonzero(where & (offset < self.length))
        self.keep[rows, offset[rows]] &= np.uint8(bits)

    def hide_field(self, offset: np.ndarray, size: int, where: np.ndarray) -> None:
        """Hide `size` bytes from each row's offset."""
        for index in range(size):
            self.hide(offset + index, where)

    def hide_range(self, start: np.ndarray, stop: np.ndarray) -> None:
        """Hide the bytes from start to stop, clipped to what is captured."""
        positions = np.arange(self.tiles.shape[1], dtype=np.uint16)[None]
        start = np.minimum(start, self.length).astype(np.uint16)[:, None]
        stop = np.minimum(stop, self.length).astype(np.uint16)[:, None]
        np.copyto(self.keep, 0, where=(positions >= start) & (positions < stop))

    def hide_address(self, offset: np.ndarray, size: int, where: np.ndarray, end: int) -> None:
        """Put 01 or 02 over an address; `end` is 0 for the sender's, 1 for the receiver's."""
        if self.fill is None:
            self.fill = np.zeros_like(self.keep)
        for index in range(size):
            (rows,) = np.nonzero(where & (offset + index < self.length))
            at = rows, (offset + index)[rows]
            self.keep[at] = 0
            self.fill[at] = np.where(self.direction[rows] == end, INITIATOR, RESPONDER)

    def hide_addresses(self) -> None:
        """Hide what identifies a host, keep what names a group of them."""
        start = np.zeros_like(self.network)
        for offset, end in ((start, 1), (start + 6, 0)):
            single = self.byte(offset) & 1 == 0  # the group bit; broadcast has it too
            there = (self.link == _ETHERNET) & (self.link_size >= 14)
            self.hide_address(offset, 6, there & single, end)
        for link, offset, size in ((_SLL, 6, 16), (_SLL2, 12, 20)):
            self.hide_address(start + offset, 8, (self.link == link) & (self.link_size >= size), 0)
        for source, end in ((True, 0), (False, 1)):
            four = self.network + (12 if source else 16)
            first = self.byte(four)
            broadcast = (self.word(four) == 0xFFFF) & (self.word(four + 2) == 0xFFFF)
            group = (first >= 224) & (first < 240) | broadcast
            self.hide_address(four, 4, (self.version == 4) & ~group, end)
            six = self.network + (8 if source else 24)
            self.hide_address(six, 16, (self.version == 6) & (self.byte(six) != 0xFF), end)

    def hide_ports(self) -> None:
        """Hide source and destination port."""
        ports = np.isin(self.protocol, (TCP, UDP, SCTP))
        self.hide_field(self.transport, 4, ports)

    def hide_ids(self) -> None:
        """Hide what numbers packets and bytes, and the checksums that depend on it."""
        four, six = self.version == 4, self.version == 6
        tcp, udp = self.protocol == TCP, self.protocol == UDP
        self.hide_field(self.network + 4, 2, four)
        self.hide_field(self.network + 10, 2, four)
        self.hide(self.network + 1, six, bits=0xF0)  # the other half is the traffic class
        self.hide_field(self.network + 2, 2, six)
        self.hide_field(self.transport + 4, 8, tcp)
        self.hide_field(self.transport + 16, 2, tcp)
        self.hide_field(self.transport + 6, 2, udp)
        self.hide_field(self.transport + 4, 8, self.protocol == SCTP)
        self.hide_timestamps()
        for offset, tagged in self.tags():
            self.hide(offset, tagged, bits=0xF0)  # the other half is the priority
            self.hide(offset + 1, tagged)

    def tags(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return offsets of VLAN tags behind Ethernet headers, each with the rows that have it."""
        found = []
        offset = np.full_like(self.network, 14)
        going = (self.link == _ETHERNET) & (self.link_size > 14)
        for _ in range(MAX_TAGS):
            going = going & (offset < self.link_size) & np.isin(self.word(offset - 2), VLAN_TAGS)
            if not going.any():
                break
            found.append((offset, going))
            offset = offset + 4
        return found

    def unusual(self) -> np.ndarray:
        """Return bool [n]: rows with headers besides a plain link header and the session's own."""
        usual = np.zeros_like(self.network)
        for link, size in _LINK_SIZES.items():
            usual = np.where(self.link == link, size, usual)
        ethernet = self.link == _ETHERNET
        usual = np.where(ethernet, 14, usual)
        for offset, tagged in self.tags():
            usual = np.where(tagged, offset + 4, usual)
        before = (self.network < _ABSENT) & (self.network > 0)
        around = before & ((self.depth > 0) | (self.network != usual))
        behind = np.where(self.transport < _ABSENT, self.transport, self.payload) - self.network
        long = (self.version == 4) & (behind > 20) | (self.version == 6) & (behind > 40)
        return around | before & (self.network >= self.length) | long & (self.network < _ABSENT)

    def hide_by_name(self, names: tuple[str, ...]) -> None:
        """Hide what lies around and between the session's own headers, packet by packet."""
        for row in np.flatnonzero(self.unusual()) if names else ():
            data = self.tiles[row, : self.length[row]].tobytes()
            places = {
                name: NONE if (place := int(getattr(self, name)[row])) >= _ABSENT else place
                for name in ("network", "transport", "payload")
            }
            fields = header_fields(data, places, int(self.link[row]), int(self.depth[row]))
            for start, end, keep, fill in covers(data, fields, names, int(self.direction[row])):
                self.keep[row, start:end] &= np.frombuffer(keep, np.uint8)
                if self.fill is not None:
                    self.fill[row, start:end] = fill

    def hide_timestamps(self) -> None:
        """Walk the TCP options of all rows in step and hide both time-stamp values."""
        stop = np.minimum(self.options_end(), self.length)
        offset = self.transport + 20
        going = (self.protocol == TCP) & (offset < stop)
        while going.any():
            kind, size = self.byte(offset), self.byte(offset + 1)
            stamped = going & (kind == _TIMESTAMP)
            for index in range(2, 10):
                self.hide(
                    offset + index, stamped & (index < size) & (offset + index < stop), bits=0
                )
            offset = offset + np.where(kind == 1, 1, size)
            going &= (kind != 0) & ((kind == 1) | (size >= 2)) & (offset < stop)

    def options_end(self) -> np.ndarray:
        """Return where the transport header ends: cut or lying options reach to the end."""
        return np.where(self.payload < _ABSENT, self.payload, self.end)

    def hide_ttl(self) -> None:
        """Hide the time to live or hop limit."""
        self.hide(self.network + 8, self.version == 4)
        self.hide(self.network + 7, self.version == 6)

    def hide_window(self) -> None:
        """Hide the TCP window."""
        self.hide_field(self.transport + 14, 2, self.protocol == TCP)

    def hide_options(self) -> None:
        """Hide the TCP options, padding and end mark included."""
        start = np.where(self.protocol == TCP, self.transport + 20, _ABSENT)
        self.hide_range(start, self.options_end())

    def hide_header(self) -> None:
        """Hide all headers and the trailer, then give back what names the protocols."""
        decoded = (self.network < _ABSENT) | (self.transport < _ABSENT)
        start = np.zeros_like(self.length)
        self.hide_range(start, np.where(decoded, self.options_end(), 0))
        self.hide_range(self.end, self.length)
        for offset, where, bits in (
            (self.network, self.version > 0, 0xF0),
            (self.network + 9, self.version == 4, 0xFF),
            (self.network + 6, self.version == 6, 0xFF),
            (self.transport + 13, self.protocol == TCP, 0xFF),
        ):
            (rows,) = np.nonzero(where & (offset < self.length))
            self.keep[rows, offset[rows]] = bits
