"""Read a capture with another tool, from Python, and print what it took as a line of JSON.

    PEERS/bin/python benchmarks/capture_peers.py NAME CAPTURE [OUT]

This is run by benchmarks/capture.py, with the Python of the peers, which lacks xai_traffic: so it
imports nothing but the peer. The time leaves imports out. heiFIP reads a folder of sessions.
"""

from __future__ import annotations

import json
import os
import pathlib
import resource
import sys
import time
from collections.abc import Callable
from importlib import metadata

TILE, GRID, SIDE, ROW = 256, 64, 8, 16


def scapy(path: str) -> Callable[[], dict]:
    """Parse packet by packet and keep nothing."""
    import scapy.all  # noqa: F401 - every layer
    from scapy.utils import PcapReader

    def run() -> dict:
        with PcapReader(path) as reader:
            return {"packets": sum(1 for _ in reader)}

    return run


def dpkt(path: str) -> Callable[[], dict]:
    """Do what xai_traffic does, in a loop as one writes it with dpkt, by the five-tuple."""
    import dpkt
    import numpy as np

    def run() -> dict:
        sessions: dict[tuple, list[bytes]] = {}
        packets = 0
        with open(path, "rb") as file:
            for _, frame in dpkt.pcap.Reader(file):
                packets += 1
                try:
                    ip = dpkt.ethernet.Ethernet(frame).data
                except dpkt.UnpackError:
                    continue
                if not isinstance(ip, (dpkt.ip.IP, dpkt.ip6.IP6)):
                    continue
                inner = ip.data
                if not isinstance(inner, (dpkt.tcp.TCP, dpkt.udp.UDP)):
                    continue
                ends = sorted([(ip.src, inner.sport), (ip.dst, inner.dport)])
                tiles = sessions.setdefault((ip.p, *ends), [])
                if len(tiles) < GRID:
                    tiles.append(frame[:TILE].ljust(TILE, b"\0"))
        for tiles in sessions.values():
            whole = b"".join(tiles).ljust(GRID * TILE, b"\0")
            grid = np.frombuffer(whole, np.uint8).reshape(SIDE, SIDE, ROW, ROW)
            grid.transpose(0, 2, 1, 3).reshape(SIDE * ROW, SIDE * ROW)
        return {"packets": packets, "sessions": len(sessions)}

    return run


def nfstream(path: str) -> Callable[[], dict]:
    """Take its statistics of each flow, without its guess at the application."""
    from nfstream import NFStreamer

    def run() -> dict:
        streamer = NFStreamer(source=path, n_dissections=0, statistical_analysis=True)
        flows = packets = 0
        for flow in streamer:
            flows += 1
            packets += flow.bidirectional_packets
        return {"packets": packets, "sessions": flows}

    return run


def pcapplusplus(path: str) -> Callable[[], dict]:
    """Iterate over the packets and do nothing with them."""
    from py_pcapplusplus import Reader

    def run() -> dict:
        return {"packets": sum(1 for _ in Reader(path))}

    return run


def heifip(path: str) -> Callable[[], dict]:
    """Make the seed's images of a folder of sessions through heiFIP's command line, as PNG.

    A session that it cannot read ends its thread and hangs it for ever: such are passed over.
    """
    from heifip.cli import cli
    from heifip.main import Runner

    unreadable = []
    create_image = Runner.create_image

    def create_or_pass_over(self: Runner, file: str, *rest: object) -> None:
        try:
            create_image(self, file, *rest)
        except Exception:
            unreadable.append(file)

    Runner.create_image = create_or_pass_over

    out = pathlib.Path(sys.argv[3])
    arguments = f"extract flow-tiled-fixed -r {path} -w {out} -t 1 --preprocess NONE"
    arguments += " --min-packets 3 --max-packets 64 --dim 16 --cols 8"

    def run() -> dict:
        cli(arguments.split(), standalone_mode=False)
        images = sum(1 for _ in out.rglob("*.png"))
        return {"images": images, "unreadable": len(unreadable)}

    return run


PEERS = {
    "heiFIP": (heifip, "heifip"),
    "scapy": (scapy, "scapy"),
    "dpkt": (dpkt, "dpkt"),
    "NFStream": (nfstream, "nfstream"),
    "py-pcapplusplus": (pcapplusplus, "py-pcapplusplus"),
}
"""What runs a peer, and the package that it comes from."""


def main() -> None:
    """Run one peer on one capture."""
    name, path = sys.argv[1:3]
    prepare, package = PEERS[name]
    version = metadata.version(package)
    if path == "version":
        print(json.dumps({"version": version}))
        return
    run = prepare(path)
    began = time.perf_counter()
    made = run()
    seconds = time.perf_counter() - began
    status = pathlib.Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    peak = max(peak, children)
    print(json.dumps({"seconds": seconds, **made, "peak": peak, "version": version}), flush=True)
    os._exit(0)  # py-pcapplusplus may crash when Python ends


if __name__ == "__main__":
    main()
