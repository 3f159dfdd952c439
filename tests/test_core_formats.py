"""What both cores read from pcap and pcapng by hand: times, interfaces, faults where they are."""

import struct

import capture_bytes as made
import numpy as np
import pytest
from both_cores import CORES, check_invariants, run

from xai_traffic.capture.records import FAULTS, MAX_RECORD

FRAME = made.ethernet(made.ipv4(made.tcp(data=b"hello")))
GO = made.section() + made.interface()
ONE = made.pcap([FRAME])
NOT_A_CAPTURE, CUT_SHORT, TOO_LONG, LENGTH, INTERFACE, BEYOND, ORDER = range(1, 8)


@pytest.fixture(params=CORES)
def core(request):
    return request.param


def times(core, data) -> list[int]:
    result = run(core, data)
    check_invariants(result)
    assert result.fault == (0, 0, 0)
    return result.table()["time_ns"].tolist()


@pytest.mark.parametrize("order", "<>")
def test_pcap_times_and_lengths(core, order):
    records = [(1_700_000_000, 123_456, FRAME, 1514), (2**32 - 1, 999_999_999, FRAME)]
    micro = made.pcap(records, order=order, link=0x1C00_0001)  # the upper bits are not the type
    nano = made.pcap(records, order=order, magic=made.NANOSECONDS)
    last = (2**32 - 1) * 10**9
    assert times(core, micro) == [1_700_000_000_123_456_000, last + 999_999_999_000]
    assert times(core, nano) == [1_700_000_000_000_123_456, last + 999_999_999]
    rows = run(core, micro).table()
    assert rows["wire"].tolist() == [1514, len(FRAME)]
    assert rows["captured"].tolist() == [len(FRAME)] * 2
    assert rows["frame"].tolist() == [1, 2] and rows["link"].tolist() == [1, 1]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "code", [0, 3, 6, 9, 10, 18, 19, 20, 28, 29, 127, 128, 130, 158, 160, 191, 192, 221, 222, 255]
)
def test_pcapng_resolutions_and_offsets(core, code, order):
    per_second = 2 ** (code & 127) if code & 128 else 10**code
    units = [0, 1, 123_456_789, 2**63 + 12_345, 2**64 - 1]
    for offset in (0, -7, 2**63 - 1):
        options = [
            made.option(2, b"eth0", order=order),
            made.option(9, bytes([code]), order=order),
            made.option(14, struct.pack(order + "q", offset), order=order),
            made.option(0, b"", order=order),
            made.option(9, b"\0", order=order),  # behind the end of the options
        ]
        data = made.section(order=order) + made.interface(*options, order=order)
        data += b"".join(made.enhanced(FRAME, units=unit, order=order) for unit in units)
        exact = [unit * 10**9 // per_second + offset * 10**9 for unit in units]
        wrapped = [(time + 2**63) % 2**64 - 2**63 for time in exact]
        assert times(core, data) == wrapped


def test_pcapng_sections_interfaces_and_kinds_of_packets(core):
    data = (
        made.section(order=">")
        + made.interface(made.option(9, b"\x09", order=">"), link=101, order=">")
        + made.interface(order=">")
        + made.block(0xBAD, bytes(100_000), order=">")
        + made.enhanced(FRAME, number=1, units=5, order=">", wire=9000)
        + made.enhanced(FRAME[14:], number=0, units=5, order=">")
        + made.section()
        + made.interface(snaplen=60)
        + made.simple(FRAME + bytes(40))
        + made.simple(FRAME, wire=3000)
        + made.old_packet(FRAME, units=2**33)
        + made.block(1, struct.pack("<HHI", 228, 0, 0) + bytes(70_000))
        + made.enhanced(FRAME[14:], number=1)
    )
    result = run(core, data)
    check_invariants(result)
    rows = result.table()
    padded = len(FRAME) + -len(FRAME) % 4
    assert result.fault == (0, 0, 0) and result.packets == 6
    assert rows["link"].tolist() == [1, 101, 1, 1, 1, 228]
    assert rows["time_ns"].tolist() == [5000, 5, 0, 0, 2**33 * 1000, 0]
    assert rows["wire"].tolist() == [9000, 45, len(FRAME) + 40, 3000, len(FRAME), 45]
    assert rows["captured"].tolist() == [len(FRAME), 45, 60, padded, len(FRAME), 45]
    assert len(result.sessions()) == 1


def test_broken_interface_options_keep_what_was_read(core):
    nine = made.option(9, b"\x09")
    for broken in (
        struct.pack("<HH", 14, 200),
        struct.pack("<HH", 9, 0),
        struct.pack("<HHI", 14, 4, 1),
        b"\1\1",
    ):
        data = made.section() + made.interface(nine, broken) + made.enhanced(FRAME, units=7)
        assert times(core, data) == [7]


def test_options_behind_64_kib_are_not_read(core):
    filler = made.option(1, bytes(65_528 - 4 - 8))
    near = made.interface(filler, made.option(9, b"\x09"), made.option(9, b"\0"))
    far = made.interface(filler, made.option(1, b""), made.option(9, b"\x09"))
    for interface, wanted in ((near, 7), (far, 7000)):
        assert times(core, made.section() + interface + made.enhanced(FRAME, units=7)) == [wanted]


FAULTY = {
    "empty": (b"", (NOT_A_CAPTURE, 0, 1)),
    "three bytes": (ONE[:3], (NOT_A_CAPTURE, 0, 1)),
    "text": (b"GET / HTTP/1.1", (NOT_A_CAPTURE, 0, 1)),
    "pcap header cut": (ONE[:23], (CUT_SHORT, 0, 1)),
    "pcap header alone": (ONE[:24], (0, 0, 0)),
    "record header cut": (ONE + b"\0" * 15, (CUT_SHORT, len(ONE), 2)),
    "record cut": (ONE[:-1], (CUT_SHORT, 24, 1)),
    "record too long": (
        ONE + struct.pack("<IIII", 0, 0, MAX_RECORD + 1, 60),
        (TOO_LONG, len(ONE), 2),
    ),
    "longest record cut": (
        ONE + struct.pack("<IIII", 0, 0, MAX_RECORD, 60),
        (CUT_SHORT, len(ONE), 2),
    ),
    "section cut": (GO[:11], (CUT_SHORT, 0, 1)),
    "section of no byte order": (GO[:8] + b"\1\2\3\4" + GO[12:], (ORDER, 0, 1)),
    "section too short": (made.block(0x0A0D0D0A, GO[8:20]), (LENGTH, 0, 1)),
    "second section of no byte order": (
        GO + made.enhanced(FRAME) + made.block(0x0A0D0D0A, bytes(16)),
        (ORDER, len(GO) + len(made.enhanced(FRAME)), 2),
    ),
    "interface too short": (GO + made.block(1, bytes(4)), (LENGTH, len(GO), 1)),
    "block length 8": (GO + struct.pack("<II", 5, 8), (LENGTH, len(GO), 1)),
    "block length odd": (GO + struct.pack("<II", 5, 14), (LENGTH, len(GO), 1)),
    "block trailer": (GO + made.block(5, bytes(8), trailer=16), (LENGTH, len(GO), 1)),
    "block cut": (GO + made.block(5, bytes(8))[:-1], (CUT_SHORT, len(GO), 1)),
    "packet trailer": (GO + made.enhanced(FRAME, trailer=0), (LENGTH, len(GO), 1)),
    "packet cut": (GO + made.enhanced(FRAME)[:-1], (CUT_SHORT, len(GO), 1)),
    "packet block too short": (GO + made.block(6, bytes(16)), (LENGTH, len(GO), 1)),
    "old packet block too short": (GO + made.block(2, bytes(16)), (LENGTH, len(GO), 1)),
    "simple packet block too short": (GO + made.block(3, b""), (LENGTH, len(GO), 1)),
    "packet block too long": (
        GO + struct.pack("<II", 6, MAX_RECORD + 65_540),
        (LENGTH, len(GO), 1),
    ),
    "no interface": (made.section() + made.enhanced(FRAME), (INTERFACE, 28, 1)),
    "no interface for a simple packet": (made.section() + made.simple(FRAME), (INTERFACE, 28, 1)),
    "no such interface": (GO + made.enhanced(FRAME, number=1), (INTERFACE, len(GO), 1)),
    "interface of the section before": (
        GO + made.section() + made.enhanced(FRAME),
        (INTERFACE, len(GO) + 28, 1),
    ),
    "packet beyond its block": (
        GO + made.enhanced(FRAME) + made.enhanced(FRAME, captured=61),
        (BEYOND, len(GO) + len(made.enhanced(FRAME)), 2),
    ),
    "packet of 4 GB": (GO + made.enhanced(FRAME, captured=2**32 - 1), (BEYOND, len(GO), 1)),
    "packet longer than a record": (
        GO + made.enhanced(bytes(MAX_RECORD + 4)),
        (TOO_LONG, len(GO), 1),
    ),
    "longest packet": (GO + made.enhanced(bytes(MAX_RECORD)), (0, 0, 0)),
}


@pytest.mark.parametrize("case", FAULTY)
def test_faults_are_named_where_they_are(core, case):
    data, fault = FAULTY[case]
    for cuts in ((), [1] * min(len(data), 1000), [5, 300] * 50):
        result = run(core, data, cuts)
        check_invariants(result)
        assert result.fault == fault, FAULTS[fault[0]]
    if fault[0] not in (0, CUT_SHORT) and len(data) > 3:
        assert run(core, data + FRAME * 3) == result  # nothing behind a fault is read


def test_too_many_interfaces(core, monkeypatch):
    if core == "numpy":
        monkeypatch.setattr("xai_traffic.capture.core_numpy.formats.MAX_INTERFACES", 1 << 10)
    limit = 1 << 10 if core == "numpy" else 1 << 20
    described = np.frombuffer(made.interface(), np.uint8)
    data = made.section() + np.tile(described, limit).tobytes()
    assert run(core, data).fault == (0, 0, 0)
    assert run(core, data + made.interface()).fault == (8, len(data), 1)
