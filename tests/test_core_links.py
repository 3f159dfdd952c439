"""What both cores find behind every link layer, and behind what lies between it and IP."""

import struct

import capture_bytes as made
import pytest
from both_cores import CORES, check_invariants, run

from xai_traffic.capture.records import DROPS, NONE

IP4 = made.ipv4(made.tcp(data=b"hello"))
IP6 = made.ipv6(made.tcp(data=b"hello"))
WIFI = made.wireless(made.snap(IP4))
TRUNCATED, MALFORMED, NOT_IP = "truncated header", "malformed header", "not IP"
PPP, NFLOG_IP4 = b"\xff\x03\x00\x21", (9, IP4)


def wifi(control: int, quality: bytes = b"", data: bytes | None = None, **more) -> bytes:
    data = made.snap(IP4) if data is None else data
    return made.wireless(data, control=control, quality=quality, **more)


def padded_wifi() -> bytes:
    """Return a QoS frame whose header of 26 bytes is padded to 28."""
    return wifi(0x0088, bytes(2), padding=bytes(2))


def shims(pairs: int, outer_tags: int = 0, inner_tags: int = 0) -> bytes:
    """Return a frame of pairs, a label stack and Ethernet behind it, that are two steps each."""
    frame = made.ethernet(IP4, tags=[0x8100] * inner_tags)
    for pair in range(pairs, 0, -1):
        tags = [0x8100] * outer_tags if pair == 1 else ()
        frame = made.ethernet(made.mpls(bytes(4) + frame), kind=0x8847, tags=tags)
    return frame


def tagged_in_mpls(outer: int, inner: int) -> bytes:
    frame = bytes(4) + made.ethernet(IP4, tags=[0x8100] * inner)
    return made.ethernet(made.mpls(frame), kind=0x8847, tags=[0x88A8] * outer)


