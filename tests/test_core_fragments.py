"""How both cores give fragments their sessions: whole chains, any order, and bounded memory."""

import itertools

import capture_bytes as made
import numpy as np
import pytest
from both_cores import CORES, check_invariants, make_core, run
from fragment_bytes import LAST, MORE, UDP, dropped, halves4, halves6, raw, v4, v6

from xai_traffic.capture.records import CUT, DROPS, FRAGMENT, NONE, PACKET, TUNNELS


@pytest.fixture(params=CORES)
def core(request):
    return request.param


NAMES = ["frame", "packet", "network", "transport", "payload", "protocol", "flags", "length"]


@pytest.mark.parametrize("halves, header", [(halves4, 20), (halves6, 48)])
def test_later_fragments_join_the_first(core, halves, header):
    result = run(core, raw(halves()))
    check_invariants(result)
    assert dropped(result) == 0
    assert result.table()[NAMES].tolist() == [
        (1, 0, 0, header, header + 8, 17, FRAGMENT, header + 24),
        (2, 1, 0, NONE, header, 17, FRAGMENT, header + 24),
    ]
    session = result.sessions()[0]
    assert session[["packets", "payload_bytes", "source_port", "destination_port"]].tolist() == (
        2,
        16 + 24,
        5,
        53,
    )


@pytest.mark.parametrize("layers, start", [("network", 0), ("transport", 20), ("payload", 20)])
def test_tiles_of_later_fragments(core, layers, start):
    result = run(core, raw(halves4()), layers=layers)
    check_invariants(result)
    row = result.table()[1]
    assert row[["start", "length"]].tolist() == (start, 44 - start)
    network = 0 if layers == "network" else NONE
    assert row[["network", "transport", "payload"]].tolist() == (network, NONE, 20 - start)
    assert result.tiles[256:][: row["length"]] == halves4()[1][start:]


def test_fragments_in_any_order_give_the_same_session(core):
    parts = [
        v4(UDP[:16], MORE),
        v4(UDP[16:32], MORE | 2),
        v4(UDP[32:], 4),
    ]
    for order in itertools.permutations(range(3)):
        result = run(core, raw([parts[n] for n in order]))
        check_invariants(result)
        assert dropped(result) == 0
        first = order.index(0)
        # Those that came before the first become packets when it comes, in their order, before it.
        assert result.table()["frame"].tolist() == [1, 2, 3]
        assert result.table()["transport"].tolist() == [
            20 if place == first else NONE for place in range(3)
        ]
        assert result.sessions()[["packets", "source_port"]].tolist() == [(3, 5)]


