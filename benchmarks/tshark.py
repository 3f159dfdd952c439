"""Hold what is read of captures to what tshark (Wireshark 4) reads of them, packet by packet.

    python benchmarks/tshark.py [FOLDER] [--every N] [--jobs N]

Two questions, of every capture in FOLDER (by default the one that XAI_TRAFFIC_CAPTURES names):

layers  Does each packet have its session's IP header where tshark has its innermost one, with the
        same addresses, protocol, transport header and ports, behind as many others?
fields  Do the byte ranges of `capture/fields.py` agree with tshark's (PDML's `pos` and `size`)
        within the 256 bytes of a tile? A byte agrees if tshark gives a field of the same name the
        same range. What is left out:  ranges within reassembled, decompressed or decrypted data
        (reassembly is switched off).

Prints a JSON line a capture that differs, one in all, then a table of the agreement and the
differences by reason.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import ipaddress
import json
import os
import pathlib
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from xai_traffic.capture import core_numpy
from xai_traffic.capture.core import core_name
from xai_traffic.capture.decode import decode
from xai_traffic.capture.field_options import IP_OPTIONS, TCP_OPTIONS
from xai_traffic.capture.fields import dissect
from xai_traffic.capture.filters import compile_filter
from xai_traffic.capture.formats import RecordReader
from xai_traffic.capture.octets import Dropped
from xai_traffic.capture.reader import find_captures, open_chunks
from xai_traffic.capture.records import NONE, PACKET, SCTP, TCP, TILE, UDP
from xai_traffic.errors import CaptureError

OPTIONS = (
    "ip.defragment:FALSE",
    "ipv6.defragment:FALSE",
    "tcp.desegment_tcp_streams:FALSE",
    "tcp.no_subdissector_on_error:FALSE",
    "tls.desegment_ssl_records:FALSE",
    "tls.desegment_ssl_application_data:FALSE",
    "http.decompress_body:FALSE",
    "http.dechunk_body:FALSE",
    "http.desegment_headers:FALSE",
    "http.desegment_body:FALSE",
    "wlan.defragment:FALSE",
)
"""Preferences that keep every field on the bytes of its own packet."""

TRANSPORTS = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}
GROUPS = ("Ethernet", "IP", "TCP", "UDP", "DNS", "TLS ClientHello", "HTTP head")
PREFIXES = {"eth": "Ethernet", "ip": "IP", "ipv6": "IP", "tcp": "TCP", "udp": "UDP", "dns": "DNS"}

ALIASES: dict[str, tuple[str, ...]] = {
    "ip.flags": ("ip.frag_offset",),  # two bytes: three flags, and the fragment offset
    "ip.rec_rt": ("ip.empty_rt", "ip.cur_rt"),  # the same places, not yet filled
    "ip.src_rt": ("ip.rec_rt", "ip.cur_rt"),  # the same places, already passed
}
"""Where a name of ours stands for bytes that tshark gives to fields of other names."""

PARTS = (
    # bits that fill no byte: ours is the byte that the field begins or ends with
    "tcp.flags",
    "ipv6.version",
    "ipv6.tclass",
    "ipv6.flow",
    # kind and length of an option go by its name, which tshark gives the option as a whole
    *TCP_OPTIONS.values(),
    *IP_OPTIONS.values(),
    "tcp.options",
    "tcp.options.unknown",
    "ip.opt.type",
    "ipv6.opt",
    # blanks and line ends of the first line, the empty line: bytes that have no field of their own
    "http",
)
"""Names of ours that lie within tshark's field of that name and do not fill it."""


class Layer(NamedTuple):
    """A protocol of a packet as tshark has it."""

    name: str
    start: int
    element: ElementTree.Element

    def show(self, *names: str) -> str | None:
        """Return what the last field of these names shows."""
        found = [
            field.get("show") for field in self.element.iter("field") if field.get("name") in names
        ]
        return found[-1] if found else None


