"""Masks against a plain reading of the same packets, and read back with dpkt."""

import struct

import dpkt
import numpy as np
import pytest

from xai_traffic.capture.masking import MASKS, apply_mask, hidden, mask_name, parse_mask
from xai_traffic.capture.records import NONE, PACKET
from xai_traffic.capture.tables import packet_table
from xai_traffic.errors import ConfigError

ETHERNET, SLL, SLL2, RAW, NULL = 1, 113, 276, 101, 0
LAYERS = ("all", "network", "transport", "payload")
COMBINATIONS = (
    *MASKS,
    "addresses+ports",
    "addresses+ports+ids+window+options",
    "header+payload",
    "addresses+header",
    "ttl+payload",
)
OPTIONS = (
    b"\x02\x04\x05\xb4"  # maximum segment size
    b"\x04\x02"  # SACK permitted
    b"\x08\x0a\x11\x12\x13\x14\x21\x22\x23\x24"  # time stamps
    b"\x01\x03\x03\x07"  # no operation, window scale
)
LINKS = {
    "ethernet": (ETHERNET, bytes.fromhex("001122334455 66778899aabb"), 0),
    "vlan": (ETHERNET, bytes.fromhex("001122334455 66778899aabb 81000064"), 0),
    "qinq": (ETHERNET, bytes.fromhex("001122334455 66778899aabb 88a80064 81000065"), 0),
    "sll": (SLL, bytes.fromhex("0000 0001 0006 66778899aabb c0de"), 0),
    "sll2": (SLL2, bytes.fromhex("0000 00000003 0001 00 06 66778899aabb c0de"), 1),
    "raw": (RAW, b"", 2),
    "null": (NULL, b"", 3),
}


def ip4(protocol, body, source="0a010203", target="c0a80405", options=b""):
    packet = dpkt.ip.IP(p=protocol, id=0x1234, ttl=57, tos=0x28, opts=options, data=body)
    packet.src, packet.dst = bytes.fromhex(source), bytes.fromhex(target)
    packet.hl = 5 + len(options) // 4
    packet.len = 20 + len(options) + len(body)
    packet.sum = 0xBEEF
    return bytes(packet)


def ip6(protocol, body, source="20010db8" + "11" * 12, target="20010db8" + "22" * 12, extra=b""):
    following = 0 if extra else protocol
    head = struct.pack(">IHBB", 0x6AB12345, len(extra) + len(body), following, 63)
    return head + bytes.fromhex(source) + bytes.fromhex(target) + extra + body


