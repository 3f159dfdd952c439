"""The audit finds what was planted, and what is known of USTC-TFC2016; and nothing once masked."""

import functools
import json

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from small_dataset import make_dataset

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.build import convert
from xai_traffic.data.derive import derive
from xai_traffic.data.store import open_dataset
from xai_traffic.errors import DatasetError
from xai_traffic.evaluation.audit import audit_dataset
from xai_traffic.evaluation.field_ranking import INTERVALS
from xai_traffic.evaluation.field_verdicts import ARTEFACT, IDENTIFIER, SIGNAL, verdict_of
from xai_traffic.evaluation.mask_proposal import propose_mask
from xai_traffic.evaluation.nearest_neighbours import _nearest, count_different
from xai_traffic.lab.write import write_lab

PLANTS = {
    "ttl": "ip.ttl",
    "window": "tcp.window_size_value",
    "sni": "tls.handshake.extensions_server_name",
    "checksum": "ip.checksum",
    "time_stamp": "tcp.options.timestamp.ts",  # the value, or its echo, which is planted as well
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Return a function: kind of plant to a dataset with it."""
    folder = tmp_path_factory.mktemp("planted")

    @functools.cache
    def make(kind):
        families = ("https",) if kind == "sni" else ("web",)
        write_lab(folder / kind, plant=kind, sessions_per_family=60, families=families)
        convert([folder / kind], folder / f"{kind}-data", rules=ReadingRules(), workers=1)
        return open_dataset(folder / f"{kind}-data")

    return make


@pytest.mark.parametrize("kind, field", PLANTS.items())
def test_the_plant_ranks_first(planted, kind, field):
    found = audit_dataset(planted(kind), "binary")
    fields = found["fields"]
    first = fields[0]
    assert first["field"].startswith(field)
    for score in ("balanced_accuracy", "accuracy"):
        assert first[score] == first["intervals"][score]["value"] == 1
        assert 0.8 < first["intervals"][score]["low"] < 0.95  # of two dozen sessions
    for row in fields[:INTERVALS] + found["positions"]:
        for score, own in row["intervals"].items():
            assert own["value"] == pytest.approx(row[score])
            assert own["low"] <= own["value"] <= own["high"]
    assert all(row["intervals"] is None for row in fields[INTERVALS:])
    for row in found["nearest_neighbours"]["per_class"].values():
        own = row["interval"]
        assert own["low"] < own["value"] == row["recall"] < own["high"]


@pytest.mark.parametrize("kind, mask", [("ttl", "ttl"), ("checksum", "ids"), ("window", "window")])
def test_masked_it_is_gone(planted, tmp_path, kind, mask):
    dataset = planted(kind)
    assert audit_dataset(dataset, "binary")["proposal"]["mask"] == mask
    derive(dataset, tmp_path / "masked", mask)
    found = audit_dataset(open_dataset(tmp_path / "masked"), "binary")
    field = PLANTS[kind]
    (row,) = [row for row in found["fields"] if row["field"] == field]
    assert row["balanced_accuracy"] == pytest.approx(0.5) and row["ami"] == 0
    assert found["positions"][0]["name"] != field
    assert field not in [name for own in found["proposal"]["hides"].values() for name in own]


def test_positions_find_a_plant_in_one_later_packet(tmp_path):
    write_lab(tmp_path / "lab", plant="ttl", packet=5, sessions_per_family=40, families=("web",))
    convert([tmp_path / "lab"], tmp_path / "data", rules=ReadingRules(), workers=1)
    first = audit_dataset(open_dataset(tmp_path / "data"), "binary")["positions"][0]
    assert (first["packet"], first["byte"], first["name"]) == (5, 22, "ip.ttl")


def test_the_audit_of_ustc_finds_what_is_known(captures, tmp_path):
    source = captures / "ustc" / "session_prefix"
    if not source.is_dir():
        pytest.skip(f"no captures at {source}")
    rules = ReadingRules(rule="five_tuple")
    convert([source], tmp_path / "ustc", rules=rules, workers=1)
    found = audit_dataset(open_dataset(tmp_path / "ustc"), limit=800)
    rows = {row["field"]: row for row in found["fields"]}
    ranks = {row["field"]: rank for rank, row in enumerate(found["fields"])}
    expected = {
        "eth.src.oui": IDENTIFIER,
        "frame.time_epoch": ARTEFACT,
        "ip.src": IDENTIFIER,
        "ip.dst": IDENTIFIER,
        "ip.ttl": ARTEFACT,
        "ip.ttl + ip.proto": ARTEFACT,
        "tcp.option_kind": ARTEFACT,
    }
    for name, verdict in expected.items():
        assert rows[name]["verdict"] == verdict
        assert ranks[name] < 40 and rows[name]["skill"] > 0.1, name
    assert set(found["proposal"]["mask"].split("+")) >= {"addresses", "ttl", "options"}
    assert found["capture_times"]["impossible"] > 0.5
    assert found["capture_times"]["years"]["1970"]["per_class"]["Gmail"] > 400
    shared = {row["identifier"]: row for row in found["shared_identifiers"]}
    assert shared["capture"]["shared"] == 1


def test_verdicts_go_by_the_name():
    for name, verdict in {
        "ip.src#1": IDENTIFIER,
        "udp.dstport": IDENTIFIER,
        "tcp.options.timestamp.tsval": IDENTIFIER,
        "tcp.options.mss_val": ARTEFACT,
        "ipv6.hlim": ARTEFACT,
        "ip.len": SIGNAL,
        "tcp.flags": SIGNAL,
        "payload": SIGNAL,
        "http.cookie": IDENTIFIER,
        "http.user_agent": SIGNAL,
        "tls.handshake.extensions_server_name": SIGNAL,
        "something.new": SIGNAL,
    }.items():
        assert verdict_of(name).verdict == verdict, name
        assert verdict_of(name).reason


def test_a_mask_is_proposed_for_what_tells_and_is_no_signal():
    def row(field, verdict, mask, balanced, presence=0.5, in_image=True):
        ends = {"value": balanced, "low": balanced - 0.05, "high": balanced + 0.05}
        return {
            "field": field,
            "verdict": verdict,
            "mask": mask,
            "balanced_accuracy": balanced,
            "skill": 2 * balanced - 1,
            "presence": presence,
            "spread": 0.02,
            "in_image": in_image,
            "intervals": {"balanced_accuracy": ends},
        }

    rows = [
        row("ip.ttl", ARTEFACT, "ttl", 0.9),
        row("tcp.window_size_value", ARTEFACT, "window", 0.8, presence=0.8),
        row("ip.id", IDENTIFIER, "ids", 0.52),
        row("payload", SIGNAL, "payload", 0.9),
        row("frame.time_epoch", ARTEFACT, None, 1.0, in_image=False),
        row("http.cookie", IDENTIFIER, "payload", 0.9),
    ]
    proposal = propose_mask(rows)
    assert proposal["mask"] == "ttl" and proposal["hides"] == {"ttl": ["ip.ttl"]}
    assert proposal["outside"] == ["frame.time_epoch"] and proposal["left"] == ["http.cookie"]
    assert propose_mask(rows, "addresses")["mask"] == "addresses+ttl"
    assert propose_mask(rows[1:])["mask"] is None
    assert propose_mask([{**rows[0], "spread": 0.2}])["mask"] is None  # chance, of few sessions
    few = {"balanced_accuracy": {"value": 0.9, "low": 0.6, "high": 1.0}}
    assert propose_mask([{**rows[0], "intervals": few}])["mask"] is None  # of few captures
    assert propose_mask([{**rows[0], "intervals": None}])["mask"] == "ttl"


@pytest.mark.parametrize("tiles", [1, 3, 8])
def test_differing_bytes_are_counted_exactly(tiles):
    rng = np.random.default_rng(tiles)
    many = rng.integers(0, 3, (20, tiles * 256), dtype=np.uint8)
    one = rng.integers(0, 3, tiles * 256, dtype=np.uint8)
    expected = cdist(many.astype(float), one[None].astype(float), "hamming")[:, 0] * one.size
    assert count_different(many, one).tolist() == expected.round().tolist()
    far = count_different(np.zeros((2, tiles * 256), np.uint8), np.ones(tiles * 256, np.uint8))
    assert (far == tiles * 256).all()


def test_no_session_is_further_off_than_all_of_its_bytes():
    """A short packet against a long one, and the other way round."""
    lengths = np.array([[10, 100], [100, 10]])
    tiles = np.zeros((2, 2, 256), np.uint8)
    for session, row in enumerate(lengths):
        for packet, length in enumerate(row):
            tiles[session, packet, :length] = 1 + session
    one, two = (tiles[k : k + 1].reshape(1, -1) for k in (0, 1))
    count = np.array([2])
    distance, nearest = _nearest(one, lengths[:1], count, two, lengths[1:], count)
    assert distance == [1.0] and nearest == [0]


def test_the_same_seed_gives_the_same_audit(planted):
    first, again = (json.dumps(audit_dataset(planted("ttl"), "binary", limit=30)) for _ in "ab")
    assert first == again


def test_data_that_cannot_be_audited_is_refused(tmp_path):
    dataset = make_dataset(tmp_path / "small", sessions=6)
    with pytest.raises(DatasetError, match="no sessions in split 'test'"):
        audit_dataset(dataset)
    with pytest.raises(DatasetError, match="of class Benign alone"):
        audit_dataset(make_dataset(tmp_path / "one", classes=["Chat"]), "binary")
