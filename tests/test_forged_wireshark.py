"""Forged captures before tshark: nothing malformed, no wrong checksum, TCP analysed as it was."""

import re
import shutil
import subprocess

import pytest
from whole_packets import whole_packets

from xai_traffic.lab.write import write_lab

FIELDS = (
    "ip.checksum.status",
    "tcp.checksum.status",
    "udp.checksum.status",
    "icmp.checksum.status",
    "_ws.malformed",
    "_ws.expert.message",
    "frame.protocols",
    "frame.time_delta",
    "tcp.stream",
    "tcp.seq",
    "tcp.ack",
    "tcp.len",
    "tcp.window_size",
    "tcp.analysis.flags",
    "tcp.analysis.ack_rtt",
    "tcp.options.sack_le",
    "tcp.options.sack_re",
    "tcp.options.timestamp.tsval",
    "tcp.payload",
    "udp.stream",
    "udp.payload",
)
TIMES = FIELDS.index("tcp.options.timestamp.tsval")
CAPTURES = (
    "protocols/DNS/zeek__dns__ech.pcap",
    "protocols/HTTP/zeek__http__multipart-form-data.pcap",
    "protocols/TLS/zeek__tls__chrome-1250-tls-x25519-kyber.pcap",
    "hostile/nDPI/rtsp.pcap",
    "hostile/PcapPlusPlus/Tests__Pcap++Test__PcapExamples__sll.pcap",
    "hostile/zeek/mixed-vlan-mpls.pcap",
)


@pytest.fixture(scope="module")
def tshark():
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")

    def told(path, data: bytes) -> list[list[str]]:
        path.write_bytes(data)
        command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=|"]
        for protocol in ("ip", "tcp", "udp"):
            command += ["-o", f"{protocol}.check_checksum:TRUE"]
        for field in FIELDS:
            command += ["-e", field]
        done = subprocess.run(command, capture_output=True, check=True)
        lines = done.stdout.decode(errors="replace").splitlines()
        return [_without_values(line).split("|") for line in lines]

    return told


def _without_values(line: str) -> str:
    """Leave out the checksum that ought to stand there, and the port of the server."""
    return re.sub(r"(should be |server port )\w+", "", line)


@pytest.mark.parametrize("family", ["web", "dns", "https", "peers", "files"])
def test_forged_sessions_of_a_lab_are_valid(tshark, tmp_path, family):
    write_lab(tmp_path / "lab", sessions_per_family=8, families=(family,))
    whole = whole_packets(tmp_path / "lab" / "Benign" / f"{family}.pcap")
    before = tshark(tmp_path / "a.pcap", whole.capture(whole.wide))
    after = tshark(tmp_path / "b.pcap", whole.capture(whole.forged().tiles))
    assert len(before) == len(after) == len(whole.rows) > 0
    for line in after:
        assert line[0] == "1" and {line[1], line[2]} in ({"1", ""},) and line[4] == ""
    assert _same(before) == _same(after)


@pytest.mark.parametrize("name", CAPTURES)
def test_forged_captures_are_to_tshark_what_they_were(tshark, captures, tmp_path, name):
    whole = whole_packets(captures / name)
    before = tshark(tmp_path / "a.pcap", whole.capture(whole.wide))
    after = tshark(tmp_path / "b.pcap", whole.capture(whole.forged(seed=5).tiles))
    assert len(before) == len(whole.rows) > 0
    assert _same(before) == _same(after)
    stamps = [[line[TIMES] for line in lines] for lines in (before, after)]
    assert not any(one and one == two for one, two in zip(*stamps, strict=True))


def test_offloaded_checksums_are_wrong_on_one_side_alone(tshark, tmp_path):
    write_lab(tmp_path / "lab", sessions_per_family=4, families=("web",))
    whole = whole_packets(tmp_path / "lab" / "Benign" / "web.pcap")
    forged = whole.forged("addresses", checksums="offloaded").tiles
    lines = tshark(tmp_path / "a.pcap", whole.capture(forged))
    order = whole.rows["frame"].argsort()
    for line, side in zip(lines, whole.rows["direction"][order], strict=True):
        assert line[0] == "1" and line[1] == ("0" if side == 0 else "1")


def _same(lines: list[list[str]]) -> list[list[str]]:
    return [line[:TIMES] + line[TIMES + 1 :] for line in lines]