def test_held_fragments_keep_frames_and_times(core):
    first, last = halves4()
    other = made.ipv4(made.udp(9, 9), protocol=17)
    result = run(core, raw([last, other, first, other], step=7))
    check_invariants(result)
    rows = result.table()
    assert rows["frame"].tolist() == [2, 1, 3, 4]
    assert (rows["time_ns"] // 10**9).tolist() == [7, 0, 14, 21]
    assert rows["session"].tolist() == [0, 1, 1, 0]
    sessions = np.sort(result.sessions(), order="session")
    assert (sessions["first_time"] // 10**9).tolist() == [7, 0]
    assert (sessions["last_time"] // 10**9).tolist() == [21, 14]


def test_nothing_is_counted_twice_while_fragments_wait(core):
    reader = make_core(core)
    first, last = halves4()
    _, packets, _ = reader.feed(raw([last, halves4(number=2)[1]]))
    assert len(packets) == 0 and reader.packets == 2 and sum(reader.dropped) == 0
    body = raw([first])[24:]
    _, packets, _ = reader.feed(body)
    assert np.frombuffer(packets, PACKET)["frame"].tolist() == [1, 3]
    assert sum(reader.dropped) == 0
    reader.finish()
    assert dict(zip(DROPS, reader.dropped, strict=True))["fragment"] == 1


def test_a_fault_gives_up_what_waits(core):
    result = run(core, raw([halves4()[1]]) + b"\xff" * 16)
    check_invariants(result)
    assert result.fault[0] == 3 and dropped(result) == 1


def test_datagrams_are_told_apart(core):
    """By addresses, protocol and number in IPv4, without the protocol in IPv6."""
    first, last = halves4()
    others = [
        v4(UDP[24:], LAST, number=2),
        v4(UDP[24:], LAST, source="10.0.0.9"),
        v4(UDP[24:], LAST, destination="10.0.0.9"),
        v4(UDP[24:], LAST, protocol=6),
        v4(UDP[24:], LAST, source="10.0.0.2", destination="10.0.0.1"),
    ]
    result = run(core, raw([first, *others, last]))
    check_invariants(result)
    assert dropped(result) == 5 and result.table()["frame"].tolist() == [1, 7]
    first, last = halves6()
    others = [
        v6(UDP[24:], 3, 0, number=1 << 16 | 1),
        v6(UDP[24:], 3, 0, source="fd00::9"),
        v6(UDP[24:], 3, 0, destination="fd00::9"),
        v6(UDP[24:], 3, 0, protocol=6),
    ]
    result = run(core, raw([first, *others, last]))
    check_invariants(result)
    assert dropped(result) == 3 and result.table()["frame"].tolist() == [1, 5, 6]
    assert result.table()["protocol"].tolist() == [17] * 3


def test_the_latest_first_fragment_decides(core):
    again = v4(made.udp(6, 53, data=bytes(16)), MORE)
    first, last = halves4()
    result = run(core, raw([first, last, again, last]))
    check_invariants(result)
    assert result.sessions()[["source_port", "packets"]].tolist() == [(5, 2), (6, 2)]


FIRST = {  # name: (a first fragment, the reason of its drop or (payload offset, flags seen as SYN))
    "udp header alone": (v4(UDP[:8], MORE), 28),
    "udp cut": (v4(UDP[:7], MORE), "truncated header"),
    "tcp whole": (v4(made.tcp(flags=2) + bytes(4), MORE, protocol=6), 40),
    "tcp ports": (v4(made.tcp(flags=2)[:8], MORE, protocol=6), NONE),
    "tcp without its last byte": (v4(made.tcp(words=1)[:19], MORE, protocol=6), NONE),
    "tcp cut": (v4(made.tcp()[:7], MORE, protocol=6), "truncated header"),
    "tcp short header": (v4(made.tcp(words=4), MORE, protocol=6), "malformed header"),
    "tcp options cut": (v4(made.tcp(words=8)[:24], MORE, protocol=6), NONE),
    "sctp ports": (v4(made.sctp()[:8], MORE, protocol=132), NONE),
    "sctp whole": (v4(made.sctp() + bytes(4), MORE, protocol=132), 32),
    "sctp cut": (v4(made.sctp()[:7], MORE, protocol=132), "truncated header"),
    "icmp": (v4(b"\x08\x01", MORE, protocol=1), 20),
    "ipv6 chain": (v6(b"\x11\0" + bytes(6) + UDP[:8], 0, 1, protocol=60), 64),
    "ipv6 tcp ports": (v6(made.tcp()[:8], 0, 1, protocol=6), NONE),
    "ipv6 cut": (v6(b"", 0, 1), "truncated header"),
    "ipv6 chain cut": (v6(b"\x11\1" + bytes(6), 0, 1, protocol=60), "truncated header"),
}


@pytest.mark.parametrize("case", FIRST)
def test_first_fragments_need_their_ports_only(core, case):
    packet, wanted = FIRST[case]
    later = v6(bytes(9), 3, 0) if packet[0] >> 4 == 6 else v4(bytes(9), LAST, protocol=packet[9])
    result = run(core, raw([packet, later]))
    check_invariants(result)
    if isinstance(wanted, str):  # nothing is resolved by it
        reasons = dict(zip(DROPS, result.dropped, strict=True))
        assert reasons[wanted] == 1 and reasons["fragment"] == 1
        return
    assert dropped(result) == 0
    rows = result.table()
    assert rows["payload"][0] == wanted and (rows["flags"] == FRAGMENT).all()
    assert len(result.sessions()) == 1


def test_a_header_that_is_not_whole_has_a_number_but_no_flags(core):
    """So no SYN is seen in it, and no order; it does not begin another connection."""
    packets = [
        made.ipv4(made.tcp(flags=2, sequence=5)),
        v4(made.tcp(flags=2, sequence=9)[:16], MORE, protocol=6),
        v4(made.tcp(flags=2, sequence=9), MORE, protocol=6, number=2),
    ]
    result = run(core, raw(packets), rule="connection")
    check_invariants(result)
    assert result.sessions()["packets"].tolist() == [2, 1]
    assert result.table()["flags"].tolist() == [0, FRAGMENT, FRAGMENT]


def test_fragments_without_ports_are_sessions_at_once(core):
    packets = [
        v4(bytes(24), LAST, protocol=1),
        v4(b"\x08\x00" + bytes(22), MORE, protocol=1),
        v4(bytes(24), LAST, protocol=50, number=2),
        v6(bytes(24), 3, 0, protocol=58),  # what IPv6 carries, only its first fragment tells
    ]
    result = run(core, raw(packets))
    check_invariants(result)
    assert dropped(result) == 1
    assert result.table()["frame"].tolist() == [1, 2, 3]
    assert result.table()["transport"].tolist() == [NONE, 20, NONE]
    assert result.table()["payload"].tolist() == [20, 20, 20]
    sessions = result.sessions()
    assert sessions[["protocol", "packets", "icmp_type"]].tolist() == [(1, 2, 0), (50, 1, 0)]


def test_fragments_of_tunnels_wait_where_tunnels_are_entered(core):
    inner = made.ipv4(made.udp(5, 53, data=bytes(30)), protocol=17, source="192.168.0.1")
    first, last = v4(inner[:32], MORE, protocol=4), v4(inner[32:], 4, protocol=4)
    result = run(core, raw([last, first]), tunnels="outer")
    check_invariants(result)
    assert result.sessions()[["protocol", "packets"]].tolist() == [(4, 2)]
    result = run(core, raw([last, first, last]))
    check_invariants(result)
    assert result.sessions()[["protocol", "packets", "source_port"]].tolist() == [(17, 3, 5)]
    session = result.sessions()[0]
    assert TUNNELS[session["tunnel"]] == "ipip" and session["depth"] == 1
    assert session["outer_source"][:4].tolist() == [10, 0, 0, 1]
    assert session["source"][:4].tolist() == [192, 168, 0, 1]
    names = ["network", "outer", "transport", "payload", "tunnel", "depth"]
    later = (0, 0, NONE, 20, 1, 1)
    assert result.table()[names].tolist() == [later, (20, 0, 40, 48, 1, 1), later]


def test_fragments_within_a_tunnel(core):
    first, last = halves4(source="192.168.0.1")

    def wrap(data):
        return made.ipv4(data, protocol=4)

    result = run(core, raw([wrap(last), wrap(first)]))
    check_invariants(result)
    assert dropped(result) == 0
    names = ["network", "outer", "transport", "payload", "depth", "flags"]
    assert result.table()[names].tolist() == [
        (20, 0, NONE, 40, 1, FRAGMENT),
        (20, 0, 40, 48, 1, FRAGMENT),
    ]
    # Without its first fragment it waits for it, it does not fall back to the outer header.
    result = run(core, raw([wrap(last)]))
    assert dropped(result) == 1
    # ICMP says all at once, in the tunnel as well.
    result = run(core, raw([wrap(v4(bytes(8), 7, protocol=1, source="192.168.0.1"))]))
    assert dropped(result) == 0
    assert result.table()[["protocol", "depth", "network"]].tolist() == [(1, 1, 20)]


def test_fragments_in_several_layers(core):
    inner, inner_last = halves4(source="192.168.0.1")
    outer, outer_last = v4(inner, MORE, protocol=4, number=9), v4(bytes(8), 6, protocol=4, number=9)
    result = run(core, raw([made.ipv4(inner_last, protocol=4), outer_last, outer]))
    check_invariants(result)
    assert dropped(result) == 0
    # The outer datagram's fragments are let go before the inner one's.
    assert result.table()["frame"].tolist() == [2, 1, 3]
    assert result.sessions()[["packets", "source_port", "depth"]].tolist() == [(3, 5, 1)]
    # A packet that waits itself resolves nothing; one that is resolved at once does.
    outer = v4(inner_last, MORE, protocol=4, number=9)
    result = run(core, raw([outer_last, outer, inner]))
    assert dropped(result) == 1 and result.table()["frame"].tolist() == [2, 3]
    result = run(core, raw([inner, outer_last, outer]))
    assert dropped(result) == 0 and result.table()["frame"].tolist() == [1, 2, 3]


def test_a_tunnel_that_is_none_resolves_by_its_outer_header(core):
    """The fragment within, whose transport header is cut, resolves nothing."""
    inner = v4(UDP[:7], MORE, source="192.168.0.1")
    first = v4(inner, MORE, protocol=4, number=9)
    packets = [
        first,
        v4(bytes(8), 6, protocol=4, number=9),
        v4(UDP[24:], LAST, source="192.168.0.1"),
    ]
    result = run(core, raw(packets))
    check_invariants(result)
    assert dropped(result) == 1
    assert result.sessions()[["protocol", "packets", "depth"]].tolist() == [(4, 2, 0)]


def test_filtered_first_fragments_resolve_all_the_same(core):
    first, last = halves4()
    result = run(core, raw([last, first, last]), filter="not port 53")
    check_invariants(result)
    assert dropped(result, "filtered") == 3
    result = run(core, raw([last, first, last]), filter="port 53 and less 44")
    assert dropped(result, "filtered") == 0 and result.packets == 3


def test_an_atomic_fragment_is_no_fragment(core):
    packet = made.ipv6(made.fragment_header(17) + UDP, protocol=44)
    result = run(core, raw([packet]))
    assert result.table()["flags"].tolist() == [0]
    assert result.table()["payload"].tolist() == [56]


def test_several_fragment_headers(core):
    """The last that fragments names the datagram."""
    inside = made.fragment_header(17, offset=3, number=5) + UDP[24:]
    twice = made.ipv6(made.fragment_header(44, more=1, number=4) + inside, protocol=44)
    result = run(core, raw([twice, v6(UDP[:24], 0, 1, number=5), twice]))
    check_invariants(result)
    assert dropped(result) == 0 and result.table()["payload"].tolist() == [56, 56, 56]
    atomic = made.fragment_header(17, number=5) + UDP[:24]
    first = made.ipv6(made.fragment_header(44, more=1, number=4) + atomic, protocol=44)
    result = run(core, raw([first, v6(UDP[24:], 3, 0, number=4), v6(UDP[24:], 3, 0, number=5)]))
    assert dropped(result) == 1 and result.table()["frame"].tolist() == [1, 2]


def test_cut_fragments_say_so(core):
    first, last = halves4()
    records = [(0, 0, first), (0, 0, last[:30], 44)]
    result = run(core, made.pcap(records, link=101))
    assert result.table()["flags"].tolist() == [FRAGMENT, FRAGMENT | CUT]
    assert result.sessions()["payload_bytes"].tolist() == [16 + 10]
