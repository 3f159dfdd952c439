"""Real captures of tunnels, fragments and odd link layers, with what tshark 4 finds in them."""

import collections

import numpy as np
import pytest
from both_cores import CORES, check_invariants, run

from xai_traffic.capture.reader import open_chunks
from xai_traffic.capture.records import DROPS, FRAGMENT, NONE, TUNNELS

CASES = {  # capture: (sessions, packets kept, by tunnel, deepest, fragments, dropped)
    "PcapPlusPlus/Tests__Packet++Test__PacketExamples__gtp-u.pcap": (
        1,
        102,
        {"gtp": 102},
        1,
        0,
        {},
    ),
    "PcapPlusPlus/Tests__Packet++Test__PacketExamples__GrePackets.pcap": (
        6,
        7,
        {"gre": 5},
        2,
        0,
        {},
    ),
    "PcapPlusPlus/Tests__Pcap++Test__PcapExamples__frag_with_padding.pcap": (1, 8, {}, 0, 8, {}),
    "PcapPlusPlus/Tests__Pcap++Test__PcapExamples__ip6_fragments.pcap": (2, 36, {}, 0, 36, {}),
    "chrissanders/3e80211_wpaauth.pcapng": (0, 0, {}, 0, 0, {"not IP": 11, "encrypted": 1}),
    "chrissanders/ip_frag_source.pcapng": (1, 6, {}, 0, 6, {}),
    "nDPI/6in4tunnel.pcap": (10, 127, {"6in4": 127}, 1, 0, {}),
    "nDPI/dlt_ppp.pcap": (1, 1, {}, 0, 0, {}),
    "nDPI/someip_sd_sample.pcap": (2, 6, {}, 0, 0, {}),  # PPI
    "nDPI/vxlan.pcap": (4, 127, {"vxlan": 127}, 1, 0, {}),
    "tcpdump/HDLC.pcap": (1, 10, {}, 0, 0, {"not IP": 28}),
    "tcpdump/erspan-type-i-4.pcap": (5, 112, {"gre": 96}, 1, 0, {"not IP": 7}),
    "tcpdump/nflog.pcap": (4, 4, {}, 0, 0, {}),
    "tcpdump/vxlan.pcap": (3, 10, {"vxlan": 8}, 1, 0, {}),
    "zeek/erspanIII.pcap": (1, 2, {"gre": 2}, 1, 0, {}),
    "zeek/radiotap.pcap": (2, 3, {}, 0, 0, {}),
    "zeek/tunnels__6in6in6.pcap": (1, 1, {"6in4": 1}, 2, 0, {}),
    "zeek/tunnels__gre-within-gre.pcap": (3, 628, {"gre": 628}, 2, 0, {}),
    "zeek/tunnels__gtp__gtp1_gn_normal_incl_fragmentation.pcap": (1, 108, {"gtp": 108}, 1, 76, {}),
    "zeek/tunnels__vxlan-triple-v2.pcap": (1, 1, {"vxlan": 1}, 3, 0, {}),
    "zeek/wlanmon.pcap": (2, 3, {}, 0, 0, {}),
}


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", CASES)
def test_real_captures(captures, core, name):
    sessions, kept, tunnelled, deepest, fragments, dropped = CASES[name]
    data = b"".join(bytes(chunk) for chunk in open_chunks(captures / "hostile" / name))
    result = run(core, data, limit=1000)
    check_invariants(result, limit=1000)
    rows = result.table()
    assert len(result.sessions()) == sessions and len(rows) == kept
    kinds = collections.Counter(TUNNELS[kind] for kind in rows["tunnel"] if kind)
    assert kinds == tunnelled and rows["depth"].max(initial=0) == deepest
    assert (rows["flags"] & FRAGMENT != 0).sum() == fragments
    assert {name: n for name, n in zip(DROPS, result.dropped, strict=True) if n} == dropped
    # Where the tiles say that an IP header is, there is one.
    tiles = np.frombuffer(result.tiles, np.uint8).reshape(-1, 256)
    for field in ("network", "outer"):
        there = rows[field] < 256
        versions = tiles[there, rows[field][there]] >> 4
        assert np.isin(versions, (4, 6)).all()
    assert (rows["network"] != NONE).all()