def tshark_packets(path: pathlib.Path) -> Iterator[ElementTree.Element]:
    """Yield tshark's packets of a capture, each a PDML element."""
    command = ["tshark", "-n", "-r", str(path), "-T", "pdml"]
    command += [part for option in OPTIONS for part in ("-o", option)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            for _, element in ElementTree.iterparse(process.stdout):
                if element.tag == "packet":
                    yield element
                    element.clear()
        except ElementTree.ParseError:  # tshark refused the capture, or died over it
            process.kill()


def our_packets(path: pathlib.Path) -> tuple[dict[int, np.void], dict[int, bytes], dict[int, str]]:
    """Return PACKET rows and tiles by frame, and why the other frames were dropped."""
    if core_name() == "c":
        from xai_traffic.capture._core import Core
    else:
        Core = core_numpy.Core
    program = compile_filter("")
    program = program.code if core_name() == "c" else program
    core = Core("five_tuple", "all", program, TILE, 65_535, 0, 2**62, "inner", "keep", False)
    rows, tiles, dropped = {}, {}, {}
    records, read = RecordReader(), []
    try:
        for chunk in open_chunks(path):
            read.append(core.feed(chunk))
            for record in records.feed(chunk):
                try:
                    decode(record.link, record.data)
                except Dropped as reason:
                    dropped[record.frame] = str(reason)
    except CaptureError:
        pass  # what was read before the damage counts
    read.append(core.finish())
    for raw_tiles, raw_rows, _ in read:
        for number, row in enumerate(np.frombuffer(raw_rows, PACKET)):
            tiles[int(row["frame"])] = raw_tiles[number * TILE : (number + 1) * TILE]
            rows[int(row["frame"])] = row
    return rows, tiles, dropped


def layers_of(packet: ElementTree.Element) -> list[Layer]:
    """Return tshark's layers of a packet from the link layer on."""
    return [
        Layer(proto.get("name"), int(proto.get("pos") or 0), proto)
        for proto in packet.findall("proto")
        if proto.get("name") not in ("geninfo", "frame")
    ]


def layer_difference(row: Any, tile: bytes, layers: list[Layer], dropped: str | None) -> str:
    """Say how a packet's layers differ from tshark's, "" if they do not."""
    names = [layer.name for layer in layers]
    quoted = min((names.index(name) for name in ("icmp", "icmpv6") if name in names), default=None)
    ips = [layer for layer in layers[:quoted] if layer.name in ("ip", "ipv6")]
    if row is None:
        return f"dropped as {dropped}, tshark has IP ({names[-1]})" if ips else ""
    places = [layer.start for layer in ips]
    network = int(row["network"])
    if network not in places:
        return f"tshark has no IP there ({':'.join(names)})"
    index = places.index(network)
    if index + 1 < len(ips):
        between = names[layers.index(ips[index]) + 1 : layers.index(ips[index + 1])]
        return f"tshark goes further in, through {':'.join(between) or names[0]}"
    if index != int(row["depth"]):
        return f"depth {row['depth']}, tshark {index}"
    outer = int(row["outer"]) if index else network
    if outer != places[0]:
        return "outer IP header"
    return _ends_difference(row, tile, layers, ips[index])


def _ends_difference(row: Any, tile: bytes, layers: list[Layer], ip: Layer) -> str:
    network, transport = int(row["network"]), int(row["transport"])
    six = ip.name == "ipv6"
    first, size = (8, 16) if six else (12, 4)
    raw = tile[network + first : network + first + 2 * size]
    if len(raw) == 2 * size and network + first + 2 * size <= int(row["length"]):
        ours = [str(ipaddress.ip_address(raw[:size])), str(ipaddress.ip_address(raw[size:]))]
        theirs = [ip.show(f"{ip.name}.src"), ip.show(f"{ip.name}.dst")]
        if ours != theirs:
            return "addresses"
    protocol = int(row["protocol"])
    if not six and ip.show("ip.proto") != str(protocol):
        return "protocol"
    if transport == NONE or protocol not in TRANSPORTS:
        return ""
    name = TRANSPORTS[protocol]
    found = [layer for layer in layers if layer.name == name and layer.start == transport]
    if not found:
        behind = [layer.name for layer in layers[layers.index(ip) + 1 :]]
        return f"tshark has no {name} header there ({':'.join(behind)})"
    if transport + 4 <= int(row["length"]):
        ports = [int.from_bytes(tile[transport + at : transport + at + 2]) for at in (0, 2)]
        theirs = [found[0].show(f"{name}.srcport"), found[0].show(f"{name}.dstport")]
        if [str(port) for port in ports] != theirs:
            return "ports"
    return ""


def field_ranges(layers: list[Layer], length: int) -> dict[str, set[tuple[int, int]]]:
    """Return the ranges of tshark's fields in the tile by name."""
    ranges: dict[str, set[tuple[int, int]]] = collections.defaultdict(set)
    for layer in layers:
        for field in layer.element.iter():
            start, size = int(field.get("pos") or 0), int(field.get("size") or 0)
            if size and start < length:
                ranges[field.get("name")].add((start, min(start + size, length)))
    return ranges


def group_of(name: str, hello: bool) -> str | None:
    """Return the group that a field of ours is counted in."""
    name = name.partition("#")[0]
    protocol = name.partition(".")[0]
    if protocol == "tls":
        return "TLS ClientHello" if hello else None
    if protocol == "http":
        return None if name == "http.file_data" else "HTTP head"
    return PREFIXES.get(protocol)


def hello_ranges(fields: list, tile: bytes) -> list[tuple[int, int]]:
    """Return the ranges of TLS records that begin with a ClientHello."""
    found, begin = [], None
    for field in fields:
        if field.name == "tls.record.content_type":
            begin = field.start
            end = begin + 5 + int.from_bytes(tile[begin + 3 : begin + 5])
        if field.name == "tls.handshake.type" and tile[field.start] == 1 and begin is not None:
            found.append((begin, end))
    return found


def compare_fields(row: Any, tile: bytes, layers: list[Layer]) -> tuple[Counter, Counter]:
    """Count bytes of a tile: (group, agrees) and (group, reason)."""
    length = int(row["length"])
    theirs = field_ranges(layers, length)
    fields = dissect(tile, row)
    hellos = hello_ranges(fields, tile)
    counts, reasons = Counter(), Counter()
    for field in fields:
        hello = any(start <= field.start < end for start, end in hellos)
        group = group_of(field.name, hello)
        if group is None:
            continue
        size, name = field.end - field.start, field.name.partition("#")[0]
        protocol = name.partition(".")[0]
        known = [theirs.get(alias, set()) for alias in (name, *ALIASES.get(name, ()))]
        within = name in PARTS and any(
            start <= field.start and field.end <= end for start, end in known[0]
        )
        if within or any((field.start, field.end) in ranges for ranges in known):
            counts[group, "agrees"] += size
        elif not any(other.partition(".")[0] == protocol for other in theirs):
            counts[group, "not in tshark"] += size
            last = layers[-1].name if layers else "nothing"
            reasons[group, f"tshark sees no {protocol} but {last}"] += size
        else:
            counts[group, "differs"] += size
            there = [
                other
                for other, ranges in theirs.items()
                if other and any(start <= field.start < end for start, end in ranges)
            ]
            narrow = min(
                there,
                key=lambda other: min(e - s for s, e in theirs[other] if s <= field.start < e),
                default="nothing",
            )
            reasons[group, f"{name}, tshark has {narrow}"] += size
    return counts, reasons


def compare(name: str, path: pathlib.Path) -> dict[str, Any]:
    """Return what there is to say about one capture."""
    rows, tiles, dropped = our_packets(path)
    result: dict[str, Any] = {"capture": name, "packets": len(rows) + len(dropped), "tshark": 0}
    differences, counts, reasons, examples = Counter(), Counter(), Counter(), {}
    for frame, packet in enumerate(tshark_packets(path), 1):
        result["tshark"] += 1
        layers = layers_of(packet)
        row, tile = rows.get(frame), tiles.get(frame, b"")
        if row is None and frame not in dropped:
            differences["tshark reads packets behind the fault, or fragments are held"] += 1
            continue
        difference = layer_difference(row, tile, layers, dropped.get(frame))
        differences[difference] += 1
        examples.setdefault(difference, frame)
        if row is not None and not difference:
            more, why = compare_fields(row, tile, layers)
            for key in why:
                examples.setdefault(f"{key[0]}: {key[1]}", frame)
            counts += more
            reasons += why
    result["layers"] = dict(differences)
    result["fields"] = {f"{group}: {kind}": number for (group, kind), number in counts.items()}
    result["field_differences"] = {f"{group}: {why}": n for (group, why), n in reasons.items()}
    result["frames"] = {reason: frame for reason, frame in examples.items() if reason}
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("XAI_TRAFFIC_CAPTURES", "../shared/data")
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=pathlib.Path(default))
    parser.add_argument("--every", type=int, default=1, help="take every Nth capture only")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if shutil.which("tshark") is None:
        print("tshark is not installed: apt-get install tshark", file=sys.stderr)
        return 1
    captures = find_captures([arguments.folder])[:: arguments.every]
    total: dict[str, Counter] = collections.defaultdict(Counter)
    with concurrent.futures.ProcessPoolExecutor(arguments.jobs) as pool:
        for result in pool.map(compare, *zip(*captures, strict=True)):
            print(json.dumps(result))
            for part in ("layers", "fields", "field_differences"):
                total[part].update(result[part])
    for part in total:
        print(part)
        for key, n in total[part].most_common(70):
            print(f"{n:9,d} {key}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