# name: (link type, packet, offset of the IP header or the reason of the drop)
CASES = {
    # 802.2 LLC
    "ethernet llc snap": (1, made.ethernet(made.snap(IP4), kind=60), 22),
    "ethernet llc snap ipv6": (1, made.ethernet(made.snap(IP6, kind=0x86DD), kind=1500), 22),
    "ethernet llc snap bridged": (
        1,
        made.ethernet(made.snap(IP4, organisation=b"\0\0\xf8"), kind=60),
        22,
    ),
    "ethernet llc snap of a vendor": (
        1,
        made.ethernet(made.snap(IP4, organisation=b"\0\0\x0c"), kind=60),
        NOT_IP,
    ),
    "ethernet llc snap vlan": (
        1,
        made.ethernet(made.snap(b"\0\7\x08\0" + IP4, kind=0x8100), kind=60),
        26,
    ),
    "ethernet llc snap with a length": (1, made.ethernet(made.snap(IP4, kind=60), kind=60), NOT_IP),
    "ethernet llc ipv4": (1, made.ethernet(b"\x06\x06\x03" + IP4, kind=60), 17),
    "ethernet llc spanning tree": (1, made.ethernet(b"\x42\x42\x03" + bytes(40), kind=38), NOT_IP),
    "ethernet llc cut": (1, made.ethernet(b"\xaa\xaa", kind=38), TRUNCATED),
    "ethernet snap cut": (1, made.ethernet(b"\xaa\xaa\x03\0\0\0\x08", kind=38), TRUNCATED),
    "ethernet neither type nor length": (1, made.ethernet(made.snap(IP4), kind=1501), NOT_IP),
    "vlan llc": (1, made.ethernet(made.snap(IP4), kind=60, tags=[0x8100]), 26),
    # cooked, loopback
    "cooked llc": (113, bytes(14) + b"\0\4" + made.snap(IP4), 24),
    "cooked novell": (113, bytes(14) + b"\0\1" + made.snap(IP4), NOT_IP),
    "cooked vlan llc": (113, bytes(14) + b"\x81\0\0\7\0\x50" + made.snap(IP4), 28),
    "cooked 2 llc": (276, b"\0\4" + bytes(18) + made.snap(IP4), 28),
    "cooked 2 can": (276, b"\0\x0c" + bytes(18) + IP4, NOT_IP),
    "enc": (109, b"\2\0\0\0" + bytes(8) + IP4, 12),
    "enc big ipv6": (109, b"\0\0\0\x18" + bytes(8) + IP6, 12),
    "enc other": (109, b"\3\0\0\0" + bytes(8) + IP4, NOT_IP),
    "enc cut": (109, b"\2\0\0\0" + bytes(7), TRUNCATED),
    # MPLS
    "mpls": (1, made.ethernet(made.mpls(IP4), kind=0x8847), 18),
    "mpls multicast ipv6": (1, made.ethernet(made.mpls(IP6, labels=3), kind=0x8848), 26),
    "mpls 16 labels": (1, made.ethernet(made.mpls(IP4, labels=16), kind=0x8847), 78),
    "mpls 17 labels": (1, made.ethernet(made.mpls(IP4, labels=17), kind=0x8847), NOT_IP),
    "mpls cut in the stack": (
        1,
        made.ethernet(made.mpls(b"", labels=2)[:7], kind=0x8847),
        TRUNCATED,
    ),
    "mpls nothing behind": (1, made.ethernet(made.mpls(b""), kind=0x8847), TRUNCATED),
    "mpls something else": (1, made.ethernet(made.mpls(b"\x10" + IP4), kind=0x8847), NOT_IP),
    "mpls pseudowire": (
        1,
        made.ethernet(made.mpls(bytes(4) + made.ethernet(IP6, kind=0x86DD)), kind=0x8847),
        36,
    ),
    "mpls pseudowire llc": (
        1,
        made.ethernet(made.mpls(bytes(4) + made.ethernet(made.snap(IP4), kind=60)), kind=0x8847),
        44,
    ),
    "mpls pseudowire cut": (
        1,
        made.ethernet(made.mpls(bytes(4) + made.ethernet(b"")[:13]), kind=0x8847),
        TRUNCATED,
    ),
    "vlan mpls": (1, made.ethernet(made.mpls(IP4), kind=0x8847, tags=[0x8100]), 22),
    "tags of both ethernets, 8": (1, tagged_in_mpls(5, 3), 14 + 20 + 4 + 4 + 14 + 12),
    "tags of both ethernets, 9": (1, tagged_in_mpls(5, 4), NOT_IP),
    "24 steps": (1, shims(12), 14 + 12 * 22),
    "24 steps, the last a tag": (1, shims(11, 1, 1), 14 + 11 * 22 + 8),
    "25 steps, the last a tag": (1, shims(12, 0, 1), NOT_IP),
    "25 steps, the last ethernet": (1, shims(12, 1), NOT_IP),
    # PPPoE and PPP
    "pppoe": (1, made.ethernet(made.pppoe(IP4), kind=0x8864), 22),
    "pppoe ipv6": (1, made.ethernet(made.pppoe(IP6, protocol=b"\0\x57"), kind=0x8864), 22),
    "pppoe compressed": (1, made.ethernet(made.pppoe(IP4, protocol=b"\x21"), kind=0x8864), 21),
    "pppoe lcp": (1, made.ethernet(made.pppoe(b"", protocol=b"\xc0\x21"), kind=0x8864), NOT_IP),
    "pppoe with hdlc": (1, made.ethernet(made.pppoe(IP4, protocol=PPP), kind=0x8864), NOT_IP),
    "pppoe version": (1, made.ethernet(made.pppoe(IP4, kind=0x21), kind=0x8864), NOT_IP),
    "pppoe code": (1, made.ethernet(made.pppoe(IP4, code=7), kind=0x8864), NOT_IP),
    "pppoe cut": (1, made.ethernet(made.pppoe(b"")[:5], kind=0x8864), TRUNCATED),
    "pppoe protocol cut": (
        1,
        made.ethernet(made.pppoe(b"", protocol=b"\0"), kind=0x8864),
        TRUNCATED,
    ),
    "pppoe discovery": (1, made.ethernet(made.pppoe(IP4), kind=0x8863), NOT_IP),
    "pppoe link": (51, made.pppoe(IP4), 8),
    "pppoe link mpls": (51, made.pppoe(made.mpls(IP4), protocol=b"\x02\x81"), 12),
    "ppp": (9, PPP + IP4, 4),
    "ppp without hdlc": (9, b"\x00\x57" + IP6, 2),
    "ppp compressed": (9, b"\xff\x03\x21" + IP4, 3),
    "ppp mpls multicast": (9, b"\x02\x83" + made.mpls(IP4), 6),
    "ppp other": (9, b"\xff\x03\xc0\x21" + IP4, NOT_IP),
    "ppp empty": (9, b"", TRUNCATED),
    "ppp cisco": (9, b"\x0f\0\x08\0" + IP4, 4),
    "ppp cut": (9, b"\xff\x03\x00", TRUNCATED),
    "ppp one byte": (9, b"\xff", NOT_IP),
    "pppd outbound": (166, b"\x01\x03\x00\x21" + IP4, 4),
    "pppd inbound": (166, b"\x00\x03\x21" + IP4, 3),
    "pppd without direction": (166, b"\x00\x21" + IP4, 2),
    "ppp serial": (50, PPP + IP4, 4),
    "ppp serial cisco": (50, b"\x0f\0\x08\0" + IP4, 4),
    "ppp serial cisco multicast": (50, b"\x8f\0\x86\xdd" + IP6, 4),
    "ppp serial cisco cut": (50, b"\x0f\0\x08", TRUNCATED),
    "ppp serial empty": (50, b"", TRUNCATED),
    "hdlc": (104, b"\x0f\0\x08\0" + IP4, 4),
    "hdlc mpls": (104, b"\x0f\0\x88\x47" + made.mpls(IP4), 8),
    "hdlc slarp": (104, b"\x8f\0\x80\x35" + bytes(20), NOT_IP),
    "hdlc cut": (104, b"\x0f\0\x08", TRUNCATED),
    # 802.11
    "wifi": (105, WIFI, 32),
    "wifi to the station": (105, wifi(0x0208), 32),
    "wifi four addresses": (105, wifi(0x0308), 38),
    "wifi qos": (105, wifi(0x0088, bytes(2)), 34),
    "wifi qos four addresses": (105, wifi(0x0388, bytes(2)), 40),
    "wifi qos order": (105, wifi(0x8088, bytes(6)), 38),
    "wifi order without qos": (105, wifi(0x8008), 32),
    "wifi several frames": (105, wifi(0x0088, b"\x80\0"), NOT_IP),
    "wifi ipv6": (105, wifi(0x0008, data=made.snap(IP6, kind=0x86DD)), 32),
    "wifi eapol": (105, wifi(0x0008, data=made.snap(IP4, kind=0x888E)), NOT_IP),
    "wifi management": (105, wifi(0x0080), NOT_IP),
    "wifi control": (105, wifi(0x00D4), NOT_IP),
    "wifi no data": (105, wifi(0x0048), NOT_IP),
    "wifi qos no data": (105, wifi(0x00C8), NOT_IP),
    "wifi version": (105, wifi(0x0009), NOT_IP),
    "wifi protected": (105, wifi(0x4008), "encrypted"),
    "wifi protected and cut": (105, wifi(0x4008)[:2], "encrypted"),
    "wifi protected, no data": (105, wifi(0x4048), NOT_IP),
    "wifi empty": (105, b"\x08", TRUNCATED),
    "wifi cut": (105, WIFI[:23], TRUNCATED),
    "wifi qos cut": (105, wifi(0x0088, bytes(2))[:25], TRUNCATED),
    "wifi cut before llc": (105, WIFI[:26], TRUNCATED),
    "prism": (119, bytes(144) + WIFI, 176),
    "prism cut": (119, bytes(143), TRUNCATED),
    # radiotap
    "radiotap": (127, made.radiotap(WIFI), 40),
    "radiotap fields": (127, made.radiotap(WIFI, present=(4,), fields=bytes(5)), 45),
    "radiotap flags": (127, made.radiotap(WIFI, present=(2,), fields=b"\0"), 41),
    "radiotap padded": (
        127,
        made.radiotap(padded_wifi(), present=(2,), fields=b"\x20"),
        9 + 28 + 8,
    ),
    "radiotap padded, nothing to pad": (
        127,
        made.radiotap(WIFI, present=(2,), fields=b"\x20"),
        41,
    ),
    "radiotap time stamp and flags": (
        127,
        made.radiotap(padded_wifi(), present=(3,), fields=b"\x20" * 8 + b"\x20"),
        17 + 28 + 8,
    ),
    "radiotap time stamp looks padded": (
        127,
        made.radiotap(WIFI, present=(3,), fields=b"\x20" * 8 + b"\0"),
        17 + 32,
    ),
    "radiotap aligned time stamp and flags": (
        127,  # two words: the time stamp begins at 16, the flags are at 24
        made.radiotap(
            padded_wifi(), present=(0x8000_0003, 0), fields=bytes(4) + bytes(8) + b"\x20"
        ),
        25 + 28 + 8,
    ),
    "radiotap flags of another antenna": (
        127,  # the bit of a later word says nothing of the frame
        made.radiotap(WIFI, present=(0x8000_0000, 2), fields=b"\x20"),
        13 + 32,
    ),
    "radiotap 32 words": (127, made.radiotap(WIFI, present=(1 << 31,) * 31 + (0,)), 132 + 32),
    "radiotap 33 words": (127, made.radiotap(WIFI, present=(1 << 31,) * 32 + (0,)), MALFORMED),
    "radiotap words run out": (127, made.radiotap(WIFI, present=(1 << 31,)), MALFORMED),
    "radiotap flags run out": (127, made.radiotap(WIFI, present=(2,)), MALFORMED),
    "radiotap version": (127, made.radiotap(WIFI, version=1), MALFORMED),
    "radiotap too short": (127, made.radiotap(WIFI, length=7), MALFORMED),
    "radiotap beyond the capture": (127, made.radiotap(WIFI, length=999), TRUNCATED),
    "radiotap cut": (127, made.radiotap(b"")[:7], TRUNCATED),
    "radiotap protected": (127, made.radiotap(wifi(0x4008)), "encrypted"),
    # PPI
    "ppi ethernet": (192, made.ppi(made.ethernet(IP4)), 22),
    "ppi wifi": (192, made.ppi(WIFI, link=105, fields=bytes(20)), 60),
    "ppi radiotap": (192, made.ppi(made.radiotap(WIFI), link=127), 48),
    "ppi radiotap padded": (
        192,  # all is measured from the beginning of the header that it is in
        made.ppi(
            made.radiotap(padded_wifi(), present=(3,), fields=bytes(8) + b"\x20"),
            link=127,
            fields=bytes(3),
        ),
        11 + 17 + 28 + 8,
    ),
    "ppi in ppi": (192, made.ppi(made.ppi(IP4), link=192), "unsupported link type"),
    "ppi other": (192, made.ppi(IP4, link=147), "unsupported link type"),
    "ppi large": (192, made.ppi(made.ethernet(IP4), link=65_537), "unsupported link type"),
    "ppi too short": (192, made.ppi(made.ethernet(IP4), length=7), MALFORMED),
    "ppi beyond the capture": (192, made.ppi(b"", length=9), TRUNCATED),
    "ppi cut": (192, made.ppi(b"")[:7], TRUNCATED),
    # NFLOG
    "nflog": (239, made.nflog((1, bytes(4)), NFLOG_IP4), 16),
    "nflog padded": (239, made.nflog((10, b"prefix\0"), NFLOG_IP4), 20),
    "nflog ipv6": (239, made.nflog((9, IP6), family=10), 8),
    "nflog upper bit": (239, made.nflog((0x8009, IP4)), 8),
    "nflog arp": (239, made.nflog((9, IP4), family=7), NOT_IP),
    "nflog version": (239, made.nflog((9, IP4), version=1), MALFORMED),
    "nflog nothing": (239, made.nflog(), NOT_IP),
    "nflog no payload": (239, made.nflog((1, bytes(4)), (10, b"x")), NOT_IP),
    "nflog short attribute": (239, made.nflog() + b"\3\0\1\0" + IP4, MALFORMED),
    "nflog attribute cut": (239, made.nflog() + b"\x09\0\1\0abcd", TRUNCATED),
    "nflog attribute header cut": (239, made.nflog((1, b"abcd")) + b"\x09\0\1", TRUNCATED),
    "nflog cut": (239, b"\2\0\0", TRUNCATED),
    # types that stay out
    "docsis": (143, made.ethernet(IP4), "unsupported link type"),
    "usb": (220, made.ethernet(IP4), "unsupported link type"),
}


