"""Lengths and checksums of changed packets, held to dpkt's sums over whole packets."""

import dataclasses
import struct

import dpkt
import numpy as np
import pytest
from capture_bytes import ethernet, ipv4, ipv6, pcap, tcp, udp
from layered_examples import examples
from layered_packets import Piece, to_row
from oracle_dpkt import packets_of
from oracle_sums import summed, word_sum

from xai_traffic.capture.fields import dissect
from xai_traffic.capture.masking import apply_mask, hidden
from xai_traffic.capture.records import NONE
from xai_traffic.capture.repair import plan_repair, repair
from xai_traffic.capture.sessions import packet_rows_of, read_capture

RNG = np.random.default_rng(7)


def icmp(kind: int, data: bytes) -> bytes:
    return struct.pack(">BBHI", kind, 0, 0, 77) + data


def datagrams(count: int):
    """Yield (datagram with right checksums, bytes of link header as `ethernet` takes them)."""
    for number in range(count):
        size = int(RNG.choice([0, 1, 7, 60, 181, 400, 777]))
        data = RNG.bytes(size)
        kind = number % 6
        if kind in (0, 1):
            inner = tcp(1000 + number, 80, data=data, words=int(RNG.choice([5, 8])), flags=0x18)
        elif kind in (2, 3):
            inner = udp(1000 + number, 999, data=data)
        else:
            inner = icmp(8 if kind == 4 else 128, data)
        protocol = (6, 6, 17, 17, 1, 58)[kind]
        four = kind in (0, 2, 4)
        wrap = ipv4 if four else ipv6
        options = {"words": int(RNG.choice([5, 7]))} if four else {}
        yield summed(wrap(inner, protocol=protocol, **options)), 0x0800 if four else 0x86DD


def read(folder, frames, **options):
    path = folder / "a.pcap"
    path.write_bytes(pcap(frames))
    sessions = read_capture(path, filter="ip or ip6", **options)
    return sessions.tiles, packet_rows_of(sessions.packets)


def changed_at_random(tiles, rows, share=0.3):
    """Return tiles of which some captured bytes are random, and the number of packets changed."""
    chosen = RNG.random(tiles.shape) < share * RNG.random((len(tiles), 1))
    chosen &= np.arange(tiles.shape[1]) < rows["length"][:, None].astype(int)
    return np.where(chosen, RNG.integers(0, 256, tiles.shape, dtype=np.uint8), tiles)


