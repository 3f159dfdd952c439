"""Redaction: nothing that is written tells an address or a host name, and pseudonyms are stable."""

import base64
import ipaddress
import json
import pathlib
import re
import zlib

import pytest
from capture_bytes import ethernet, ipv4, pcap, tcp, udp
from explained_run import client_hello, make_run
from hypothesis import given
from hypothesis import strategies as st

from xai_traffic.capture.fields import Field, dissect
from xai_traffic.errors import RunError
from xai_traffic.report.explanations import explain_run
from xai_traffic.report.identities import Known, one_word_names, redacted, redacted_text
from xai_traffic.report.pseudonyms import Pseudonyms, read_key

KEY = b"a secret of no short length"
CLIENT, SERVER = "172.23.45.67", "198.51.99.7"
NAMES = ("vault.backoffice.acme-corp.example", "mx1.partner.example", "boss@acme-corp.example")


def write_capture(path: pathlib.Path) -> pathlib.Path:
    """Write sessions whose every way of naming hosts is known."""
    up = {"source": CLIENT, "destination": SERVER}
    down = {"source": SERVER, "destination": CLIENT}
    host = NAMES[0].encode()
    query = b"\1\2\1\0\0\1\0\1\0\0\0\0" + encoded(NAMES[0]) + b"\0\1\0\1"
    answer = query + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + ipaddress.ip_address(SERVER).packed
    mail = f"EHLO workstation7\r\nMAIL FROM:<{NAMES[2]}>\r\nfrom {CLIENT} by {NAMES[1]}\r\n"
    mail = (mail + "for workstation7\r\n").encode()
    page = b"GET /a/index.html HTTP/1.1\r\nHost: " + host + b":8080\r\nReferer: http://"
    page += NAMES[1].encode() + b"/\r\n\r\n"
    wide = NAMES[0].encode("utf-16-le")
    records = []
    for port, said in enumerate((client_hello(NAMES[0]), page, mail, b"\xff" * 7 + wide), 40000):
        records += [
            ethernet(ipv4(tcp(port, 443, flags=2), **up)),
            ethernet(ipv4(tcp(443, port, flags=0x12), **down)),
            ethernet(ipv4(tcp(port, 443, flags=0x18, data=said), **up)),
        ]
    records.append(ethernet(ipv4(udp(5300, 53, data=query), protocol=17, **up)))
    records.append(ethernet(ipv4(udp(53, 5300, data=answer), protocol=17, **down)))
    path.write_bytes(pcap(records))
    return path


def encoded(name: str) -> bytes:
    parts = (bytes([len(label)]) + label.encode() for label in name.split("."))
    return b"".join(parts) + b"\0"


def tell_tale() -> list[str]:
    """Return everything that must not be found, as it stands in texts, hex and dumps."""
    words = {CLIENT, SERVER, "workstation7"}
    for name in NAMES:
        words |= {word for word in re.split(r"[.@-]", name) if len(word) > 3}
    raw = [ipaddress.ip_address(one).packed for one in (CLIENT, SERVER)]
    return [*words, *(one.hex(" ") for one in raw), b"\4\4\4\4\4\4".hex(" ")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("redact")
    run = make_run(folder / "run", mask="ports", filter=f"host {CLIENT}")
    capture = write_capture(folder / f"{NAMES[0]}-{CLIENT}.pcap")
    for name, redact in (("plain", None), ("shared", Pseudonyms(KEY)), ("again", Pseudonyms(KEY))):
        explain_run(
            run, [capture], folder / name, sessions=range(5), methods=["gradient_x_input"],
            redact=redact,
        )  # fmt: skip
    return folder


def data_of(page: str) -> list[tuple[dict, bytes]]:
    """Return what the page's blocks unpack to: a JSON value, and captured bytes."""
    found = []
    for block in re.findall(r'class="data">("[^<]*")<', page):
        text, _, arrays = zlib.decompress(base64.b64decode(json.loads(block))).partition(b"\0")
        data = json.loads(text)
        found.append((data, arrays[: sum(packet["length"] for packet in data["packets"])]))
    return found


def written(folder: pathlib.Path) -> str:
    """Return all that a report says, texts of its blocks and hex dumps of their bytes among it."""
    page = (folder / "report.html").read_text("utf-8")
    # Base64 spells any short word by chance: what it holds is read below, unpacked.
    bare = re.sub(r'class="data">"[^"]*"|base64,[^"]*"', "", page)
    said = [bare, (folder / "explanations.jsonl").read_text("ascii")]
    for data, raw in data_of(page):
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in raw)
        said += [json.dumps(data), raw.hex(" "), text, text.replace(".", "")]
    return "\n".join(said).lower()


def test_nothing_that_is_written_names_a_host(made):
    plain, shared = written(made / "plain"), written(made / "shared")
    for word in tell_tale():
        assert word in plain or word == "workstation7", word
        assert word not in shared, word
    assert "redacted: addresses and host names are pseudonyms" in " ".join(shared.split())
    assert "redacted:" not in plain


def test_what_is_not_a_name_stays(made):
    lines = {
        name: [
            json.loads(line)
            for line in (made / name / "explanations.jsonl").read_text().splitlines()
        ]
        for name in ("plain", "shared")
    }
    for old, new in zip(lines["plain"], lines["shared"], strict=True):
        for key in ("session", "label", "probabilities", "first_time", "packets", "bytes"):
            assert old[key] == new[key]
        assert old["community_id"] and new["community_id"] is None
        assert new["capture"].endswith(".pcap")
        assert (old["redacted"], new["redacted"]) == (False, True)
        for name, method in old["methods"].items():
            assert method["fields"] == new["methods"][name]["fields"]
            assert method["metrics"] == new["methods"][name]["metrics"]
    said = (made / "shared" / "report.html").read_text("utf-8")
    assert "/a/index.html" in said and "TLS ClientHello" in said


