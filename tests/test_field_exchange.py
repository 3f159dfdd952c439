"""Exchanged fields: real values, equal within a session, in packets that stay valid."""

import numpy as np
import pytest

from xai_traffic.capture.fields import dissect
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import read_capture_by
from xai_traffic.evaluation.field_exchange import exchange_fields
from xai_traffic.explain.traffic import traffic_of
from xai_traffic.lab.write import write_lab

ADDRESSES = {"ip.src", "ip.dst"}


@pytest.fixture(scope="module")
def traffic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exchange")
    write_lab(folder / "lab", seed=1, sessions_per_family=8, families=("web",))
    (capture,) = (folder / "lab").rglob("*.pcap")
    sessions = read_capture_by(capture, ReadingRules())
    return traffic_of(sessions, np.arange(len(sessions)))


def fields_of(traffic, tiles):
    return [dissect(tile, row) for tile, row in zip(tiles, traffic.packets, strict=True)]


def values_of(traffic, tiles, name):
    """Return the values of a field packet by packet, with session and direction."""
    return [
        (int(session), int(row["direction"]), tile[field.start : field.end].tobytes())
        for tile, row, session in zip(tiles, traffic.packets, traffic.sessions, strict=True)
        for field in dissect(tile, row)
        if field.name == name
    ]


def test_addresses_change_hands_and_stay_consistent(traffic):
    fields = fields_of(traffic, traffic.tiles)
    tiles, partner = exchange_fields(traffic, fields, ADDRESSES, np.random.default_rng(3))
    assert sorted(partner) == list(range(len(traffic))) and (partner != range(len(traffic))).any()
    own = {
        (session, side): value
        for name, other in (("ip.src", 0), ("ip.dst", 1))
        for session, side, value in values_of(traffic, traffic.tiles, name)
        if side == other
    }
    for name, flip in (("ip.src", 0), ("ip.dst", 1)):
        for session, side, value in values_of(traffic, tiles, name):
            # What the initiator sends from is what the responder sends to.
            client = own[int(partner[session]), 0] if side == flip else None
            assert client is None or value == client


def test_only_the_field_and_checksums_change_and_those_are_right(traffic):
    fields = fields_of(traffic, traffic.tiles)
    tiles, _ = exchange_fields(traffic, fields, ADDRESSES, np.random.default_rng(3))
    for before, after, parts in zip(traffic.tiles, tiles, fields, strict=True):
        for part in parts:
            if (before[part.start : part.end] != after[part.start : part.end]).any():
                assert part.name in ADDRESSES | {"ip.checksum", "tcp.checksum"}
        words = after[14:34].astype(int).reshape(-1, 2) @ [256, 1]
        total = int(words.sum())
        assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


def test_counters_stay_counters(traffic):
    fields = fields_of(traffic, traffic.tiles)
    tiles, partner = exchange_fields(traffic, fields, {"ip.id"}, np.random.default_rng(5))
    for side in (0, 1):
        before = {}
        for session, way, value in values_of(traffic, traffic.tiles, "ip.id"):
            if way == side:
                before.setdefault(session, []).append(value)
        after = {}
        for session, way, value in values_of(traffic, tiles, "ip.id"):
            if way == side:
                after.setdefault(session, []).append(value)
        for session, values in after.items():
            theirs = list(dict.fromkeys(before[int(partner[session])]))
            assert list(dict.fromkeys(values)) == theirs[: len(set(values))]


def test_sessions_without_the_field_stay(traffic):
    fields = fields_of(traffic, traffic.tiles)
    tiles, partner = exchange_fields(traffic, fields, {"dns.id"}, np.random.default_rng(0))
    assert (tiles == traffic.tiles).all() and (partner == np.arange(len(traffic))).all()
