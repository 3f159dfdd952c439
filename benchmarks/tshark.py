"""Hold what is read of captures to what tshark (Wireshark 4) reads of them, packet by packet.

    python benchmarks/tshark.py [FOLDER] [--every N] [--jobs N]

Two questions, of every capture in FOLDER (by default the one that XAI_TRAFFIC_CAPTURES names):

layers  Does each packet have its session's IP header where tshark has its innermost one, with the
        same addresses, protocol, transport header and ports, behind as many others?
fields  Do the byte ranges of `capture/fields/` agree with tshark's (PDML's `pos` and `size`)
        within the 256 bytes of a tile? A byte agrees if tshark gives a field of the same name the
        same range; ALIASES and PARTS list the names that are cut otherwise. Bytes of a message
        that tshark does not dissect, or not to its end as the packet cuts it, are counted apart.
        Nothing is reassembled, decompressed or dechunked.

Prints a JSON line a capture that differs, one in all, then the agreement and the reasons.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import ipaddress
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from xai_traffic import __version__
from xai_traffic.capture import core_numpy
from xai_traffic.capture.core import core_name
from xai_traffic.capture.core_numpy.decode import decode
from xai_traffic.capture.core_numpy.formats import RecordReader
from xai_traffic.capture.core_numpy.octets import Dropped
from xai_traffic.capture.fields import dissect
from xai_traffic.capture.fields.options import IP_OPTIONS, TCP_OPTIONS
from xai_traffic.capture.filters import compile_filter
from xai_traffic.capture.reader import find_captures, open_chunks
from xai_traffic.capture.records import FRAGMENT, NONE, PACKET, SCTP, TCP, TILE, UDP
from xai_traffic.errors import CaptureError

OPTIONS = (
    *("ip.defragment:FALSE", "ipv6.defragment:FALSE", "wlan.defragment:FALSE"),
    "tcp.desegment_tcp_streams:FALSE",
    "tcp.no_subdissector_on_error:FALSE",
    *("tls.desegment_ssl_records:FALSE", "tls.desegment_ssl_application_data:FALSE"),
    *("http.decompress_body:FALSE", "http.dechunk_body:FALSE"),
    "http.desegment_headers:FALSE",
    "http.desegment_body:FALSE",
)
"""Preferences that keep every field on the bytes of its own packet."""

TRANSPORTS = {TCP: "tcp", UDP: "udp", SCTP: "sctp"}
GROUPS = ("Ethernet", "IP", "TCP", "UDP", "DNS", "TLS ClientHello", "HTTP head")
PREFIXES = {
    **{"eth": "Ethernet", "tcp": "TCP", "mptcp": "TCP", "udp": "UDP", "dns": "DNS"},
    **dict.fromkeys(("ip", "ipv6", "mip6", "ah"), "IP"),
}

ALIASES: dict[str, tuple[str, ...]] = {
    "ip.flags": ("ip.frag_offset",),  # two bytes: three flags, and the fragment offset
    "ip.rec_rt": ("ip.empty_rt", "ip.cur_rt"),  # the same places, not yet filled
    "ip.src_rt": ("ip.rec_rt", "ip.cur_rt"),  # the same places, already passed
    "dns.resp.name": ("dns.srv.service",),  # the name of a service, which tshark splits
    "http": ("ssdp",),
}
"""Names of ours for bytes that tshark gives to fields of other names."""

PARTS = (
    # bits that fill no byte: ours is the byte that the field begins or ends with
    *("tcp.flags", "ipv6.version", "ipv6.tclass", "ipv6.flow"),
    # kind and length of an option go by its name, which tshark gives the option as a whole
    *TCP_OPTIONS.values(),
    *IP_OPTIONS.values(),
    *("tcp.options", "tcp.options.unknown", "ip.opt.type", "ipv6.opt", "mip6"),
    # blanks and line ends of the first line, the empty line: bytes that have no field of their own
    "http",
)
"""Names of ours that lie within tshark's field of that name and do not fill it."""


CUT = ("_ws.malformed", "_ws.short", "_ws.unreassembled")
"""What tshark puts behind a message that is damaged, or goes on behind the packet."""


class Shown(NamedTuple):
    """A field of a packet as tshark has it."""

    name: str
    start: int
    end: int
    show: str