def tcp(payload=b"payload!", options=OPTIONS):
    head = struct.pack(">HHIIBBHHH", 4321, 443, 0x01020304, 0x05060708, 0, 0x5A, 5555, 0xABCD, 9)
    offset = bytes([(5 + len(options) // 4) << 4])
    return head[:12] + offset + head[13:] + options + payload


def udp(payload=b"a datagram"):
    return struct.pack(">HHHH", 5353, 53, 8 + len(payload), 0xFACE) + payload


def framed(link, datagram):
    number, head, form = LINKS[link]
    six = datagram[0] >> 4 == 6
    ethertype = b"\x86\xdd" if six else b"\x08\x00"
    if form == 0:
        return number, head + ethertype + datagram
    if form == 1:
        return number, ethertype + head + datagram
    return number, (struct.pack("<I", 30 if six else 2) if form == 3 else b"") + datagram


def row_of(link, packet, layers="all", direction=0):
    """Return (tile bytes, PACKET row, absolute offsets) of a packet, by the plainest decoding."""
    network = {ETHERNET: 14, SLL: 16, SLL2: 20, RAW: 0, NULL: 4}[link]
    if link == ETHERNET:
        while packet[network - 2 : network] in (b"\x81\x00", b"\x88\xa8"):
            network += 4
    if packet[network] >> 4 == 4:
        transport = network + (packet[network] & 15) * 4
        protocol = packet[network + 9]
        total = struct.unpack_from(">H", packet, network + 2)[0]
        end = min(network + total, len(packet)) if total else len(packet)
    else:
        transport, protocol = network + 40, packet[network + 6]
        while protocol in (0, 43, 60):
            protocol, transport = packet[transport], transport + (packet[transport + 1] + 1) * 8
        end = min(network + 40 + struct.unpack_from(">H", packet, network + 4)[0], len(packet))
    payload = transport
    if protocol == 6:
        payload = transport + (packet[transport + 12] >> 4) * 4
        payload = payload if payload <= end else NONE
    elif protocol == 17:
        payload = transport + 8
    places = {"all": 0, "network": network, "transport": transport, "payload": payload}
    start = places[layers]
    stop = len(packet) if layers == "all" else end
    held = b"" if start == NONE else packet[start:stop][:256]
    row = np.zeros(1, PACKET)
    row["link"], row["protocol"], row["direction"] = link, protocol, direction
    row["length"], row["captured"] = len(held), len(packet)
    row["start"] = 0 if start == NONE else start
    for name, place in (("network", network), ("transport", transport), ("payload", payload)):
        row[name] = NONE if NONE in (place, start) or place < start else place - start
    tile = np.zeros((1, 256), np.uint8)
    tile[0, : len(held)] = np.frombuffer(held, np.uint8)
    absolute = dict(network=network, transport=transport, payload=payload, end=end, start=start)
    return tile, row, absolute | {"protocol": protocol}


def plainly_masked(link, packet, at, direction, mask):
    """Return the whole packet masked and the set of hidden bytes, one byte at a time."""
    out, gone, names = bytearray(packet), set(), parse_mask(mask)
    network, transport, end = at["network"], at["transport"], at["end"]
    six, proto = packet[network] >> 4 == 6, at["protocol"]
    head_end = at["payload"] if at["payload"] != NONE else end

    def zero(start, stop, bits=0):
        for index in range(start, min(stop, len(packet))):
            out[index] &= bits
            gone.add(index)

    def address(start, size, receiver):
        value = 1 + (receiver ^ direction)
        for index in range(start, start + size):
            out[index] = value
            gone.add(index)

    if "addresses" in names:
        if link == ETHERNET:
            for start, receiver in ((0, 1), (6, 0)):
                if not packet[start] & 1:
                    address(start, 6, receiver)
        if link == SLL:
            address(6, 8, 0)
        if link == SLL2:
            address(12, 8, 0)
        for receiver in (0, 1):
            start = network + (8 + 16 * receiver if six else 12 + 4 * receiver)
            value = packet[start : start + (16 if six else 4)]
            group = value[0] == 255 if six else 224 <= value[0] < 240 or value == b"\xff" * 4
            if not group:
                address(start, len(value), receiver)
    if "ports" in names and proto in (6, 17):
        zero(transport, transport + 4)
    if "ids" in names:
        if link == ETHERNET:
            place = 14
            while place < network:
                zero(place, place + 1, 0xF0)
                zero(place + 1, place + 2)
                place += 4
        if six:
            zero(network + 1, network + 2, 0xF0)
            zero(network + 2, network + 4)
        else:
            zero(network + 4, network + 6)
            zero(network + 10, network + 12)
        if proto == 6:
            zero(transport + 4, transport + 12)
            zero(transport + 16, transport + 18)
            place = transport + 20
            while place < head_end and packet[place] != 0:
                if packet[place] == 1:
                    place += 1
                    continue
                if place + 1 >= len(packet) or packet[place + 1] < 2:
                    break
                if packet[place] == 8:
                    zero(place + 2, min(place + min(packet[place + 1], 10), head_end))
                place += packet[place + 1]
        if proto == 17:
            zero(transport + 6, transport + 8)
    if "ttl" in names:
        zero(network + (7 if six else 8), network + (8 if six else 9))
    if proto == 6 and "window" in names:
        zero(transport + 14, transport + 16)
    if proto == 6 and "options" in names:
        zero(transport + 20, head_end)
    if "header" in names:
        kept = {network + (6 if six else 9)} | ({transport + 13} if proto == 6 else set())
        for index in [*range(head_end), *range(end, len(packet))]:
            if index in kept:
                out[index] = packet[index]
                gone.discard(index)
            else:
                out[index] = packet[index] & (0xF0 if index == network else 0)
                gone.add(index)
    if "payload" in names and at["payload"] != NONE:
        zero(at["payload"], end)
    return bytes(out), gone


def check(cases, masks):
    """Hold the masks to the plain ones for (link, packet, direction, layers) cases."""
    read = [row_of(link, packet, layers, direction) for link, packet, direction, layers in cases]
    tiles = np.concatenate([tile for tile, _, _ in read])
    rows = np.concatenate([row for _, row, _ in read])
    before = tiles.copy()
    for mask in masks:
        masked, marks = apply_mask(tiles, rows, mask), hidden(tiles, rows, mask)
        assert (tiles == before).all()
        for index, (link, packet, direction, _) in enumerate(cases):
            at = read[index][2]
            whole, gone = plainly_masked(link, packet, at, direction, mask)
            length, start = int(rows["length"][index]), int(rows["start"][index])
            wanted = whole[start : start + length] + bytes(256 - length)
            assert masked[index].tobytes() == wanted, (mask, cases[index])
            places = {place - start for place in gone if start <= place < start + length}
            assert set(np.flatnonzero(marks[index])) == places, (mask, cases[index])


def masked_packet(link, packet, direction, mask):
    tile, row, _ = row_of(link, packet, direction=direction)
    return apply_mask(tile, row, mask)[0, : row["length"][0]].tobytes()


def made_packets():
    hop_by_hop = b"\x06\x00\x01\x04\x00\x00\x00\x00"
    datagrams = [
        ip4(6, tcp()),
        ip4(6, tcp(options=b"")),
        ip4(6, tcp(b"x" * 400)),
        ip4(17, udp(), target="e00000fb"),
        ip4(17, udp(), target="effffffa"),
        ip4(17, udp(), target="f0000001"),
        ip4(17, udp(), target="ffffffff"),
        ip4(17, udp(), options=b"\x94\x04\x00\x00"),
        ip4(1, b"\x08\x00\x12\x34an echo"),
        ip6(6, tcp()),
        ip6(17, udp(), target="ff02" + "00" * 13 + "fb"),
        ip6(6, tcp(), extra=hop_by_hop),
        ip4(6, tcp(b"", b"\x01\x01\x08\x0a\x11\x12\x13\x14\x21\x22\x23\x24")),
        ip4(6, tcp(b"", b"\x00\x08\x0a\x11\x12\x13\x14\x21\x22\x23\x24\x00")),
        ip4(6, tcp(b"", b"\x08\x06\x11\x12\x13\x14\x01\x00")),
        ip4(6, tcp(b"", b"\x05\x00\x08\x0a\x11\x12\x13\x14\x21\x22\x23\x24")),
    ]
    for link in LINKS:
        for datagram in datagrams:
            yield framed(link, datagram)
            yield framed(link, datagram + b"\0trailer")
    number, packet = framed("ethernet", datagrams[0])
    yield number, packet[:-20]  # options cut by the capture
    yield number, packet[:54]
    yield number, b"\xff" * 6 + packet[6:]  # broadcast frame
    yield number, packet[:16] + b"\0\0" + packet[18:]  # offloaded: no total length


def test_made_packets_are_masked_as_by_hand():
    cases = [
        (link, packet, direction, layers)
        for link, packet in made_packets()
        for direction in (0, 1)
        for layers in LAYERS
    ]
    check(cases, COMBINATIONS)


@pytest.mark.parametrize("link", ["ethernet", "vlan", "qinq"])
@pytest.mark.parametrize("make", [ip4, ip6])
def test_dpkt_finds_the_hidden_fields_gone(link, make):
    number, packet = framed(link, make(6, tcp()))

    def read(mask, direction=0):
        frame = dpkt.ethernet.Ethernet(masked_packet(number, packet, direction, mask))
        return frame, frame.data, frame.data.data

    size = 4 if make is ip4 else 16
    frame, ip, _ = read("addresses")
    assert (frame.src, frame.dst) == (b"\1" * 6, b"\2" * 6)
    assert (ip.src, ip.dst) == (b"\1" * size, b"\2" * size)
    frame, ip, _ = read("addresses", direction=1)
    assert (frame.src, ip.dst) == (b"\2" * 6, b"\1" * size)
    _, ip, segment = read("ports+ids+ttl+window")
    assert (segment.sport, segment.dport, segment.seq, segment.ack) == (0, 0, 0, 0)
    assert (segment.sum, segment.win, segment.flags, segment.urp) == (0, 0, 0x5A, 9)
    assert dict(dpkt.tcp.parse_opts(segment.opts))[8] == bytes(8)
    assert dict(dpkt.tcp.parse_opts(segment.opts))[2] == b"\x05\xb4"
    assert segment.data == b"payload!"
    if make is ip4:
        assert (ip.id, ip.sum, ip.ttl, ip.tos, ip.len) == (0, 0, 0, 0x28, 20 + 40 + 8)
    else:
        assert (ip.flow, ip.hlim, ip.fc, ip.plen) == (0, 0, 0xAB, 40 + 8)
    _, _, segment = read("options")
    assert segment.opts == bytes(20) and segment.data == b"payload!"
    _, ip, segment = read("payload")
    assert segment.data == bytes(8) and segment.opts == OPTIONS
    masked = masked_packet(number, packet, 0, "header")
    assert masked.count(0) == len(masked) - 8 - 3


def test_real_packets_are_masked_as_by_hand(captures):
    files = [
        *sorted((captures / "ustc/session_prefix").glob("*/*.pcap")),
        *sorted((captures / "protocols").glob("*/*.pcap*"))[::12],
    ]
    assert files
    cases = []
    for path in files:
        with open(path, "rb") as file:
            try:
                packets = dpkt.pcap.UniversalReader(file)
            except ValueError:
                continue
            if packets.datalink() != ETHERNET:
                continue
            for number, (_, packet) in enumerate(packets):
                if number == 40:
                    break
                try:
                    frame = dpkt.ethernet.Ethernet(packet)
                    segment = frame.data.data
                    whole = isinstance(frame.data, (dpkt.ip.IP, dpkt.ip6.IP6))
                except (dpkt.UnpackError, AttributeError):
                    continue
                if not whole or not isinstance(segment, (dpkt.tcp.TCP, dpkt.udp.UDP)):
                    continue
                cases.append((ETHERNET, packet, number % 2, LAYERS[len(cases) % 4]))
    assert len(cases) > 500
    check(cases, COMBINATIONS)


def test_forms_of_packet_rows_agree():
    tiles, rows = zip(*(row_of(*made)[:2] for made in made_packets()), strict=True)
    tiles, rows = np.concatenate(tiles), np.concatenate(rows)
    table = packet_table(rows)
    mask = "ids+addresses"
    wanted = apply_mask(tiles, rows, mask)
    assert (apply_mask(tiles, table, mask) == wanted).all()
    assert (apply_mask(tiles, {name: rows[name] for name in PACKET.names}, mask) == wanted).all()
    for index in range(0, len(rows), 40):
        one = apply_mask(tiles[index : index + 1], rows[index], mask)
        assert (one[0] == wanted[index]).all()
    assert apply_mask(tiles[:0], rows[:0], mask).shape == (0, 256)
    with pytest.raises(ValueError, match="packet rows"):
        apply_mask(tiles, rows[:3], mask)


def test_union_of_masks_and_order_of_names():
    tiles, rows = zip(*(row_of(*made)[:2] for made in made_packets()), strict=True)
    tiles, rows = np.concatenate(tiles), np.concatenate(rows)
    for left, right in (("ids", "addresses"), ("header", "addresses"), ("options", "ids")):
        both = hidden(tiles, rows, left) | hidden(tiles, rows, right)
        assert (hidden(tiles, rows, f"{left}+{right}") == both).all()
        one, other = (
            apply_mask(tiles, rows, f"{a}+{b}") for a, b in ((left, right), (right, left))
        )
        assert (one == other).all()
    assert (apply_mask(tiles, rows, "header+addresses") == apply_mask(tiles, rows, "header")).all()
    assert (apply_mask(tiles, rows, "none") == tiles).all()
    assert not hidden(tiles, rows, "none").any()


def test_offsets_beyond_the_tile_and_any_bytes_hide_nothing_outside():
    generator = np.random.default_rng(5)
    rows = np.zeros(4000, PACKET)
    for name in ("network", "transport", "payload", "length"):
        rows[name] = generator.integers(0, 300, len(rows))
        rows[name][generator.random(len(rows)) < 0.2] = NONE
    rows["length"] = np.minimum(rows["length"], 256)
    rows["link"] = generator.choice([0, 1, 101, 113, 276], len(rows))
    rows["protocol"] = generator.choice([1, 6, 17], len(rows))
    tiles = generator.integers(0, 256, (len(rows), 256), np.uint8)
    padding = np.arange(256) >= rows["length"][:, None]
    tiles[padding] = 0
    for mask in COMBINATIONS:
        masked, marks = apply_mask(tiles, rows, mask), hidden(tiles, rows, mask)
        assert not masked[padding].any() and not marks[padding].any()
        assert (masked[~marks] == tiles[~marks]).all()


def test_wide_tiles():
    number, packet = framed("ethernet", ip4(6, tcp(b"x" * 600)))
    tile, row, _ = row_of(number, packet)
    wide = np.zeros((1, 744), np.uint8)
    wide[0, : len(packet)] = np.frombuffer(packet, np.uint8)
    row["length"] = len(packet)
    masked = apply_mask(wide, row, "payload+addresses")
    assert (masked[0, :256] == apply_mask(tile, row, "payload+addresses")[0]).all()
    assert not masked[0, 74:].any()


def test_names():
    assert parse_mask("none") == ()
    assert parse_mask("ports + addresses+ports") == ("addresses", "ports")
    assert mask_name("ports+addresses") == "addresses+ports" and mask_name("none") == "none"
    with pytest.raises(ConfigError, match="'macs'.*addresses, ports, ids, ttl, window, options"):
        parse_mask("ports+macs")
    with pytest.raises(ConfigError, match="alone"):
        parse_mask("none+ports")
    with pytest.raises(ConfigError, match="unknown"):
        parse_mask("")