@pytest.fixture(params=CORES)
def core(request):
    return request.param


@pytest.mark.parametrize("case", CASES)
def test_ip_is_found_or_the_packet_dropped_by_name(core, case):
    link, packet, wanted = CASES[case]
    result = run(core, made.pcap([packet], link=link))
    check_invariants(result)
    dropped = [name for name, count in zip(DROPS, result.dropped, strict=True) if count]
    if isinstance(wanted, str):
        assert dropped == [wanted]
        return
    assert not dropped
    row = result.table()[0]
    assert packet[wanted] >> 4 in (4, 6)  # the case itself is right
    size = 20 if packet[wanted] >> 4 == 4 else 40
    assert row["network"] == wanted and row["transport"] == wanted + size
    assert row["payload"] == wanted + size + 20 and row["link"] == link
    assert row["outer"] == NONE and row["tunnel"] == 0 and row["depth"] == 0
    session = result.sessions()[0]
    assert session["payload_bytes"] == 5 and session["family"] == packet[wanted] >> 4
    assert session["source_port"] == 1000 and session["destination_port"] == 80


@pytest.mark.parametrize("size", range(0, 130, 3))
def test_a_frame_may_be_cut_anywhere(core, size):
    packets = [(link, packet) for link, packet, wanted in CASES.values() if wanted != "encrypted"]
    for link, packet in packets:
        result = run(core, made.pcap([packet[:size]], link=link))
        check_invariants(result)
        assert result.packets == 1 and result.fault == (0, 0, 0)


