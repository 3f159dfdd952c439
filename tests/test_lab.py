"""Known-answer captures: valid, reproducible, and with the evidence where the list says."""

import hashlib
import json
import random
import shutil
import struct
import subprocess

import dpkt
import numpy as np
import pytest

from xai_traffic.capture.fields import dissect
from xai_traffic.capture.records import GRID, TILE
from xai_traffic.capture.sessions import read_capture
from xai_traffic.demo import FAMILIES as SIX
from xai_traffic.errors import ConfigError
from xai_traffic.lab.families import BY_NAME, FAMILIES
from xai_traffic.lab.hosts import CLIENTS
from xai_traffic.lab.packets import checksum
from xai_traffic.lab.sessions import START_NS
from xai_traffic.lab.write import write_lab

SESSIONS = 12
WARNING = 0x600000  # severity of experts, Wireshark's PI_WARN
TWINS = [
    ("web", "beacon"),
    ("mail", "exploit"),
    ("dns", "tunnel"),
    ("https", "tls-beacon"),
    ("chat", "bot"),
    ("files", "exfiltration"),
]
PROTOCOLS = {
    "chat": "irc",
    "database": "pgsql",
    "dns": "dns",
    "files": "http",
    "https": "tls",
    "mail": "smtp",
    "peers": "bittorrent",
    "ssh": "ssh",
    "web": "http",
}
NAMES = [f"{family.group}/{family.name}.pcap" for family in FAMILIES]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return write_lab(tmp_path_factory.mktemp("lab") / "lab", sessions_per_family=SESSIONS)


@pytest.fixture(scope="module")
def lines(lab):
    text = (lab / "evidence.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rule", ["connection", "five_tuple", "pcapsplitter"])
def test_captures_hold_the_promised_sessions(lab, name, rule):
    sessions = read_capture(lab / name, rule=rule)
    assert sessions.fault is None and sessions.dropped == {}
    assert sessions.table.num_rows == SESSIONS
    assert max(sessions.table["packets"].to_pylist()) <= GRID
    first = sessions.table["first_time"].to_pylist()
    last = sessions.table["last_time"].to_pylist()
    assert first == sorted(first) and first[1] > first[0]
    assert any(begin < end for begin, end in zip(first[1:], last, strict=False)), "none overlap"


@pytest.mark.parametrize("name", NAMES)
def test_evidence_is_where_the_list_says(lab, lines, name):
    sessions = read_capture(lab / name)
    places = {(row["session"], row["packet"]): row for row in sessions.packets.to_pylist()}
    tiles = {
        (row["session"], row["packet"]): tile
        for row, tile in zip(sessions.packets.to_pylist(), sessions.tiles, strict=True)
    }
    mine = [line for line in lines if line["capture"] == name]
    for line in mine:
        key = line["session"], line["packet"]
        assert line["packet"] < GRID and line["end"] <= TILE
        assert places[key]["frame"] == line["frame"]
        tile = tiles[key]
        assert tile[line["start"] : line["end"]].tobytes().hex() == line["bytes"]
        (field,) = (
            field.name
            for field in dissect(tile, places[key])
            if field.start <= line["start"] and line["end"] <= field.end
        )
        assert field == line["field"]
        assert name.split("/")[1] == f"{line['family']}.pcap"
    planted = {line["session"] for line in mine}
    if name.startswith("Malware/") or name == "Benign/web.pcap":
        assert planted == set(range(SESSIONS))
    whole = b"".join(tile.tobytes() for tile in tiles.values())
    for other in {line["bytes"] for line in lines} - {line["bytes"] for line in mine}:
        assert bytes.fromhex(other) not in whole


@pytest.mark.parametrize("benign, malware", TWINS)
def test_twins_differ_in_their_plants_alone(benign, malware):
    one, other = BY_NAME[benign], BY_NAME[malware]
    assert (one.group, other.group) == ("Benign", "Malware")
    for number in range(20):
        left, right = (
            family.session(random.Random(number), CLIENTS[number], 40000, START_NS)
            for family in (one, other)
        )
        planted = 0
        for mine, theirs in zip(left, right, strict=True):
            assert mine.time_ns == theirs.time_ns and len(mine.data) == len(theirs.data)
            slots = [range(mark.start, mark.end) for mark in mine.marks + theirs.marks]
            planted += len(theirs.marks)
            checksums = (40, 41) if mine.data[23] == 17 else (50, 51)
            for place, (a, b) in enumerate(zip(mine.data, theirs.data, strict=True)):
                assert a == b or place in checksums or any(place in slot for slot in slots)
        assert planted


def test_twins_share_hosts_times_and_sizes(lab):
    for benign, malware in TWINS:
        one = read_capture(lab / f"Benign/{benign}.pcap").table
        other = read_capture(lab / f"Malware/{malware}.pcap").table
        for column in ("source", "source_port", "first_time"):
            pairs = zip(one[column].to_pylist(), other[column].to_pylist(), strict=True)
            assert all(left == right for left, right in pairs)
        means = [np.mean(table["packets"].to_numpy()) for table in (one, other)]
        assert 0.5 < means[0] / means[1] < 2


