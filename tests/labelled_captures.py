"""A folder of small labelled captures, and a check of the account of a dataset made of it."""

import gzip
import pathlib
import struct

from xai_traffic.capture.rules import ReadingRules

FIVE = ReadingRules(rule="five_tuple")


def packet(host: int, payload: bytes, *, back=False, port=443) -> bytes:
    """Return an Ethernet frame of a UDP packet between 10.0.0.`host` and a server."""
    client, server = bytes([10, 0, 0, host]), bytes([192, 0, 2, 1])
    ends = (server, client) if back else (client, server)
    ports = (port, 40000) if back else (40000, port)
    udp = struct.pack(">HHHH", *ports, 8 + len(payload), 0) + payload
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + b"".join(ends)
    return bytes(12) + b"\x08\x00" + ip + udp


ARP = bytes(12) + b"\x08\x06" + bytes(28)


def write_capture(path: pathlib.Path, frames: list[bytes], *, cut=0) -> pathlib.Path:
    """Write a pcap of the frames, without its last `cut` bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for second, frame in enumerate(frames):
        data += struct.pack("<IIII", second, 0, len(frame), len(frame)) + frame
    data = data[: len(data) - cut]
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_folder(captures: pathlib.Path) -> pathlib.Path:
    """Write two classes: web, two-way sessions; bot, with copies, a neighbour's image and ARP."""
    web = [frame for host in range(20) for frame in (packet(host, bytes([host])), ARP)]
    web += [packet(host, b"answer", back=True) for host in range(20)]
    write_capture(captures / "Benign" / "web.pcap", web)
    bot = [packet(host, b"beacon %d" % (host % 3)) for host in range(10)]
    bot += [packet(99, bytes([4])), packet(99, b"answer", back=True), ARP[:13]]
    write_capture(captures / "Malware" / "bot.pcap.gz", bot)
    return captures


def packets_in(manifest):
    return sum(row["packets"] for row in manifest["captures"])


def check_account(manifest):
    """Check the books from the manifest alone."""
    for row in [*manifest["captures"], *manifest["per_class"].values()]:
        assert row["packets"] == row["kept"]["packets"] + sum(row["dropped"].values())
        assert row["sessions"] == row["kept"]["sessions"] + sum(row["dropped_sessions"].values())
    of_classes = sum(row["packets"] for row in manifest["per_class"].values())
    assert of_classes == packets_in(manifest)
