"""Both cores against dpkt on the well-formed captures: sessions, counts, directions, tiles."""

import dpkt
import numpy as np
import pytest
from both_cores import CORES, run
from oracle_dpkt import sessions_of

from xai_traffic.capture.reader import find_captures, open_chunks

FOLDERS = {  # folder: captures that dpkt reads, all of them and those of less than 300 kB
    "protocols": (837, 810),
    "malware": (30, 26),
    "ustc": (21, 5),
}


def ends_of(session: np.void) -> tuple[bytes, bytes]:
    size = 4 if session["family"] == 4 else 16
    return session["source"].tobytes()[:size], session["destination"].tobytes()[:size]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("core", CORES)
def test_core_is_dpkt(captures, core, folder):
    compared = 0
    for name, path in find_captures([captures / folder]):
        data = b"".join(bytes(chunk) for chunk in open_chunks(path))
        if core == "numpy" and len(data) >= 300_000:
            continue
        try:
            wanted = sessions_of(data)
        except dpkt.UnpackError:  # cut in the middle of a record
            continue
        if wanted is None:
            continue
        result = run(core, data, filter="tcp or udp", tunnels="outer")
        sessions = np.sort(result.sessions(), order="session")
        assert [
            (*ends_of(row), *row[["source_port", "destination_port", "protocol"]].tolist())
            for row in sessions
        ] == [
            (s.source, s.destination, s.source_port, s.destination_port, s.protocol) for s in wanted
        ], name
        assert sessions["packets"].tolist() == [s.packets for s in wanted], name
        assert sessions["payload_bytes"].tolist() == [s.payload_bytes for s in wanted], name
        rows = result.table()
        order = np.argsort(rows["session"], kind="stable")
        tiles = np.frombuffer(result.tiles, np.uint8).reshape(-1, 256)[order]
        assert tiles.tobytes() == b"".join(tile for s in wanted for tile in s.tiles), name
        assert rows["direction"][order].tolist() == [d for s in wanted for d in s.directions], name
        # dpkt's times are floating-point seconds: good for microseconds in this century.
        microseconds = [time for s in wanted for time in s.times]
        assert np.allclose(rows["time_ns"][order] / 1e3, microseconds, rtol=0, atol=2), name
        compared += 1
    assert compared == FOLDERS[folder][core == "numpy"]