def test_same_seed_same_bytes(lab, tmp_path):
    again = write_lab(tmp_path / "again", sessions_per_family=SESSIONS)
    other = write_lab(tmp_path / "other", sessions_per_family=SESSIONS, seed=1)
    for name in (*NAMES, "evidence.jsonl", "lab.json"):
        assert (again / name).read_bytes() == (lab / name).read_bytes()
        assert (other / name).read_bytes() != (lab / name).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_dpkt_reads_valid_packets(lab, name):
    expected = {}
    with open(lab / name, "rb") as file:
        for _, raw in dpkt.pcap.Reader(file):
            ip = dpkt.ethernet.Ethernet(raw).data
            segment = ip.data
            assert ip.len == len(raw) - 14 and checksum(raw[14:34]) == 0
            pseudo = ip.src + ip.dst + struct.pack(">HH", ip.p, ip.len - 20)
            assert checksum(pseudo + raw[34:]) == 0
            if isinstance(segment, dpkt.tcp.TCP):
                key = (ip.src, segment.sport, ip.dst, segment.dport)
                assert segment.seq == expected.get(key, segment.seq)
                count = len(segment.data) + bool(segment.flags & 3)
                expected[key] = (segment.seq + count) % (1 << 32)
                if segment.flags & 16:
                    assert segment.ack == expected[key[2:] + key[:2]]


@pytest.mark.parametrize("name", NAMES)
def test_wireshark_finds_nothing_wrong(lab, name):
    tshark = shutil.which("tshark")
    if tshark is None:
        pytest.skip("tshark is not installed")
    checks = [
        option
        for protocol in ("ip", "tcp", "udp")
        for option in ("-o", f"{protocol}.check_checksum:TRUE")
    ]
    columns = ("_ws.malformed", "_ws.expert.severity", "_ws.expert.message", "tcp.analysis.flags")
    columns += ("ip.checksum.status", "tcp.checksum.status", "udp.checksum.status")
    columns += ("frame.protocols", "tcp.stream", "udp.stream")
    fields = [option for column in columns for option in ("-e", column)]
    command = [tshark, "-r", str(lab / name), *checks, "-T", "fields", "-E", "separator=|", *fields]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    spoken = set()
    for line in result.stdout.splitlines():
        malformed, severity, words, analysis, ip, tcp, udp, protocols, *streams = line.split("|")
        assert not malformed and not analysis and {ip, tcp, udp} - {""} == {"1"}
        # tshark does not decode the signatures of SSH, and says so
        assert "Decoded" in words or not severity or int(severity.split(",")[0]) < WARNING, words
        talk = BY_NAME[name.split("/")[1].removesuffix(".pcap")].talk
        if PROTOCOLS[talk.__name__] in protocols.split(":"):
            spoken.add(tuple(streams))
    assert len(spoken) == SESSIONS


def test_the_first_six_families_stay_as_they_are(tmp_path):
    lab = write_lab(tmp_path / "lab", sessions_per_family=3, seed=2, families=SIX)
    digest = hashlib.sha256()
    for path in sorted(lab.rglob("*.pcap")):
        digest.update(path.read_bytes())
    assert sum(1 for _ in lab.rglob("*.pcap")) == 6
    assert digest.hexdigest() == "a096db25e38612f0a1cd11026ce142f08c23f1f5cdd4d9d0d448f0b854ac593e"


def test_a_full_disk_is_told_with_the_folder(small_disk):
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "filler").write_bytes(bytes(9 << 20))
    with pytest.raises(ConfigError, match=r"disk/lab could not be written: .*No space left"):
        write_lab(small_disk / "lab", sessions_per_family=2)
    assert [entry.name for entry in small_disk.iterdir()] == ["filler"]


def test_a_folder_that_exists_is_left_alone(lab, tmp_path, monkeypatch):
    before = (lab / NAMES[0]).read_bytes()
    with pytest.raises(ConfigError, match="exists"):
        write_lab(lab)
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("evidence.jsonl", "thesis.tex"):
        (mine / name).write_text("years of work")
    with pytest.raises(ConfigError, match=r"something other than lab captures \(thesis.tex\)"):
        write_lab(mine, overwrite=True)
    assert (mine / "thesis.tex").exists()
    assert (lab / NAMES[0]).read_bytes() == before
    out = write_lab(tmp_path / "lab", sessions_per_family=1)
    write_lab(out, sessions_per_family=2, overwrite=True)
    assert read_capture(out / NAMES[0]).table.num_rows == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lab", "mine"]

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("xai_traffic.lab.write.evidence", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_lab(out, overwrite=True)
    assert read_capture(out / NAMES[0]).table.num_rows == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lab", "mine"]
    with pytest.raises(ConfigError, match="sessions_per_family"):
        write_lab(tmp_path / "none", sessions_per_family=0)