class Layer(NamedTuple):
    """A protocol of a packet as tshark has it."""

    name: str
    start: int
    fields: list[Shown]

    def show(self, *names: str) -> str | None:
        """Return what the last field of these names shows."""
        found = [field.show for field in self.fields if field.name in names]
        return found[-1] if found else None


# A line of PDML. Not a parser of XML: of some packets tshark writes none that one would read.
LINE = re.compile(
    rb'^( *)<(proto|field) name="([^"]*)"(?: showname="[^"]*")?(?: hide="yes")?'
    rb' size="(\d+)" pos="(\d+)"(?: show="([^"]*)")?',
    re.MULTILINE,
)


def tshark_packets(path: pathlib.Path) -> Iterator[list[Layer]]:
    """Yield tshark's layers of each packet of a capture, from the link layer on."""
    command = ["tshark", "-n", "-r", str(path), "-T", "pdml"]
    command += [part for option in OPTIONS for part in ("-o", option)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        held = b""
        while chunk := process.stdout.read(1 << 20):
            *packets, held = (held + chunk).split(b"</packet>")
            yield from map(layers_of, packets)


def layers_of(packet: bytes) -> list[Layer]:
    """Return the layers in the PDML of a packet."""
    layers: list[Layer] = []
    for indent, kind, name, size, start, show in LINE.findall(packet):
        field = Shown(name.decode(), int(start), int(start) + int(size), show.decode("latin-1"))
        if kind == b"proto" and len(indent) == 2:
            layers.append(Layer(field.name, field.start, []))
        layers[-1].fields.append(field)
    return [layer for layer in layers if layer.name != "frame"]


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
    for raw_tiles, raw_rows, _ in ((bytes(part) for part in batch) for batch in read):
        for number, row in enumerate(np.frombuffer(raw_rows, PACKET)):
            tiles[int(row["frame"])] = raw_tiles[number * TILE : (number + 1) * TILE]
            rows[int(row["frame"])] = row
    return rows, tiles, dropped


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
    if int(row["transport"]) == NONE and int(row["flags"]) & FRAGMENT:
        return ""  # a later fragment: depth and protocol are those of its first one
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
        for name, start, end, _ in layer.fields:
            if start < end and start < length:
                ranges[name].add((start, min(end, length)))
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
    found, begin = [], 0
    for field in fields:
        if field.name == "tls.record.content_type":
            begin = field.start
        if field.name == "tls.handshake.type" and tile[field.start] == 1:
            found.append((begin, begin + 5 + int.from_bytes(tile[begin + 3 : begin + 5])))
    return found


def compare_fields(row: Any, tile: bytes, layers: list[Layer]) -> tuple[Counter, Counter]:
    """Count bytes of a tile: (group, agrees) and (group, reason)."""
    length = int(row["length"])
    theirs = field_ranges(layers, length)
    fields = dissect(tile, row)
    hellos = hello_ranges(fields, tile)
    names = [layer.name for layer in layers] or ["nothing"]
    cut = [field.name for layer in layers for field in layer.fields if field.name in CUT]
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
            start <= field.start and field.end <= end for ranges in known for start, end in ranges
        )
        unnamed = name == "dns.data" and _narrowest(theirs, field.start) == protocol
        own = [ranges for other, ranges in theirs.items() if other.startswith(f"{protocol}.")]
        if within or unnamed or any((field.start, field.end) in ranges for ranges in known):
            counts[group, "agrees"] += size
        elif not own:
            counts[group, "unseen"] += size
            reasons[group, f"unseen: tshark has no {protocol} here, but {names[-1]}"] += size
        elif cut and field.start >= _end_of_leaves(own):
            counts[group, "unseen"] += size
            reasons[group, f"unseen: tshark stops in a message that is cut ({cut[-1]})"] += size
        else:
            counts[group, "differs"] += size
            reasons[group, f"{name}, tshark has {_narrowest(theirs, field.start)}"] += size
    return counts, reasons


def _end_of_leaves(own: list[set[tuple[int, int]]]) -> int:
    """Return where the last range ends that is not the whole of others: a record is, of its fields.

    Behind it tshark has named nothing, though the record around may go on.
    """
    every = set().union(*own)
    return max(
        end
        for start, end in every
        if not any(start <= first and last <= end for first, last in every - {(start, end)})
    )


