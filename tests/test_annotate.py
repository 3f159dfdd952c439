"""Annotated copies: packets unchanged, comments where they belong, all else kept; tshark agrees."""

import gzip
import hashlib
import lzma
import pathlib
import random
import shutil
import struct
import subprocess
import tracemalloc
import zlib

import pytest
import zstandard
from capture_bytes import (
    NANOSECONDS,
    block,
    enhanced,
    ethernet,
    interface,
    ipv4,
    old_packet,
    option,
    pcap,
    section,
    simple,
    udp,
)
from random_captures import damage, random_capture

from xai_traffic.capture import annotate as module
from xai_traffic.capture.annotate import annotate
from xai_traffic.capture.core_numpy.formats import MAX_PACKET_BLOCK, RecordReader
from xai_traffic.capture.pcapng_blocks import NO_TIME
from xai_traffic.capture.reader import open_chunks
from xai_traffic.capture.records import FAULTS
from xai_traffic.errors import CaptureError

CORPUS = pathlib.Path(__file__).parent / "fuzz" / "kept" / "corpus"
OPTIONS = 16
"""Bytes before the capture of a fuzzed input."""
PACKETS = [ethernet(ipv4(udp(data=bytes([n]) * (30 + n)), protocol=17)) for n in range(5)]


class Every(dict):
    """A comment on every packet."""

    def get(self, number, default=None):
        return f"note on {number}"


def read(path):
    """Return records, fault code and damage of a capture, by the plain core."""
    reader, records, damage = RecordReader(), [], None
    try:
        for chunk in open_chunks(path):
            records += reader.feed(chunk)
    except CaptureError as error:
        damage = error
    reader.finish()
    return records, reader.fault, damage


def digest(records):
    return hashlib.sha256(b"".join(record.data for record in records)).hexdigest()


def blocks_of(data, order="<"):
    """Return (type, block) of each block of one byte order."""
    found, at = [], 0
    while at < len(data):
        kind, total = struct.unpack_from(order + "II", data, at)
        assert struct.unpack_from(order + "I", data, at + total - 4)[0] == total
        found.append((kind, data[at : at + total]))
        at += total
    return found


def copied(tmp_path, data, comments=None):
    source, out = tmp_path / "in", tmp_path / "out.pcapng"
    source.write_bytes(data)
    return annotate(source, out, Every() if comments is None else comments), out


@pytest.fixture
def tshark():
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")

    def fields(path, *names, options=()):
        asked = [part for name in names for part in ("-e", name)]
        command = ["tshark", "-n", "-r", path, *options, "-T", "fields", *asked]
        done = subprocess.run(command, capture_output=True, check=False)
        return [line.split("\t") for line in done.stdout.decode().splitlines()]

    return fields


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (NANOSECONDS, 1)])
def test_pcap_of_any_order_and_resolution(tmp_path, tshark, order, magic, unit):
    records = [(100 + n, 7 + n, data, len(data) + n) for n, data in enumerate(PACKETS)]
    said, out = copied(tmp_path, pcap(records, order=order, magic=magic), {2: "two", 5: "fünf"})
    assert said == (5, 2, 0, None)
    (before, *_), (after, fault, _) = read(tmp_path / "in"), read(out)
    assert before == after and not fault[0]
    assert [record.time_ns for record in after] == [
        (100 + n) * 10**9 + (7 + n) * unit for n in range(5)
    ]
    names = "frame.len", "frame.cap_len", "frame.time_epoch"
    assert tshark(out, *names) == tshark(tmp_path / "in", *names)
    assert tshark(out, "frame.comment") == [[""], ["two"], [""], [""], ["fünf"]]


def test_checksum_length_of_pcap_is_kept(tmp_path, tshark):
    frame = PACKETS[0] + struct.pack("<I", zlib.crc32(PACKETS[0]))
    _, out = copied(tmp_path, pcap([frame], link=1 | 0x24000000))
    assert tshark(out, "eth.fcs") == tshark(tmp_path / "in", "eth.fcs") != [[""]]
    kinds = blocks_of(out.read_bytes())
    assert option(2, struct.pack("<I", 4 << 5)) in kinds[2][1]