def test_nflog_payload_ends_the_frame(core):
    segment = made.tcp(data=b"hello")
    # Offload leaves the datagram's length to the frame; three attribute bytes stand behind it.
    frame = made.nflog((9, made.ipv4(segment, total=0)), (12, b"abc"))
    result = run(core, made.pcap([frame], link=239), layers="network")
    check_invariants(result)
    assert result.sessions()["payload_bytes"].tolist() == [5]
    assert result.table()["length"].tolist() == [45]
    # An attribute that claims more than was captured ends with the capture.
    frame = made.nflog() + struct.pack("<HH", 999, 9) + IP4
    assert run(core, made.pcap([frame], link=239)).sessions()["payload_bytes"].tolist() == [5]


def test_sctp_has_ports(core):
    packets = [
        made.ipv4(made.sctp(7, 9, data=b"chunk"), protocol=132),
        made.ipv6(made.sctp(9, 7), source="fd00::2", destination="fd00::1", protocol=132),
        made.ipv4(made.sctp(7, 9)[:11], protocol=132),
    ]
    result = run(core, made.pcap(packets, link=101), filter="port 9")
    check_invariants(result)
    assert dict(zip(DROPS, result.dropped, strict=True))[TRUNCATED] == 1
    assert result.table()["payload"].tolist() == [32, 52]
    sessions = result.sessions()
    assert sessions[["protocol", "source_port", "destination_port"]].tolist() == [
        (132, 7, 9),
        (132, 9, 7),
    ]
    assert sessions["payload_bytes"].tolist() == [5, 0]


def test_icmp_types_are_those_of_the_first_packet(core):
    packets = [
        made.ipv4(b"\x08\x01" + bytes(6), protocol=1),
        made.ipv4(b"\x00\x02" + bytes(6), protocol=1),
        made.ipv6(b"\x80\x03" + bytes(6), protocol=58),
        made.ipv4(b"\x03", protocol=1, source="10.0.0.7"),
        made.ipv4(b"\x03\x04" + bytes(6), protocol=2),
    ]
    result = run(core, made.pcap(packets, link=101))
    check_invariants(result)
    assert result.sessions()[["icmp_type", "icmp_code"]].tolist() == [
        (8, 1),
        (128, 3),
        (0, 0),
        (0, 0),
    ]


def test_transport_is_not_decoded_behind_a_far_offset(core):
    for length, dropped in ((64_948, 0), (64_949, 1)):  # of radiotap, before 32 and 20 bytes
        frame = made.radiotap(WIFI, fields=bytes(length - 8))
        result = run(core, made.pcap([frame], link=127))
        assert dict(zip(DROPS, result.dropped, strict=True))[TRUNCATED] == dropped
        if not dropped:
            row = result.table()[0]
            assert row["transport"] == 65_000 and row["payload"] == 65_020
