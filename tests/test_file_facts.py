"""Tests of the SHA-256 that is taken beside the reading."""

from __future__ import annotations

import hashlib
import os

from xai_traffic.data.file_facts import FileFacts, facts_of_file

UNKNOWN = {"sha256": None, "bytes": None}


def test_a_file_is_hashed_whole(tmp_path):
    data = bytes(range(256)) * 5000  # more than one piece
    path = tmp_path / "a.pcap"
    path.write_bytes(data)
    assert facts_of_file(path) == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    path.write_bytes(b"")
    assert facts_of_file(path) == {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0}


def test_what_is_no_file_has_no_facts(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("-", tmp_path, tmp_path / "missing", tmp_path / "pipe"):
        assert facts_of_file(path) == UNKNOWN


def test_leaving_early_ends_the_thread(tmp_path):
    path = tmp_path / "long.pcap"
    with open(path, "wb") as file:
        file.truncate(20 << 30)  # it would take a minute
    with FileFacts(path) as facts:
        pass
    assert facts.get() == UNKNOWN
