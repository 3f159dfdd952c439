"""Every real capture at hand is read by both cores, and every packet of it accounted for."""

import csv
import os
from collections import Counter

import numpy as np
import pytest
from both_cores import CORES

from xai_traffic.capture import core
from xai_traffic.capture.reader import find_captures
from xai_traffic.capture.records import DROPS
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import read_batches, read_capture_by
from xai_traffic.errors import CaptureError


def packets_of(path, rules) -> tuple[int, CaptureError | None, object]:
    """Read a capture; return (sessions, error, reader), after checking the account of packets."""
    try:
        reader = read_batches(path, rules)
        rows = np.concatenate([batch.sessions for batch in reader])
    except CaptureError as error:
        return 0, error, None
    assert int(rows["packets"].sum()) + sum(reader.dropped.values()) == reader.packets
    assert set(reader.dropped) <= set(DROPS)
    return len(rows), None, reader


def test_ustc_has_its_10658_sessions(captures):
    rules = ReadingRules(rule="five_tuple")
    found = find_captures([captures / "ustc/session_prefix"])
    assert len(found) == 20
    sessions = packets = 0
    dropped = Counter()
    for name, path in found:
        read = read_capture_by(path, rules, name)
        assert read.fault is None and set(read.table["capture"].to_pylist()) == {name}
        sessions += len(read)
        packets += sum(read.table["packets"].to_pylist())
        dropped.update(read.dropped)
    assert (sessions, packets, dropped) == (10_658, 37_222, {"truncated header": 273})


@pytest.mark.parametrize("folder", ["protocols", "malware", "hostile", "ustc"])
@pytest.mark.parametrize("name", CORES)
def test_every_real_capture_is_read_and_accounted_for(captures, monkeypatch, folder, name):
    monkeypatch.setenv(core.VARIABLE, name)
    rules = ReadingRules()
    sessions = packets = 0
    for _, path in find_captures([captures / folder]):
        if name == "numpy" and os.path.getsize(path) > 200_000:
            continue
        count, error, reader = packets_of(path, rules)
        assert error is None or error.reason, path
        if reader is not None:
            assert reader.fault is None or str(path) in reader.fault
            packets += reader.packets
        sessions += count
    assert sessions and packets


def test_hostile_captures_have_the_packets_that_their_index_counts(captures):
    """The index was made by another reader: it agrees on packets, and on which files are bad."""
    folder = captures / "hostile"
    with open(folder / "index.csv", newline="") as file:
        index = list(csv.DictReader(file))
    assert len(index) == 754
    for row in index:
        _, error, reader = packets_of(folder / row["path"], ReadingRules(filter=""))
        assert error is None
        assert reader.packets == int(row["packets"]), row["path"]
        assert bool(reader.fault) == bool(row["err"]), row["path"]
