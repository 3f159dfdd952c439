"""Tests of the way that sessions take through the spool into a dataset."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import read_capture_by
from xai_traffic.data import spool
from xai_traffic.data.build import convert
from xai_traffic.data.store import open_dataset


@pytest.fixture
def capture(tmp_path):
    """Return a capture of 40 sessions, whose packets come mixed."""
    path = tmp_path / "Benign" / "a.pcap"
    path.parent.mkdir()
    data = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    for number in range(400):
        payload = number.to_bytes(4, "big") * 20
        udp = struct.pack(">HHHH", 40000 + number % 40, 443, 8 + len(payload), 0) + payload
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + bytes(range(8))
        frame = bytes(12) + b"\x08\x00" + ip + udp
        data += struct.pack("<IIII", number, 0, len(frame), len(frame)) + frame
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("layout", ["tiles", "heifip-none", "heifip-header"])
@pytest.mark.parametrize("memory", [4000, 1 << 20])
def test_a_dataset_holds_what_reading_gives(capture, tmp_path, monkeypatch, layout, memory):
    monkeypatch.setattr(spool, "_MEMORY", memory)  # in many runs, or in one
    monkeypatch.setattr(spool, "_WRITTEN", 1000)
    monkeypatch.setattr(spool, "_PIECE", 30_000)
    rules = ReadingRules(layout=layout)
    convert([capture.parent], tmp_path / "set", rules=rules, split="random:70/10/20")
    dataset, read = open_dataset(tmp_path / "set"), read_capture_by(capture, rules)
    assert len(dataset) == 40
    np.testing.assert_array_equal(dataset.tiles, read.tiles)
    for name in ("session", "packet", "frame", "time_ns", "length", "network"):
        assert dataset.packets[name].equals(read.packets[name])


def test_sorting_is_stable_near_and_far():
    near = np.random.default_rng(0).integers(0, 50, 1000) + 2**40
    for numbers in (near, near * 2**16, near[:0]):
        np.testing.assert_array_equal(
            spool._sorted(numbers), np.argsort(numbers, kind="stable"), strict=True
        )
