"""The session rule `nfstream` against the real NFStream, where that is installed.

NFStream does not know everything the cores know, so captures are left out that hold what it reads
in another way: later IP fragments, which it does not count; VLANs, which are part of its key (and
hide IPv6 from it); Teredo, which it does not enter; offloaded segments without a total length and
link type SLL2, which it drops.
"""

import collections
import ipaddress
import pathlib
import random

import numpy as np
import pytest
from both_cores import CORES, run

from xai_traffic.capture.reader import find_captures, open_chunks
from xai_traffic.capture.records import FRAGMENT, TUNNELS

LARGEST = 500_000
COMPARED = 60


def flows_of(path: str, streamer) -> collections.Counter:
    """Return NFStream's flows as (endpoints, protocol, packets): number."""
    flows = streamer(source=path, n_dissections=0, n_meters=1, statistical_analysis=False)
    return collections.Counter(
        (
            ipaddress.ip_address(flow.src_ip),
            flow.src_port,
            ipaddress.ip_address(flow.dst_ip),
            flow.dst_port,
            flow.protocol,
            flow.bidirectional_packets,
        )
        for flow in flows
    )


def sessions_of(rows: np.ndarray) -> collections.Counter:
    found = collections.Counter()
    for row in rows:
        size = 4 if row["family"] == 4 else 16
        source, destination = (
            ipaddress.ip_address(row[name].tobytes()[:size]) for name in ("source", "destination")
        )
        ports = row["source_port"], row["destination_port"]
        counted = row["protocol"], row["packets"]
        found[(source, int(ports[0]), destination, int(ports[1]), *map(int, counted))] += 1
    return found


def reads_alike(rows: np.ndarray, tiles: np.ndarray) -> bool:
    """Tell whether NFStream reads these packets as the cores do."""
    untagged = (rows["link"] != 1) | (rows["network"] == 14)
    length = rows["network"].astype(int)[:, None] + np.array([2, 3])
    total = np.take_along_axis(tiles, np.minimum(length, 255), axis=1)
    ipv4 = np.take_along_axis(tiles, np.minimum(length[:, :1] - 2, 255), axis=1)[:, 0] >> 4 == 4
    return (
        untagged.all()
        and not (rows["flags"] & FRAGMENT).any()
        and not (rows["tunnel"] == TUNNELS.index("teredo")).any()
        and not (ipv4 & (total == 0).all(axis=1)).any()
        and not (rows["link"] == 276).any()
    )


@pytest.mark.parametrize("core", CORES)
def test_sessions_are_nfstreams_flows(captures, core):
    nfstream = pytest.importorskip("nfstream", exc_type=ImportError)
    rng = random.Random(8)
    paths = [path for _, path in find_captures([captures / "protocols"])]
    compared = 0
    for path in rng.sample(sorted(paths), len(paths)):
        data = b"".join(bytes(chunk) for chunk in open_chunks(path))
        packed = len(data) != pathlib.Path(path).stat().st_size
        if packed or len(data) > LARGEST:
            continue
        result = run(core, data, rule="nfstream", limit=65_535)
        tiles = np.frombuffer(result.tiles, np.uint8).reshape(-1, 256)
        if not len(tiles) or not reads_alike(result.table(), tiles):
            continue
        assert sessions_of(result.sessions()) == flows_of(str(path), nfstream.NFStreamer), path
        compared += 1
        if compared == COMPARED:
            break
    assert compared == COMPARED