def _narrowest(theirs: dict[str, set[tuple[int, int]]], at: int) -> str:
    found = [
        (end - start, name)
        for name, ranges in theirs.items()
        for start, end in ranges
        if name and start <= at < end
    ]
    return min(found)[1] if found else "nothing"


def compare(name: str, path: pathlib.Path) -> dict[str, Any]:
    """Return what there is to say about one capture."""
    rows, tiles, dropped = our_packets(path)
    result: dict[str, Any] = {"capture": name, "packets": len(rows) + len(dropped), "tshark": 0}
    differences, counts, reasons, examples = Counter(), Counter(), Counter(), {}
    for frame, layers in enumerate(tshark_packets(path), 1):
        result["tshark"] += 1
        row, tile = rows.get(frame), tiles.get(frame, b"")
        if row is None and frame not in dropped:  # behind a fault, or a fragment alone
            differences["tshark has a packet, we none: fault or lone fragment"] += 1
            continue
        difference = layer_difference(row, tile, layers, dropped.get(frame))
        differences[difference] += 1
        examples.setdefault(difference, frame)
        if row is not None and not difference:
            more, why = compare_fields(row, tile, layers)
            for group, reason in why:
                examples.setdefault(f"{group}: {reason}", frame)
            counts += more
            reasons += why
    result["layers"] = dict(differences)
    for part, tally in (("fields", counts), ("field_differences", reasons)):
        result[part] = {f"{group}: {kind}": number for (group, kind), number in tally.items()}
    result["frames"] = {reason: frame for reason, frame in examples.items() if reason}
    return result


def share(counts: Counter, group: str) -> float:
    """Return the share of agreeing bytes among those that tshark dissects too."""
    agrees, differs = (counts[f"{group}: {kind}"] for kind in ("agrees", "differs"))
    return agrees / (agrees + differs) if agrees else 0.0


def add(results: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the sums over captures."""
    total: dict[str, Any] = {"captures": 0, "packets": 0, "tshark": 0}
    sums = {part: Counter() for part in ("layers", "fields", "field_differences")}
    for result in results:
        total["captures"] += 1
        for part in ("packets", "tshark"):
            total[part] += result[part]
        for part, counts in sums.items():
            counts.update(result[part])
    return total | sums


def print_table(total: dict[str, Any]) -> None:
    """Print the agreement and the differences, those of most packets or bytes first."""
    same = total["layers"][""]
    seen = sum(total["layers"].values())
    print(f"\n{total['captures']} captures, {total['packets']} packets; tshark read {seen}")
    print(f"layers and session key agree: {same} packets, {100 * same / max(seen, 1):.3f} %\n")
    for reason, packets in total["layers"].most_common():
        if reason:
            print(f"{packets:9,d} packets  {reason}")
    print("\n| bytes of | both name | agree | only we name |\n|---|---|---|---|")
    for group in GROUPS:
        counts = total["fields"]
        both = counts[f"{group}: agrees"] + counts[f"{group}: differs"]
        percent, unseen = 100 * share(counts, group), counts[f"{group}: unseen"]
        print(f"| {group} | {both:,d} | {percent:.3f} % | {unseen:,d} |")
    print()
    for reason, size in total["field_differences"].most_common():
        print(f"{size:9,d} bytes  {reason}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("XAI_TRAFFIC_CAPTURES", "../shared/data")
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=pathlib.Path(default))
    parser.add_argument("--every", type=int, default=1, help="take every Nth capture only")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="tsharks at a time")
    arguments = parser.parse_args()
    if shutil.which("tshark") is None:
        print("tshark is not installed: apt-get install tshark", file=sys.stderr)
        return 1
    version = subprocess.run(["tshark", "--version"], capture_output=True, text=True, check=True)
    captures = find_captures([arguments.folder])[:: arguments.every]
    results = []
    with concurrent.futures.ProcessPoolExecutor(arguments.jobs) as pool:
        for result in pool.map(compare, *zip(*captures, strict=True)):
            results.append(result)
            if result["frames"]:
                print(json.dumps(result))
    total = add(results)
    print(json.dumps(total))
    print_table(total)
    print(f"\nxai_traffic {__version__}; {version.stdout.splitlines()[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
