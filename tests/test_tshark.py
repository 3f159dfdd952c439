"""Layers, session keys and byte ranges held to tshark's, on a few captures of each kind."""

import importlib.util
import pathlib
import shutil
import subprocess
from collections import Counter

import pytest
from capture_bytes import enhanced, interface, section
from layered_examples import examples
from layered_packets import to_row

from xai_traffic.capture.fields import dissect

FILE = pathlib.Path(__file__).parents[1] / "benchmarks" / "tshark.py"
CAPTURES = (
    "protocols/DNS/zeek__dns__ech.pcap",
    "protocols/DNS/zeek__dns-edns-ecs.pcap",
    "protocols/HTTP/suricata__http-evader__http-evader-017__input.pcap",
    "protocols/HTTP/zeek__http__multipart-form-data.pcap",
    "protocols/TLS/zeek__tls__openjdk-25.0.2-zeek.org.pcap",
    "protocols/TLS/suricata__tls__tls-random-6989__input.pcap",
    "hostile/PcapPlusPlus/Tests__Packet++Test__PacketExamples__gtp-u.pcap",
    "hostile/nDPI/someip_sd_sample.pcap",
    "hostile/suricata-verify/ipv6-evasion__ipv6-malformed-fragments-9__frag-9.pcap",
    "hostile/tcpdump/erspan-type-ii-2.pcap",
    "hostile/tcpdump/nflog.pcap",
    "hostile/tcpdump/vxlan.pcap",
    "hostile/zeek/mixed-vlan-mpls.pcap",
    "hostile/zeek/pppoe-over-qinq.pcap",
    "hostile/zeek/tunnels__gre-within-gre.pcap",
)
OWN = {  # names in the made packets for bytes to which tshark gives none, or others
    "payload",
    "radiotap",  # alignment, and what no field there is known for
    "wlan",  # padding behind the header
    "nflog.tlv",  # padding
    "erspan",  # the second half of a platform's own header, which it names by platform
    "ppi",  # the data of a field, which it names by the field's type
    "gtp.seq_number",  # not used by the flags of that header
    "gtp.npdu_number",
}
LARGER = {  # names for less than tshark gives them to: it has bits, or a whole with its parts
    "gtp.ext_hdr",
    "geneve.option",
    "mpls.label",
    "mpls.ttl",
    "pweth.cw",
    "teredo.auth",
    "teredo.orig",
}


@pytest.fixture(scope="module")
def tshark():
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    spec = importlib.util.spec_from_file_location("tshark", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_kind_of_layer_lies_where_tshark_has_it(tshark, tmp_path):
    made = examples()
    del made["pppd"]  # a link type that tshark does not read
    links = sorted({link for link, _ in made.values()})
    blocks = [section(), *(interface(link=link) for link in links)]
    for link, pieces in made.values():
        whole = b"".join(piece.data for piece in pieces)
        blocks.append(enhanced(whole, number=links.index(link)))
    path = tmp_path / "layers.pcapng"
    path.write_bytes(b"".join(blocks))
    read = list(tshark.tshark_packets(path))
    for (name, (link, pieces)), layers in zip(made.items(), read, strict=True):
        tile, row = to_row(link, pieces)
        assert tshark.layer_difference(row[0], tile[0].tobytes(), layers, None) == "", name
        theirs = tshark.field_ranges(layers, 256)
        for field in dissect(tile[0], row[0]):
            plain = field.name.partition("#")[0]
            if plain in OWN:
                continue
            names = (plain, *tshark.ALIASES.get(plain, ()))
            ranges = set().union(*(theirs.get(other, set()) for other in names))
            if plain in (*tshark.PARTS, *LARGER):
                within = [place for place in ranges if place[0] <= field.start < place[1]]
                protocol = theirs.get("pwethcw" if plain == "pweth.cw" else "teredo", set())
                assert within or protocol, (name, field)
            else:
                assert (field.start, field.end) in ranges, (name, field)


def test_numbers_of_layers_are_tsharks(tshark, tmp_path):
    """A filter with a layer's number finds the address of that layer and no other."""
    _, pieces = examples()["three deep"]
    whole = bytearray(b"".join(piece.data for piece in pieces))
    for number, start in enumerate((14, 34, 54), 1):
        whole[start + 15] = number  # the last byte of the source address
    path = tmp_path / "deep.pcapng"
    path.write_bytes(section() + interface() + enhanced(bytes(whole)))
    for number in (1, 2, 3):
        for other in (1, 2, 3):
            filter_ = f"ip.src#{number} == 10.1.2.{other}"
            command = ["tshark", "-n", "-r", str(path), "-Y", filter_]
            found = subprocess.run(command, capture_output=True, check=True).stdout
            assert bool(found) == (number == other), filter_


def test_captures_agree_with_tshark(tshark, captures):
    total = tshark.add(tshark.compare(name, captures / name) for name in CAPTURES)
    assert set(total["layers"]) == {""}
    assert total["layers"][""] == total["packets"] == total["tshark"] > 500
    for group in tshark.GROUPS:
        assert tshark.share(total["fields"], group) >= 0.999, (group, total["field_differences"])


def test_what_differs_is_told(tshark, captures, capsys):
    """Held to the wrong packets, ranges and keys are counted as different, by reason."""
    name = "hostile/tcpdump/vxlan.pcap"
    rows, tiles, _ = tshark.our_packets(captures / name)
    layers = next(iter(tshark.tshark_packets(captures / name)))
    row = rows[1].copy()
    assert tshark.layer_difference(row, tiles[1], layers, None) == ""
    row["depth"] = 2
    assert tshark.layer_difference(row, tiles[1], layers, None) == "depth 2, tshark 1"
    row["network"] = 15
    assert "no IP there" in tshark.layer_difference(row, tiles[1], layers, None)
    deeper = [*layers[:-1], layers[0]._replace(name="gre"), layers[1]._replace(start=99)]
    told = tshark.layer_difference(rows[1], tiles[1], deeper, None)
    assert "goes further in, through" in told and "gre" in told
    assert "dropped as not IP" in tshark.layer_difference(None, b"", layers, "not IP")
    shifted = [
        layer._replace(fields=[shown._replace(start=shown.start + 1) for shown in layer.fields])
        for layer in layers
    ]
    counts, reasons = tshark.compare_fields(rows[1], tiles[1], shifted)
    assert counts["IP", "differs"] > 30 and not counts["UDP", "agrees"]
    assert any(reason.startswith("ip.src, tshark has") for _, reason in reasons)
    total = tshark.add([tshark.compare(name, captures / name)])
    assert isinstance(total["fields"], Counter)
    tshark.print_table(total)
    assert "| IP |" in capsys.readouterr().out