@pytest.mark.parametrize("order", "<>")
def test_pcapng_keeps_every_other_block(tmp_path, tshark, order):
    resolved = struct.pack(order + "HH", 1, 12) + b"\x0a\0\0\2evil.ex\0" + bytes(4)
    kept = [
        interface(option(2, b"eth0", order=order), bytes(4), order=order),
        interface(option(9, b"\x09", order=order), bytes(4), link=1, snaplen=96, order=order),
        block(4, resolved, order=order),
        block(5, struct.pack(order + "III", 0, 1, 2), order=order),
        block(10, struct.pack(order + "II", 0x544C534B, 4) + b"keys", order=order),
        block(0x40000BAD, struct.pack(order + "I", 32473) + b"own", order=order),
        block(0x0000F00D, b"unknown" * 99, order=order),
    ]
    packets = [
        enhanced(PACKETS[0], number=1, units=10**18, order=order),
        enhanced(PACKETS[1], number=0, units=10**15, order=order),
    ]
    data = section(order=order) + b"".join(
        [*kept[:3], packets[0], *kept[3:5], packets[1], *kept[5:]]
    )
    said, out = copied(tmp_path, data, {2: "second"})
    assert said == (2, 1, 0, None)
    expected = [piece for _, piece in blocks_of(data, order)]
    found = [piece for _, piece in blocks_of(out.read_bytes(), order)]
    assert len(found) == len(expected)
    assert [own for own, other in zip(found, expected, strict=True) if own != other] == [found[7]]
    assert read(out)[0] == read(tmp_path / "in")[0]
    names = "frame.time_epoch", "frame.interface_id", "frame.interface_name", "ip.dst_host"
    assert tshark(out, *names, options=["-N", "N"]) == tshark(
        tmp_path / "in", *names, options=["-N", "N"]
    )


def test_sections_of_both_orders_follow_one_another(tmp_path):
    data = (
        section() + interface() + enhanced(PACKETS[0])
        + section(order=">") + interface(order=">", link=101) + enhanced(PACKETS[1], order=">")
    )  # fmt: skip
    said, out = copied(tmp_path, data)
    assert said == (2, 2, 0, None)
    assert read(out)[0] == read(tmp_path / "in")[0]


def test_options_and_comments_of_a_packet_stay(tmp_path, tshark):
    flags = option(2, b"\1\0\0\0")
    for end in (bytes(4), b""):
        body = struct.pack("<IIIII", 0, 0, 0, 53, 53) + bytes(53) + bytes(3)
        theirs = option(1, b"seen by an analyst") + flags + option(1, b"and by another")
        data = section() + interface() + block(6, body + theirs + end)
        _, out = copied(tmp_path, data, {1: "ours"})
        packet = blocks_of(out.read_bytes())[2][1]
        assert packet[8:-4] == body + theirs + option(1, b"ours") + bytes(4)
        assert tshark(out, "frame.comment") == [["seen by an analyst,and by another,ours"]]


def test_damaged_options_stay_behind_the_comment(tmp_path):
    body = struct.pack("<IIIII", 0, 0, 0, 4, 4) + b"data"
    damage = struct.pack("<HH", 1, 60_000) + b"short"
    data = section() + interface() + block(6, body + option(1, b"well") + damage)
    _, out = copied(tmp_path, data, {1: "ours"})
    packet = blocks_of(out.read_bytes())[2][1]
    assert packet[8:-4] == body + option(1, b"well") + option(1, b"ours") + damage + bytes(3)


def test_packets_without_options_become_enhanced_ones(tmp_path, tshark):
    data = section() + interface(snaplen=40) + simple(PACKETS[0][:40], wire=70) + simple(b"ab")
    said, out = copied(tmp_path, data, {1: "one"})
    assert said == (2, 1, 1, None)
    kinds = [kind for kind, _ in blocks_of(out.read_bytes())]
    assert kinds[2:] == [6, 3]
    before, after = read(tmp_path / "in")[0], read(out)[0]
    assert before == after
    assert tshark(out, "frame.len", "frame.cap_len", "frame.comment")[0] == [
        "70", "40", f"one,{NO_TIME}",
    ]  # fmt: skip


def test_obsolete_packets_keep_their_type(tmp_path, tshark):
    data = section() + interface() + old_packet(PACKETS[0], units=3_000_000)
    _, out = copied(tmp_path, data, {1: "old"})
    assert [kind for kind, _ in blocks_of(out.read_bytes())][2] == 2
    assert tshark(out, "frame.time_epoch", "frame.comment") == [["3.000000000", "old"]]


def test_a_section_of_known_length_tells_none_any_more(tmp_path):
    inner = interface() + enhanced(PACKETS[0])
    head = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, len(inner)))
    _, out = copied(tmp_path, head + inner)
    assert out.read_bytes()[16:24] == b"\xff" * 8


def test_control_characters_and_overlong_comments(tmp_path, tshark):
    hostile = "\x1b[31mred\nline\u202e"
    _, out = copied(tmp_path, pcap(PACKETS[:2]), {1: hostile, 2: "é" * 40_000})
    first, second = tshark(out, "frame.comment")
    assert "\x1b" not in out.read_bytes().decode("latin-1")
    assert b"\\x1b[31mred\\nline\\u202e" in out.read_bytes() and "red" in first[0]
    assert second[0] == "é" * 30_000


