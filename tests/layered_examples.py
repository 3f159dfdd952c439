"""A packet of every tunnel, shim and link layer, put together of named pieces."""

from __future__ import annotations

import struct

from layered_packets import (
    NEITHER,
    Piece,
    address,
    ethernet,
    gre,
    ids,
    ip4,
    ip6,
    mpls,
    payload,
    plain,
    pppoe,
    sctp,
    session,
    tcp,
    udp,
    vlan,
    wireless,
    wireless_addresses,
)


def examples() -> dict[str, tuple[int, list[Piece]]]:
    """Return (link type, packet) of every tunnel, shim and link layer by name."""
    inner_ethernet = [*ethernet("0800"), *session()]
    vxlan = [
        *plain(vxlan__flags=b"\x08\0"),
        ids("vxlan.gbp", "0102"),
        ids("vxlan.vni", "c0ffee"),
        *plain(vxlan__reserved8=b"\0"),
    ]
    geneve = [
        *plain(geneve__version=b"\x02", geneve__flags=b"\0", geneve__proto_type=b"\x65\x58"),
        ids("geneve.vni", "c0ffee"),
        *plain(geneve__reserved=b"\0", geneve__option__class=b"\1\2"),
        *plain(geneve__option__type=b"\3", geneve__option__length=b"\1"),
        ids("geneve.option", "01020304"),
    ]
    gtp = [
        *plain(gtp__flags=b"\x34", gtp__message=b"\xff", gtp__length=b"\0\x40"),
        ids("gtp.teid", "c0ffee01"),
        ids("gtp.seq_number", "0102"),
        ids("gtp.npdu_number", "03"),
        *plain(gtp__ext_hdr__next=b"\x85", gtp__ext_hdr__length=b"\1"),
        ids("gtp.ext_hdr", "0009"),
        *plain(gtp__ext_hdr__next=b"\0"),
    ]
    teredo = [
        *plain(teredo__auth=b"\0\1", teredo__auth__idlen=b"\2", teredo__auth__aulen=b"\3"),
        ids("teredo.auth.id", "a1a2"),
        ids("teredo.auth.value", "b1b2b3"),
        ids("teredo.auth.nonce", "0102030405060708"),
        *plain(teredo__auth__conf=b"\0", teredo__orig=b"\0\0"),
        Piece("teredo.orig.port", b"\x12\x34", "ports"),
        address("teredo.orig.addr", "f5fefdfc", NEITHER),
    ]
    segments = [
        *plain(ipv6__routing__nxt=b"\6", ipv6__routing__len=b"\2", ipv6__routing__type=b"\4"),
        *plain(ipv6__routing__segleft=b"\0", ipv6__routing__srh__last_entry=b"\0"),
        *plain(ipv6__routing__srh__flags=b"\0", ipv6__routing__srh__tag=b"\0\0"),
        address("ipv6.routing.srh.addr", "20010db8" + "33" * 12, NEITHER),
    ]
    atomic = [
        *plain(ipv6__fraghdr__nxt=b"\6", ipv6__fraghdr__reserved_octet=b"\0"),
        *plain(ipv6__fraghdr__offset=b"\0\0"),
        ids("ipv6.fraghdr.ident", "01020304"),
    ]
    pptp = [
        Piece("gre.flags_and_version", b"\x30\x81", place="transport"),
        *plain(gre__proto=b"\x88\x0b", gre__key__payload_length=b"\0\x40"),
        ids("gre.key.call_id", "0102"),
        ids("gre.sequence_number", "00000001"),
        ids("gre.ack_number", "00000002"),
        *plain(ppp__address=b"\xff", ppp__control=b"\3", ppp__protocol=b"\x21"),
    ]
    erspan = [
        ids("erspan.version", "1065", "f000"),
        ids("erspan.spanid", "c001", "fc00"),
        ids("erspan.index", "00084065"),
    ]
    erspan_3 = [
        ids("erspan.version", "2065", "f000"),
        ids("erspan.spanid", "c001", "fc00"),
        ids("erspan.timestamp", "00084065"),
        ids("erspan.sgt", "0102"),
        *plain(erspan__hw=b"\0\1"),
        ids("erspan.platid", "01020304"),
        ids("erspan", "05060708"),
    ]
    radiotap = [
        *plain(radiotap__version=b"\0", radiotap__pad=b"\0", radiotap__length=b"\x20\0"),
        *plain(radiotap__present__word=b"\x2f\x40\0\0", radiotap=bytes(0)),
        ids("radiotap.mactime", "0102030405060708"),
        *plain(radiotap__flags=b"\x20", radiotap__datarate=b"\2"),
        *plain(radiotap__channel__freq=b"\x6c\x09", radiotap__channel__flags=b"\xa0\0"),
        *plain(radiotap__dbm_antsignal=b"\xc8", radiotap=b"\0", radiotap__rxflags=b"\0\0"),
        Piece("radiotap", bytes(6)),
    ]
    radiotap = [piece for piece in radiotap if piece.data]
    quality = plain(wlan__qos=b"\0\0", wlan=b"\0\0")
    prism_names = [
        "hosttime",
        "mactime",
        "channel",
        "rssi",
        "sq",
        "signal",
        "noise",
        "rate",
        "istx",
        "frmlen",
    ]
    prism = plain(prism__msgcode=b"\x44\0\0\0", prism__msglen=b"\x90\0\0\0")
    prism += plain(prism__devname=b"wlan0".ljust(16, b"\0"))
    for number, name in enumerate(prism_names, 1):
        did = struct.pack("<I", 0x44 | number << 16)
        prism += plain(prism__did__type=did, prism__did__status=b"\0\0")
        prism += plain(prism__did__length=b"\4\0")
        value = Piece(f"prism.did.{name}", b"\1\2\3\4", "ids" if "time" in name else "")
        prism.append(value)
    station = wireless("0801", wireless_addresses("ra", "sa", "da"))
    nflog = [
        *plain(nflog__family=b"\2", nflog__version=b"\0", nflog__res_id=b"\0\0"),
        *plain(nflog__tlv_length=b"\5\0", nflog__tlv_type=b"\x0a\0", nflog__prefix=b"\0"),
        *plain(nflog__tlv=b"\0\0\0"),
        Piece("nflog.tlv_length", b"\x10\0"),
        Piece("nflog.tlv_type", b"\x08\0"),
        Piece(
            "nflog.tlv_value",
            bytes.fromhex("0006ffff02aabbccddee0000"),
            "addresses ids",
            side=NEITHER,
        ),
        Piece("nflog.tlv_length", b"\x38\0"),
        Piece("nflog.tlv_type", b"\x09\0"),
    ]
    ppi = [
        *plain(ppi__version=b"\0", ppi__flags=b"\0", ppi__length=b"\x10\0"),
        *plain(ppi__dlt=b"\1\0\0\0", ppi__field_type=b"\x08\0", ppi__field_len=b"\4\0"),
        Piece("ppi", b"\0\0\0\0"),
    ]
    hdlc = plain(chdlc__address=b"\x0f", chdlc__control=b"\0", chdlc__protocol=b"\x08\0")
    ppp = plain(ppp__address=b"\xff", ppp__control=b"\3", ppp__protocol=b"\0\x21")
    snap = [
        *ethernet("0800")[:2],
        Piece("eth.len", b"\0\x44"),
        *plain(llc__dsap=b"\xaa", llc__ssap=b"\xaa", llc__control=b"\3"),
        *plain(llc__oui=b"\0\0\0", llc__type=b"\x08\0"),
    ]
    outer, outer_ethernet = ethernet("0800"), ethernet("0800", "#1")

    def over_udp(ports: tuple[int, int], header: list[Piece], inner: list[Piece]) -> list[Piece]:
        return ip4(17, udp([*header, *inner], ports), "#1")

    return {
        "ipip": (1, [*outer, *ip4(4, session(), "#1")]),
        "6in4": (1, [*outer, *ip4(41, ip6(6, tcp()))]),
        "4in6": (1, [*ethernet("86dd"), *ip6(4, session())]),
        "three deep": (1, [*outer, *ip4(4, ip4(4, session(), "#2"), "#1")]),
        "udp in udp": (
            1,
            [
                *outer_ethernet,
                *ip4(
                    17,
                    udp([*vxlan, *ethernet("0800"), *ip4(17, udp(payload()))], (1, 4789), "#1"),
                    "#1",
                ),
            ],
        ),
        "gre": (1, [*outer, *ip4(47, gre("0800", session()), "#1")]),
        "gre without key": (1, [*outer, *ip4(47, gre("0800", session(), key=False), "#1")]),
        "gre ethernet": (1, [*outer_ethernet, *ip4(47, gre("6558", inner_ethernet), "#1")]),
        "gre mpls": (1, [*outer, *ip4(47, gre("8847", mpls(session(), ["00c0a1"])), "#1")]),
        "gre ppp": (1, [*outer, *ip4(47, gre("880b", [*ppp, *session()]), "#1")]),
        "gre aruba": (1, [*outer, *ip4(47, gre("8200", [*station, *session()]), "#1")]),
        "pptp": (1, [*outer, *ip4(47, [*pptp, *session()], "#1")]),
        "erspan II": (
            1,
            [
                *outer_ethernet,
                *ip4(
                    47,
                    [
                        Piece("gre.flags_and_version", b"\x10\0", place="transport"),
                        *plain(gre__proto=b"\x88\xbe"),
                        ids("gre.sequence_number", "00000007"),
                        *erspan,
                        *inner_ethernet,
                    ],
                    "#1",
                ),
            ],
        ),
        "erspan III": (
            1,
            [*outer_ethernet, *ip4(47, gre("22eb", [*erspan_3, *inner_ethernet]), "#1")],
        ),
        "vxlan": (1, [*outer_ethernet, *over_udp((50000, 4789), vxlan, inner_ethernet)]),
        "geneve": (1, [*outer_ethernet, *over_udp((50000, 6081), geneve, inner_ethernet)]),
        "gtp": (1, [*outer, *over_udp((2152, 2152), gtp, session())]),
        "teredo": (
            1,
            [*outer, *ip4(17, udp([*teredo, *ip6(6, tcp())], (3544, 50000)))],
        ),
        "mpls": (1, [*ethernet("8847"), *mpls(session(), ("00c0a0", "00c0a1"))]),
        "pseudowire": (
            1,
            [
                *ethernet("8847", "#1"),
                *mpls([]),
                *plain(pweth__cw=b"\0\0"),
                ids("pweth.cw.sequence_number", "0102"),
                *inner_ethernet,
            ],
        ),
        "pppoe": (1, [*ethernet("8864"), *pppoe(session())]),
        "pppoe vlan": (
            1,
            [*ethernet("8100"), *vlan("8100", "#1"), *vlan("8864"), *pppoe(session())],
        ),
        "provider tag": (
            1,
            [
                *ethernet("88a8"),
                ids("ieee8021ad.id", "6123", "f000"),
                Piece("ieee8021ah.etype", b"\x81\0"),
                *vlan("0800"),
                *session(),
            ],
        ),
        "snap": (1, [*snap, *session()]),
        "segment route": (1, [*ethernet("86dd"), *ip6(6, tcp(), extra=segments, first=43)]),
        "atomic fragment": (1, [*ethernet("86dd"), *ip6(6, tcp(), extra=atomic, first=44)]),
        "sctp": (1, [*outer, *ip4(132, sctp())]),
        "wireless": (105, [*station, *session()]),
        "wireless from": (
            105,
            [*wireless("0802", wireless_addresses("da", "ta", "sa")), *session()],
        ),
        "wireless between": (
            105,
            [*wireless("0803", wireless_addresses("ra", "ta", "da", "sa")), *session()],
        ),
        "wireless alone": (
            105,
            [*wireless("0800", wireless_addresses("da", "sa", "bssid")), *session()],
        ),
        "radiotap": (
            127,
            [*radiotap, *wireless("8801", wireless_addresses("ra", "sa", "da"), quality)]
            + session(),
        ),
        "prism": (119, [*prism, *station, *session()]),
        "ppi": (192, [*ppi, *outer, *session()]),
        "ppp": (9, [*ppp, *session()]),
        "ppp compressed": (9, [Piece("ppp.protocol", b"\x21"), *session()]),
        "ppp serial": (50, [*ppp, *session()]),
        "hdlc serial": (50, [*hdlc, *session()]),
        "hdlc": (104, [*hdlc, *session()]),
        "pppoe link": (51, [*pppoe(session())]),
        "pppd": (166, [*plain(ppp__address=b"\1", ppp__control=b"\3"), *ppp[2:], *session()]),
        "nflog": (239, [*nflog, *session()]),
        "enc": (
            109,
            [
                *plain(enc__af=b"\2\0\0\0"),
                ids("enc.spi", "01020304"),
                *plain(enc__flags=b"\0\0\0\0"),
                *session(),
            ],
        ),
    }