def test_pseudonyms_are_stable_and_keyed(made):
    assert written(made / "shared") == written(made / "again")
    one, two = Pseudonyms(KEY), Pseudonyms()
    assert one.name(b"Example.ORG") == one.name(b"example.org") != two.name(b"example.org")
    assert one.name(b"www.example.org").endswith(one.name(b"example.org"))
    line = json.loads((made / "shared" / "explanations.jsonl").read_text().splitlines()[0])
    assert line["source"] == one.address_text(CLIENT)
    data, _ = data_of((made / "shared" / "report.html").read_text("utf-8"))[0]
    values = {data["names"][name]: value for name, _, value in data["packets"][0]["fields"]}
    # Table, lines and bytes call it the same.
    assert values["ip.src"] == line["source"] and values["ip.checksum"] == "0x0000"


def test_addresses_keep_their_kind():
    pseudonyms = Pseudonyms(KEY)
    for kept in ("0.0.0.0", "127.0.0.1", "255.255.255.255", "224.0.0.251", "::", "::1", "ff02::fb"):
        assert pseudonyms.address_text(kept) == kept
    assert ipaddress.ip_address(pseudonyms.address_text("8.8.8.8")) in ipaddress.ip_network(
        "240.0.0.0/4"
    )
    six = ipaddress.ip_address(pseudonyms.address_text("fe80::1234:56ff:fe78:9abc"))
    assert six in ipaddress.ip_network("2001:db8::/32")
    mapped = ipaddress.ip_address(pseudonyms.address_text("::ffff:8.8.8.8")).ipv4_mapped
    assert str(mapped) == pseudonyms.address_text("8.8.8.8")
    # Groups that repeat an address repeat none of it.
    asked = pseudonyms.address_text("ff02::1:ff78:9abc")
    assert asked.startswith("ff02::1:ff") and "78:9abc" not in asked
    assert pseudonyms.address(bytes.fromhex("3333ff789abc"))[:3].hex() == "3333ff"
    assert pseudonyms.address(bytes.fromhex("3333ff789abc"))[3:].hex() != "789abc"
    assert pseudonyms.address(bytes.fromhex("001122334455"))[0] == 2


def test_different_names_have_different_pseudonyms():
    pseudonyms = Pseudonyms(KEY)
    hosts = {pseudonyms.address(bytes([10, 0, a, b])) for a in range(64) for b in range(64)}
    names = {pseudonyms.name(b"h%d" % number) for number in range(1000, 3000)}
    assert len(hosts) == 4096 and len(names) == 2000


@pytest.mark.parametrize(
    "text, kept",
    [
        ("captures/10.1.2.3.pcap", "captures/%.pcap"),
        ("day-2026-01-01/Zeus.pcap.gz", "day-2026-01-01/Zeus.pcap.gz"),
        ("ip-10-1-2-3.pcap", "ip-%.pcap"),
        ("fe80::1 at 12:34:56", "% at 12:34:56"),
        ("mail.example.org.pcapng: cut at byte 1024", "%.pcapng: cut at byte 1024"),
    ],
)
def test_names_of_captures(text, kept):
    found = redacted_text(text, Pseudonyms(KEY))
    before, _, after = kept.partition("%")
    assert found.startswith(before) and found.endswith(after)
    assert (found == text) == ("%" not in kept)
    for name in ("10.1.2.3", "10-1-2-3", "fe80::1", "example"):
        assert name not in found


def test_netbios_names_are_found_encoded_and_plain():
    encoded_name = b"".join(
        bytes([65 + (value >> 4), 65 + (value & 15)]) for value in b"USER-PC".ljust(15) + b"\0"
    )
    data = (
        b"\x20" + encoded_name + b"\0 \\MAILSLOT\\BROWSE\0user-pc\0" + "USER-PC".encode("utf-16-le")
    )
    assert one_word_names(data) == {b"USER-PC"}
    pseudonyms = Pseudonyms(KEY)
    whole = [Field("payload", 0, len(data))]
    found = redacted(data, whole, Known(names=[b"USER-PC"]), pseudonyms)
    name = pseudonyms.name(b"user-pc")
    assert one_word_names(found) == {name} and found.count(name) == 1
    assert name.decode().encode("utf-16-le") in found and b"MAILSLOT" in found
    assert b"user-pc" not in found.lower() and len(found) == len(data)


@given(st.binary(max_size=256), st.integers(0, 255))
def test_any_bytes_keep_their_number(data, seed):
    row = {
        "length": len(data), "network": 14, "transport": 34, "payload": 54, "link": 1,
        "protocol": 6, "direction": 0, "outer": 65535, "flags": 0, "tunnel": 0, "depth": 0,
        "captured": len(data), "wire": len(data), "start": 0,
    }  # fmt: skip
    fields = dissect(data, row)
    assert len(
        redacted(data, fields, Known([bytes([seed, 1, 2, 3])], [b"abc"]), Pseudonyms(KEY))
    ) == len(data)
    whole = [Field("payload", 0, len(data))] if data else []
    assert len(redacted(data, whole, Known(), Pseudonyms(KEY))) == len(data)


def test_keys_are_read_or_refused(tmp_path):
    (tmp_path / "key").write_bytes(KEY + b"\n")
    assert read_key(tmp_path / "key") == KEY
    (tmp_path / "short").write_bytes(b"1234")
    with pytest.raises(RunError, match="4 bytes, and needs 16"):
        read_key(tmp_path / "short")
    with pytest.raises(RunError, match="cannot be read: No such file"):
        read_key(tmp_path / "none")
