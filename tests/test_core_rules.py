"""When sessions end by the timed rules, what makes one, and how early reports come."""

import capture_bytes as made
import numpy as np
import pytest
from both_cores import CORES, check_invariants, make_core, run

from xai_traffic.capture.records import ANY, ENDS, SESSION

FIN, SYN, RST, ACK = 1, 2, 4, 16
SECOND = 10**9


@pytest.fixture(params=CORES)
def core(request):
    return request.param


def tcp(second: float, flags: int, sequence: int, back: bool = False) -> tuple:
    """Return a record: a segment of one connection, by its client or back."""
    ports, ends = (1000, 80), {}
    if back:
        ports, ends = (80, 1000), {"source": "10.0.0.2", "destination": "10.0.0.1"}
    packet = made.ipv4(made.tcp(*ports, flags=flags, sequence=sequence), **ends)
    return int(second), round(second % 1 * 1e6), packet


def udp(second: float, source: int = 1000) -> tuple:
    packet = made.ipv4(made.udp(source), protocol=17)
    return int(second), round(second % 1 * 1e6), packet


def sessions(core, records, **rules):
    result = run(core, made.pcap(records, link=101), **rules)
    check_invariants(result)
    return result.sessions()


def ends_of(rows) -> list[tuple[int, str]]:
    return [(int(row["packets"]), ENDS[row["end"]]) for row in rows]


ONE = "capture end"
ZEEK = {  # name: (records, packets and end of each session)
    "tcp idle 300 s": (
        [tcp(0, ACK, 1), tcp(300, ACK, 1), tcp(600, ACK, 1)],
        [(3, ONE)],
    ),
    "tcp idle more": (
        [tcp(0, ACK, 1), tcp(300.000001, ACK, 1)],
        [(1, "idle timeout"), (1, ONE)],
    ),
    "udp idle 60 s": ([udp(0), udp(60)], [(2, ONE)]),
    "udp idle more": ([udp(0), udp(60.000001)], [(1, "idle timeout"), (1, ONE)]),
    "idle since the latest packet": ([udp(50), udp(10), udp(105)], [(3, ONE)]),
    "attempt answered": (
        [tcp(0, SYN, 1), tcp(5, SYN | ACK, 1, True), tcp(100, ACK, 2)],
        [(3, ONE)],
    ),
    "attempt repeated": ([tcp(0, SYN, 1), tcp(5, SYN, 1)], [(2, ONE)]),
    "attempt unanswered": (
        [tcp(0, SYN, 1), tcp(5.000001, SYN, 1)],
        [(1, "idle timeout"), (1, ONE)],
    ),
    "attempt answered late": (
        [tcp(0, SYN, 1), tcp(3, SYN, 1), tcp(5.5, SYN | ACK, 1, True)],
        [(2, "idle timeout"), (1, ONE)],
    ),
    "no attempt": ([tcp(0, ACK, 1), tcp(100, ACK, 1)], [(2, ONE)]),
    "attempt from the middle": ([tcp(0, SYN | ACK, 1), tcp(100, SYN | ACK, 1)], [(2, ONE)]),
    "one side's fin": ([tcp(0, FIN | ACK, 1), tcp(200, ACK, 2, True)], [(2, ONE)]),
    "one side's fin twice": ([tcp(0, FIN, 1), tcp(1, FIN, 1), tcp(200, ACK, 2)], [(3, ONE)]),
    "closed": (
        [tcp(0, FIN | ACK, 1), tcp(1, FIN | ACK, 1, True), tcp(6, ACK, 2), tcp(11.5, ACK, 2)],
        [(3, "closed"), (1, ONE)],
    ),
    "reset": (
        [tcp(0, RST, 1), tcp(5, ACK, 1), tcp(10.5, ACK, 1)],
        [(2, "closed"), (1, ONE)],
    ),
    "closed and opened again": (
        [tcp(0, SYN, 1), tcp(1, RST | ACK, 0, True), tcp(2, SYN, 1)],
        [(2, "closed"), (1, ONE)],
    ),
    "closed, answered by syn": (
        [tcp(0, SYN, 1), tcp(1, RST, 1), tcp(2, SYN | ACK, 1, True)],
        [(3, ONE)],
    ),
    "new connection": (
        [tcp(0, SYN, 1), tcp(1, SYN | ACK, 1, True), tcp(2, SYN, 9)],
        [(2, "new connection"), (1, ONE)],
    ),
    "first syn late": ([tcp(0, ACK, 5), tcp(1, SYN, 9), tcp(2, SYN, 9)], [(3, ONE)]),
    "idle comes before closed": (
        [tcp(0, RST, 1), tcp(301, SYN, 1)],
        [(1, "idle timeout"), (1, ONE)],
    ),
    "attempt comes before closed": (
        [tcp(0, SYN, 1), tcp(1, RST, 2), tcp(7, SYN, 9)],
        [(2, "idle timeout"), (1, ONE)],
    ),
    "closed comes before new": (
        [tcp(0, SYN, 1), tcp(1, RST, 1, True), tcp(2, SYN, 9)],
        [(2, "closed"), (1, ONE)],
    ),
}