def test_random_changes_give_dpkts_sums(tmp_path):
    tags = ((), (0x8100,), (0x88A8, 0x8100))
    frames, begins = [], []
    for number, (datagram, kind) in enumerate(datagrams(120)):
        own = tags[number // 6 % 3]
        frames.append(ethernet(datagram, kind=kind, tags=own))
        begins.append(14 + 4 * len(own))
    tiles, rows = read(tmp_path, frames)
    assert len(tiles) == len(frames)
    plan = plan_repair(tiles, rows)
    for _ in range(5):
        found = repair(plan, changed_at_random(tiles, rows))
        assert (found != tiles).any()
        for tile, row in zip(found, rows, strict=True):
            number = row["frame"] - 1
            whole = tile[: row["length"]].tobytes() + frames[number][row["length"] :]
            datagram = whole[begins[number] :]
            assert summed(datagram) == datagram
    np.testing.assert_array_equal(repair(plan, tiles), tiles)


def errors_of(pieces, data: bytes) -> list[int]:
    """Return by how much each checksum of a packet of named pieces is wrong, mod 65535."""
    names, starts, at = [piece.name.partition("#")[0] for piece in pieces], [], 0
    for piece in pieces:
        starts.append(at)
        at += len(piece.data)
    pseudo, begun, found = b"", 0, []
    for name, at in zip(names, starts, strict=True):
        if name == "ip.version":
            found.append(word_sum(data[at : at + 20]))
            pseudo = data[at + 12 : at + 20]
        elif name == "ipv6.version":
            pseudo = data[at + 8 : at + 40]
        elif name == "gre.flags_and_version":
            begun = at
        elif name == "gre.checksum":
            found.append(word_sum(data[begun:]))
        elif name in ("tcp.srcport", "udp.srcport"):
            found.append(word_sum(pseudo + struct.pack(">H", len(data) - at) + data[at:]))
    return [error % 0xFFFF for error in found]


def with_gre_checksum():
    link, pieces = examples()["gre without key"]
    place = [piece.name for piece in pieces].index("gre.flags_and_version")
    flags = dataclasses.replace(pieces[place], data=b"\x80\0")
    longer = [piece.name for piece in pieces].index("ip.len#1")
    (total,) = struct.unpack(">H", pieces[longer].data)
    pieces[longer] = dataclasses.replace(pieces[longer], data=struct.pack(">H", total + 4))
    extra = [Piece("gre.checksum", b"\x12\x34"), Piece("gre.offset", b"\0\0")]
    return link, [*pieces[:place], flags, pieces[place + 1], *extra, *pieces[place + 2 :]]


def headers(tile, row):
    return [field for field in dissect(tile, row) if field.end <= row["payload"]]


CASES = {**examples(), "gre checksum": with_gre_checksum()}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_around_and_within_stays_wrong_by_the_same_amount(name):
    link, pieces = CASES[name]
    tile, row = to_row(link, pieces)
    size = int(row["length"][0])
    before = errors_of(pieces, tile[0, :size].tobytes())
    plan = plan_repair(tile, row)
    for _ in range(20):
        after = repair(plan, changed_at_random(tile, row))[0]
        assert errors_of(pieces, after[:size].tobytes()) == before
        assert headers(after, row[0]) == headers(tile[0], row[0])
        assert not after[size:].any()


@pytest.mark.parametrize("name", ["vxlan", "gtp", "6in4", "gre checksum", "three deep", "teredo"])
@pytest.mark.parametrize("grown", [-5, 7])
def test_tunnels_grow_with_what_they_carry(name, grown):
    link, pieces = CASES[name]
    tile, row = to_row(link, pieces)
    size = int(row["length"][0])
    changed = tile.copy()
    changed[0, size : size + grown] = RNG.integers(0, 256, max(grown, 0))
    changed[0, size + grown :] = 0
    after = repair(plan_repair(tile, row), changed, np.array([grown]))[0]
    before = errors_of(pieces, tile[0, :size].tobytes())
    assert errors_of(pieces, after[: size + grown].tobytes()) == before
    at = 0
    for piece in pieces:
        if piece.name.partition("#")[0] in ("ip.len", "ipv6.plen", "udp.length"):
            (said,) = struct.unpack(">H", after[at : at + 2].tobytes())
            assert said == struct.unpack(">H", piece.data)[0] + grown
        at += len(piece.data)


@pytest.mark.parametrize("layers", ["network", "transport", "payload"])
def test_tiles_that_begin_further_in_keep_their_sums(tmp_path, layers):
    frames = [ethernet(datagram, kind=kind) for datagram, kind in datagrams(36)]
    tiles, rows = read(tmp_path, frames, layers=layers)
    found = repair(plan_repair(tiles, rows), changed_at_random(tiles, rows))
    for tile, row in zip(found, rows, strict=True):
        frame, start, size = frames[row["frame"] - 1], int(row["start"]), int(row["length"])
        datagram = (frame[:start] + tile[:size].tobytes() + frame[start + size :])[14:]
        if layers != "payload":  # without headers the tile has no checksum to repair
            assert summed(datagram) == datagram
    assert (found != tiles).any()


def test_udp_without_checksum_has_none_and_a_sum_of_zero_is_sent_as_65535(tmp_path):
    silent = ipv4(udp(data=b"abcd"), protocol=17)
    silent = silent[:10] + summed(silent)[10:12] + silent[12:]
    tiles, rows = read(tmp_path, [ethernet(silent), ethernet(summed(ipv4(udp(), protocol=17)))])
    changed = changed_at_random(tiles[:1], rows[:1], 1.0)
    assert not repair(plan_repair(tiles[:1], rows[:1]), changed)[0, 40:42].any()
    # Source ports from 0 to 65534: one of them makes the sum zero.
    base = ethernet(summed(ipv4(udp(data=b"abcd"), protocol=17)))
    tiles, rows = read(tmp_path, [base])
    many = np.repeat(tiles, 65535, 0)
    ports = np.arange(65535)
    many[:, 34], many[:, 35] = ports >> 8, ports & 255
    found = repair(plan_repair(tiles, rows).take(np.zeros(65535, int)), many)
    sums = found[:, 40].astype(int) << 8 | found[:, 41]
    assert (sums == 0).sum() == 0 and (sums == 0xFFFF).sum() == 1
    (row,) = np.flatnonzero(sums == 0xFFFF)
    datagram = found[row, 14 : rows["length"][0]].tobytes()
    assert summed(datagram) == datagram


def test_replaced_checksums_and_structure_come_back(tmp_path):
    frame = ethernet(summed(ipv4(tcp(data=b"hello", words=6), words=6)))
    tiles, rows = read(tmp_path, [frame])
    plan = plan_repair(tiles, rows)
    for place in (12, 14, 16, 20, 23, 24, 50, 54):  # type, IP, its checksum, data offset, TCP's
        changed = tiles.copy()
        changed[0, place] ^= 0x30
        np.testing.assert_array_equal(repair(plan, changed), tiles)


def test_fragments_keep_their_place_and_the_first_its_checksum(tmp_path):
    whole = summed(ipv4(udp(data=RNG.bytes(600)), protocol=17))
    head, tail = whole[20:420], whole[420:]
    parts = [
        ethernet(summed_header(ipv4(head, protocol=17, fragment=0x2000, number=9))),
        ethernet(summed_header(ipv4(tail, protocol=17, fragment=50, number=9))),
    ]
    tiles, rows = read(tmp_path, parts)
    assert rows["transport"].tolist() == [34, NONE]
    changed = tiles.copy()
    changed[0, 100:150] = 7
    changed[:, 20:22] = 0  # fragment words
    changed[1, 26:34] = 9  # addresses of the later one
    found = repair(plan_repair(tiles, rows), changed)
    np.testing.assert_array_equal(found[:, 20:22] & 0x3F, tiles[:, 20:22] & 0x3F)
    put_together = found[0, 34:].tobytes() + parts[0][256:] + tail
    datagram = whole[:20] + put_together
    assert summed(datagram)[20:] == datagram[20:]
    for tile in found:
        assert word_sum(tile[14:34].tobytes()) == 0xFFFF
    np.testing.assert_array_equal(found[1, 34:], tiles[1, 34:])


def summed_header(datagram):
    total = ~word_sum(datagram[:20]) & 0xFFFF
    return datagram[:10] + struct.pack(">H", total) + datagram[12:]


def test_what_a_mask_hides_stays_hidden(tmp_path):
    frames = [ethernet(datagram, kind=kind) for datagram, kind in datagrams(24)]
    tiles, rows = read(tmp_path, frames)
    for mask in ("ids", "addresses+ports", "header", "payload", "addresses+ids"):
        masked = apply_mask(tiles, rows, mask)
        veiled = hidden(tiles, rows, mask)
        found = repair(plan_repair(masked, rows, mask), changed_at_random(masked, rows))
        np.testing.assert_array_equal(found[veiled], masked[veiled])
        assert (found != masked).any()
    # With addresses hidden the sums are those of the packets as captured, and stay it.
    masked = apply_mask(tiles, rows, "addresses")
    changed = changed_at_random(tiles, rows)
    changed = np.where(hidden(tiles, rows, "addresses"), tiles, changed)
    plain = repair(plan_repair(tiles, rows), changed)
    found = repair(plan_repair(masked, rows, "addresses"), apply_mask(changed, rows, "addresses"))
    kept = ~hidden(tiles, rows, "addresses")
    np.testing.assert_array_equal(found[kept], plain[kept])


def test_packets_that_grow_or_shrink_have_new_lengths_and_sums(tmp_path):
    frames = [ethernet(d, kind=kind) for d, kind in datagrams(60) if 60 < len(d) < 200]
    tiles, rows = read(tmp_path, frames)
    plan = plan_repair(tiles, rows)
    room = rows["captured"].astype(int) - rows["payload"]
    grown = RNG.integers(-np.minimum(room, 30), 40)
    changed = tiles.copy()
    for tile, row, more in zip(changed, rows, grown, strict=True):
        end = int(row["length"]) + more
        if more > 0:
            tile[row["length"] : end] = RNG.integers(0, 256, more)
        tile[end:] = 0
    found = repair(plan, changed, grown)
    for tile, row, more in zip(found, rows, grown, strict=True):
        datagram = tile[14 : int(row["length"]) + more].tobytes()
        (said,) = struct.unpack(">H", datagram[2:4] if datagram[0] >> 4 == 4 else datagram[4:6])
        assert said + (0 if datagram[0] >> 4 == 4 else 40) == len(datagram)
        assert summed(datagram) == datagram


def test_only_whole_packets_grow(tmp_path):
    tiles, rows = read(tmp_path, [ethernet(summed(ipv4(tcp(data=bytes(400)))))])
    with pytest.raises(ValueError, match="holds whole"):
        repair(plan_repair(tiles, rows), tiles, np.array([2]))
    with pytest.raises(ValueError, match="must fit"):
        repair(plan_repair(tiles, rows), tiles[:, :100])
    with pytest.raises(ValueError, match="packet rows"):
        plan_repair(tiles, rows[:0])


@pytest.mark.parametrize("folder", ["protocols", "malware"])
def test_real_packets_stay_valid(captures, folder):
    paths = sorted((captures / folder).rglob("*.pcap"))[::7]
    checked = 0
    for path in paths:
        if path.stat().st_size > 400_000:
            continue
        whole = [packet for _, packet, link in packets_of(path.read_bytes()) if link == 1]
        sessions = read_capture(path, filter="ip or ip6", tunnels="outer")
        rows = packet_rows_of(sessions.packets)[:200]
        tiles = np.asarray(sessions.tiles)[:200]
        if not len(rows) or (rows["link"] != 1).any():
            continue
        plan = plan_repair(tiles, rows)
        found = repair(plan, changed_at_random(tiles, rows))
        for tile, row in zip(found, rows, strict=True):
            packet, begin = whole[row["frame"] - 1], int(row["network"])
            if row["captured"] != row["wire"] or row["flags"] & 8:
                continue
            size = 16 if packet[begin] >> 4 == 4 else 18
            (said,) = struct.unpack_from(">H", packet, size)
            end = begin + said + (0 if size == 16 else 40)
            try:
                right = summed(packet[begin:end]) == packet[begin:end]
            except (dpkt.UnpackError, AttributeError):
                continue
            if right:  # else it was wrong as captured, or is not dpkt's
                datagram = (tile[: row["length"]].tobytes() + packet[row["length"] :])[begin:end]
                assert summed(datagram) == datagram, (path, row["frame"])
                checked += 1
    assert checked > 300