def test_the_longest_packet_still_fits_with_a_comment(tmp_path):
    whole = bytes(262_144)
    said, out = copied(tmp_path, pcap([whole, b"x"]), {1: "é" * 40_000, 2: "small"})
    assert said.commented == 2
    assert [len(record.data) for record in read(out)[0]] == [len(whole), 1]
    full = enhanced(whole) + enhanced(b"end")
    filled = block(6, enhanced(whole)[8:-4] + option(5, bytes(65_490)))
    said, out = copied(tmp_path, section() + interface() + filled + full)
    assert len(filled) < MAX_PACKET_BLOCK and said == (3, 2, 0, None)
    assert len(read(out)[0]) == 3


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, zstandard.compress])
def test_compressed_captures(tmp_path, pack):
    said, out = copied(tmp_path, pack(pcap(PACKETS, order=">")), {3: "three"})
    assert said == (5, 1, 0, None)
    assert [record.data for record in read(out)[0]] == PACKETS


@pytest.mark.parametrize("cut", range(1, 70, 5))
def test_what_comes_before_a_cut_is_kept(tmp_path, cut):
    for data in (
        pcap(PACKETS),
        section() + interface() + b"".join(map(enhanced, PACKETS)),
        section() + interface() + enhanced(PACKETS[0]) + block(0xF00D, bytes(80)),
    ):
        said, out = copied(tmp_path, data[:-cut])
        records, fault, _ = read(tmp_path / "in")
        assert bool(said.fault) == bool(fault[0])
        if said.fault:
            assert "cut short" in said.fault and f"byte offset {fault[1]}" in said.fault
        after, fault, _ = read(out)
        assert after == records and not fault[0]


def test_a_damaged_compressed_file_gives_what_it_can(tmp_path):
    data = gzip.compress(pcap(PACKETS * 200))
    said, out = copied(tmp_path, data[:-900])
    assert "damaged" in said.fault and said.packets > 100
    assert len(read(out)[0]) == said.packets


def test_what_is_no_capture_is_refused(tmp_path):
    for data in (b"", b"\xd4\xc3", b"no capture at all", pcap([])[:20], section()[:20]):
        with pytest.raises(CaptureError, match="in"):
            copied(tmp_path, data)
    with pytest.raises(CaptureError, match="no such file"):
        annotate(tmp_path / "nowhere.pcap", tmp_path / "out", {})


def test_faults_are_those_of_the_reader(tmp_path):
    rng = random.Random(0)
    cases = [path.read_bytes()[OPTIONS:] for path in sorted(CORPUS.iterdir())]
    cases += [damage(rng, random_capture(rng)) for _ in range(300)]
    cases.append(section() + interface() + enhanced(b"data") + section()[:8] + bytes(20))
    faults, source, out = set(), tmp_path / "in.pcap", tmp_path / "out.pcapng"
    for case in cases:
        source.write_bytes(case)
        records, fault, damaged = read(source)
        try:
            said = annotate(source, out, Every())
        except CaptureError:
            assert not records and (fault[0] or damaged)
            continue
        faults.add(fault[0])
        assert said.packets == len(records)
        assert bool(said.fault) == bool(fault[0] or damaged)
        if said.fault and not damaged:
            assert f", packet {fault[2]}, byte offset {fault[1]}: " in said.fault
        after, left, _ = read(out)
        assert digest(after) == digest(records) and not left[0]
    assert faults == {0, *range(2, len(FAULTS) - 1)}  # a million interfaces are another test's


def test_memory_does_not_grow_with_the_capture(tmp_path):
    def peak(times):
        path = tmp_path / f"{times}.pcap"
        path.write_bytes(pcap([bytes(1400)] * times))
        tracemalloc.start()
        annotate(path, tmp_path / "out", {})
        held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return held

    small, large = peak(1_000), peak(6_000)
    assert large < small + 100_000 and large < 4 * module.CHUNK


def test_real_captures_keep_their_bytes(captures, tmp_path):
    files = [
        *sorted((captures / "protocols").glob("*/*.pcap*"))[::12],
        *sorted(path for path in (captures / "hostile").rglob("*") if path.is_file())[::6],
    ]
    out, seen = tmp_path / "out.pcapng", 0
    for source in files:
        try:
            said = annotate(source, out, Every())
        except CaptureError:
            continue
        before, after = read(source)[0], read(out)[0]
        assert digest(before) == digest(after), source
        assert [record[:3] for record in before] == [record[:3] for record in after], source
        seen += said.packets
    assert seen > 5_000


def test_tshark_reads_the_same_packets(captures, tmp_path, tshark):
    hostile = [
        path
        for path in (captures / "hostile").rglob("*")
        if path.is_file() and path.read_bytes().startswith(section()[:4])
    ]
    names = "frame.len", "frame.cap_len", "frame.time_epoch", "frame.interface_id"
    for source in sorted(hostile, key=lambda path: path.stat().st_size)[::8]:
        out = tmp_path / "out.pcapng"
        try:
            annotate(source, out, Every())
        except CaptureError:
            continue
        before = tshark(source, *names)
        after = tshark(out, *names, "frame.number", "frame.comment")
        assert [line[:4] for line in after] == before, source
        for *_, number, comment in after:
            assert f"note on {number}" in comment, source