@pytest.mark.parametrize("case", ZEEK)
def test_zeek(core, case):
    records, wanted = ZEEK[case]
    assert ends_of(sessions(core, records, rule="zeek")) == wanted


def test_zeek_icmp_is_idle_like_udp(core):
    packet = made.ipv4(b"\x08\x00", protocol=1)
    rows = sessions(core, [(0, 0, packet), (60, 0, packet), (121, 0, packet)], rule="zeek")
    assert ends_of(rows) == [(2, "idle timeout"), (1, ONE)]


NFSTREAM = {
    "idle": ([udp(100), udp(219.999)], [(2, ONE)]),
    "idle 120 s": ([udp(100), udp(220)], [(1, "idle timeout"), (1, ONE)]),
    "milliseconds begin": ([udp(100.000999), udp(220)], [(1, "idle timeout"), (1, ONE)]),
    "milliseconds end": ([udp(100), udp(219.999999)], [(2, ONE)]),
    "active": ([*(udp(s) for s in range(0, 1800, 100)), udp(1799.999)], [(19, ONE)]),
    "active 1800 s": (
        [*(udp(s) for s in range(0, 1801, 100))],
        [(18, "active timeout"), (1, ONE)],
    ),
    "time does not go back": (
        # At 500 by the clock of the other session the first is idle, whatever its packet says.
        [udp(100), udp(500, 7), udp(110), udp(499, 7)],
        [(1, "idle timeout"), (2, ONE), (1, ONE)],
    ),
    "fin and reset play no role": (
        [tcp(0, FIN, 1), tcp(1, FIN, 1, True), tcp(2, RST, 1), tcp(3, SYN, 9), tcp(100, SYN, 10)],
        [(5, ONE)],
    ),
}


@pytest.mark.parametrize("case", NFSTREAM)
def test_nfstream(core, case):
    records, wanted = NFSTREAM[case]
    assert ends_of(sessions(core, records, rule="nfstream")) == wanted


def test_nfstream_clock_runs_on_what_passes_the_filter(core):
    records = [udp(100), udp(500, 7), udp(110)]
    assert ends_of(sessions(core, records, rule="nfstream", filter="not port 7")) == [(2, ONE)]


def test_nfstream_clock_begins_at_0(core):
    """Times before 1970, which pcapng can hold, count as 1970."""
    packet = made.ipv4(made.udp(1), protocol=17)
    for latest, wanted in (
        (119_999_999, [(2, ONE)]),
        (120_000_000, [(1, "idle timeout"), (1, ONE)]),
    ):
        data = made.section() + made.interface(link=101)
        for microseconds in (-(10**12), latest):
            data += made.enhanced(packet, units=microseconds % 2**64)
        rows = run(core, data, rule="nfstream").sessions()
        assert rows["first_time"][0] == -(10**15)
        assert ends_of(rows) == wanted


def host_packets() -> list[bytes]:
    there = {"source": "10.0.0.1", "destination": "10.0.0.2"}
    back = {"source": "10.0.0.2", "destination": "10.0.0.1"}
    return [
        made.ipv4(made.udp(5, 53), protocol=17, **there),
        made.ipv4(made.tcp(80, 7, flags=SYN, sequence=1), **back),
        made.ipv4(made.tcp(7, 80, flags=SYN, sequence=7), **there),
        made.ipv4(b"\x08\x00", protocol=1, **there),
        made.ipv4(made.udp(5, 53), protocol=17, source="10.0.0.1", destination="10.0.0.3"),
        made.ipv6(made.udp(5, 53), protocol=17),
    ]


def test_host_pair(core):
    result = run(core, made.pcap(host_packets(), link=101), rule="host_pair")
    check_invariants(result)
    rows = result.sessions()
    names = ["packets", "protocol", "source_port", "destination_port", "family"]
    assert rows[names].tolist() == [(4, ANY, 0, 0, 4), (1, ANY, 0, 0, 4), (1, ANY, 0, 0, 6)]
    assert result.table()["direction"].tolist() == [0, 1, 0, 0, 0, 0]
    assert result.table()["protocol"].tolist() == [17, 6, 6, 1, 17, 17]


def test_host_pair_marks_no_order(core):
    """Several connections share the session: their sequence numbers do not compare."""
    segments = [made.ipv4(made.tcp(port, sequence=9, data=b"x")) for port in (1, 2, 1, 1)]
    result = run(core, made.pcap(segments, link=101), rule="host_pair", retransmissions="drop")
    assert result.table()["flags"].tolist() == [0] * 4


def test_host_pair_ends_when_idle(core):
    records = [(0, 0, host_packets()[0]), (11, 0, host_packets()[1]), (21, 0, host_packets()[2])]
    rows = sessions(core, records, rule="host_pair", idle_timeout_ns=10 * SECOND)
    assert ends_of(rows) == [(1, "idle timeout"), (2, ONE)]


def test_unidirectional(core):
    records = [tcp(0, SYN, 1), tcp(1, SYN | ACK, 5, True), tcp(2, ACK, 2), tcp(3, SYN, 9)]
    result = run(core, made.pcap(records, link=101), rule="unidirectional")
    check_invariants(result)
    rows = result.sessions()
    assert rows[["packets", "source_port"]].tolist() == [(3, 1000), (1, 80)]
    assert result.table()["direction"].tolist() == [0] * 4


# Early reports


def early_run(core, records, limit, **rules):
    """Return the reader, its rows after each record, and those of its end."""
    reader = make_core(core, early=True, limit=limit, **rules)
    data = made.pcap(records, link=101)
    reader.feed(data[:24])
    at, steps = 24, []
    for _, _, packet in records:
        size = 16 + len(packet)
        steps.append(np.frombuffer(reader.feed(data[at : at + size])[2], SESSION))
        at += size
    return reader, steps, np.frombuffer(reader.finish()[2], SESSION)


def test_early_sessions_are_reported_with_their_last_tile(core):
    records = [udp(0), udp(1, 7), udp(2), udp(3), udp(4), udp(5, 7)]
    _, steps, rest = early_run(core, records, limit=3)
    assert [len(rows) for rows in steps] == [0, 0, 0, 1, 0, 0]
    row = steps[3][0]
    assert ENDS[row["end"]] == "packet limit"
    assert row[["session", "packets", "tiles", "last_time"]].tolist() == (0, 3, 3, 3 * SECOND)
    assert rest[["session", "packets"]].tolist() == [(1, 2)]
    assert ENDS[rest["end"][0]] == "capture end"


def test_early_sessions_that_end_before_are_reported_then(core):
    records = [tcp(0, SYN, 1), tcp(1, SYN, 9), tcp(2, ACK, 10), tcp(3, SYN, 20)]
    _, steps, rest = early_run(core, records, limit=2, rule="connection")
    assert [[ENDS[row["end"]] for row in rows] for rows in steps] == [
        [],
        ["new connection"],
        ["packet limit"],
        [],  # the session that ends here was reported
    ]
    assert ends_of(rest) == [(1, ONE)]


def test_early_with_one_tile_reports_each_session_at_once(core):
    _, steps, rest = early_run(core, [udp(0), udp(1), udp(2, 7)], limit=1)
    assert [len(rows) for rows in steps] == [1, 0, 1] and len(rest) == 0


def test_early_sessions_make_room_in_silence(core):
    _, steps, rest = early_run(core, [udp(0), udp(1), udp(2, 7), udp(3)], limit=2, max_open=1)
    assert [ends_of(rows) for rows in steps] == [
        [],
        [(2, "packet limit")],
        [],
        [(1, "evicted")],
    ]
    assert ends_of(rest) == [(1, ONE)]


@pytest.mark.parametrize("early", [True, False])
def test_quiet_sessions_are_reported_once_and_stay_open(core, early):
    reader = make_core(core, early=early, limit=4)
    records = [udp(0, 1), udp(1, 2), udp(2, 3), udp(3, 1)]
    reader.feed(made.pcap(records, link=101))
    assert len(reader.expire(SECOND)) == 0  # a session of exactly that time is not quiet
    rows = np.frombuffer(reader.expire(2 * SECOND + 1), SESSION)
    assert ends_of(rows) == [(1, "quiet"), (1, "quiet")]
    assert rows["session"].tolist() == [1, 2]
    assert len(reader.expire(2 * SECOND + 1)) == 0
    rows = np.frombuffer(reader.expire(100 * SECOND), SESSION)
    assert rows["session"].tolist() == [0] and ends_of(rows) == [(2, "quiet")]
    # They go on: tiles come, and no second report.
    more = made.pcap([udp(9, 2)] * 5, link=101)[24:]
    _, packets, ended = reader.feed(more)
    assert len(packets) == 3 * 56 and len(ended) == 0
    assert [len(part) for part in reader.finish()] == [0, 0, 0]


def test_expire_reports_nothing_that_has_ended(core):
    reader = make_core(core, early=True, limit=4)
    reader.feed(made.pcap([udp(0)], link=101))
    reader.finish()
    assert len(reader.expire(100 * SECOND)) == 0
    assert len(make_core(core).expire(2**63 - 1)) == 0
    assert len(make_core(core).expire(-(2**63))) == 0
