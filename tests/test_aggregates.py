"""What the verdicts of a split rest on: sums, intervals, typical sessions, and the page of them."""

import dataclasses
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from explained_run import CLASSES, make_run, write_capture
from PIL import Image
from scipy import sparse

from xai_traffic import explain
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.cli.main import main
from xai_traffic.data.build import convert
from xai_traffic.data.store import open_dataset
from xai_traffic.errors import RunError
from xai_traffic.evaluation import split_shares
from xai_traffic.evaluation.aggregates import aggregate
from xai_traffic.evaluation.answers import UNKNOWN, nearest_class
from xai_traffic.evaluation.bootstrap import interval, intervals
from xai_traffic.evaluation.classify import verdicts_on
from xai_traffic.evaluation.explanations import images_and_fields
from xai_traffic.evaluation.representatives import distances, representatives
from xai_traffic.evaluation.split_shares import explain_split
from xai_traffic.report.aggregate_page import render
from xai_traffic.report.aggregates import aggregate_run, redact_aggregate
from xai_traffic.report.markup import content_hash
from xai_traffic.report.pseudonyms import Pseudonyms
from xai_traffic.training.calibration import Calibration

METHODS = ("gradient_x_input", "grad_cam")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    captures = folder / "captures" / "Benign"
    captures.mkdir(parents=True)
    for name in CLASSES[::2]:
        write_capture(captures / f"{name}.pcap", sessions=12)
    convert([captures], folder / "data", rules=ReadingRules(), split="random:0/0/100")
    return open_dataset(folder / "data")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def shares(run, dataset):
    return explain_split(run, dataset, "test", METHODS)


@pytest.fixture(scope="module")
def written(run, dataset, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "sums"
    return aggregate_run(run, dataset.path, out, methods=METHODS)


@pytest.fixture(scope="module")
def found(written):
    return json.loads(written["numbers"].read_bytes())


def test_every_session_shares_out_the_whole(shares):
    for name, own in shares.methods.items():
        held = own.explained
        assert held.any() and (name == "grad_cam" or held.all())
        np.testing.assert_allclose(own.fields.sum(axis=1)[held], 1, atol=1e-12)
        np.testing.assert_allclose(own.packets.sum(axis=1)[held], 1, atol=1e-6)
        assert not own.fields[~held].sum()
    np.testing.assert_allclose(shares.sizes.sum(axis=1), 1, atol=1e-12)


def test_a_session_has_the_shares_of_the_library(run, dataset, shares):
    own = shares.methods["gradient_x_input"]
    images, every = images_and_fields(dataset, shares.rows)
    values = run.explain(images, "gradient_x_input", target=shares.verdicts)
    for place in (0, len(shares.rows) - 1):
        fields = every[place]
        each = explain.byte_shares(values[place], [parts[-1].end for parts in fields])
        line = own.fields[[place]].toarray()[0]
        for name, share in explain.session_fields(each, fields).items():
            assert line[shares.names.index(name)] == pytest.approx(share, abs=1e-4)
        np.testing.assert_allclose(own.packets[place, : len(fields)], each.packets(), atol=1e-4)
        net = each.signed.sum() / np.abs(each.signed).sum()
        assert own.field_nets[[place]].sum() == pytest.approx(net, abs=1e-4)
        assert own.packet_nets[place].sum() == pytest.approx(net, abs=1e-4)
        length = sum(parts[-1].end for parts in fields)
        source = sum(p.end - p.start for parts in fields for p in parts if p.name == "ip.src")
        size = shares.sizes[[place]].toarray()[0, shares.names.index("ip.src")]
        assert size == pytest.approx(source / length)
    assert shares.methods["grad_cam"].field_nets is None


def test_batches_change_nothing(run, dataset, shares, monkeypatch):
    monkeypatch.setattr(split_shares, "AT_ONCE", 8)
    again = explain_split(run, dataset, "test", METHODS[:1])
    np.testing.assert_array_equal(again.rows, shares.rows)
    assert again.names == shares.names
    difference = again.methods[METHODS[0]].fields - shares.methods[METHODS[0]].fields
    assert np.abs(difference.toarray()).max() < 1e-4


def test_the_sums_of_every_class_are_whole(found, dataset):
    assert found["sessions"] == found["of"] == len(dataset.rows("test"))
    assert sum(own["sessions"] for own in found["classes"].values()) == found["sessions"]
    for name, own in found["classes"].items():
        assert own["right"] + own["wrong"] == own["sessions"]
        assert name in CLASSES and name not in found["never_judged"]
        for method, part in own["methods"].items():
            assert part["sessions"] + part["left_out"] == own["sessions"]
            if not part["sessions"]:
                continue
            for key in ("fields", "packets"):
                assert sum(row["share"] for row in part[key]) == pytest.approx(1, abs=1e-6)
                for row in part[key]:
                    assert row["low"] - 1e-9 <= row["share"] <= row["high"] + 1e-9
                    assert 0 < row["frequency"] <= 1
                    signed = method == "gradient_x_input"
                    assert (row["net"] is not None) == signed
                    assert not signed or abs(row["net"]) <= row["share"] + 1e-6
            for row in part["packets"]:
                assert row["initiator"] + row["responder"] == pytest.approx(row["share"])
            assert sum(row["size"] for row in part["fields"]) == pytest.approx(1)
            ranked = [row["share"] for row in part["fields"]]
            assert ranked == sorted(ranked, reverse=True)
            if part["right"] and part["wrong"]:
                for side in ("right", "wrong"):
                    assert sum(row[side]["share"] for row in part["fields"]) == pytest.approx(1)


def test_frequency_is_that_of_the_dissector(found, dataset):
    rows = dataset.rows("test")
    _, fields = images_and_fields(dataset, rows)
    has = sum(any(p.name == "tcp.flags" for parts in own for p in parts) for own in fields)
    counted = sum(
        row["frequency"] * own["methods"][METHODS[0]]["sessions"]
        for own in found["classes"].values()
        for row in own["methods"][METHODS[0]]["fields"]
        if row["field"] == "tcp.flags"
    )
    assert counted == pytest.approx(has)


def test_sessions_to_look_at_are_sessions_of_the_class(found, dataset):
    table = {(row["capture"], row["session"]): row for row in dataset.table.to_pylist()}
    for name, own in found["classes"].items():
        part = own["methods"][METHODS[0]]
        assert part["typical"]
        assert sum(row["stands_for"] for row in part["typical"]) == pytest.approx(1)
        for row in part["typical"] + part["atypical"]:
            session = table[row["capture"], row["session"]]
            assert row["label"] == name and row["truth"] == session["label"]
            assert row["source_port"] == session["source_port"]
            assert row["packets"] == session["packets"]
            assert 1 <= len(row["fields"]) <= 3


def test_a_limit_draws_by_the_seed(run, dataset):
    drawn = [
        explain_split(run, dataset, "test", METHODS[:1], limit=5, seed=seed).rows.tolist()
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 5


def test_intervals_are_those_of_each_column():
    rng = np.random.default_rng(0)
    values = rng.random((40, 3)) * (rng.random((40, 3)) < 0.5)
    for each in (values, sparse.csr_array(values)):
        mean, low, high = intervals(each, seed=3)
        for column in range(3):
            own = interval(values[:, column], seed=3)
            assert mean[column] == pytest.approx(own["mean"])
            assert low[column] == pytest.approx(own["low"])
            assert high[column] == pytest.approx(own["high"])


def test_intervals_of_many_rows_are_drawn_in_parts(monkeypatch):
    values = np.random.default_rng(0).random((50, 2))
    whole = intervals(values)
    monkeypatch.setattr("xai_traffic.evaluation.bootstrap._AT_ONCE", 130)
    np.testing.assert_allclose(intervals(values), whole)


def some_groups():
    """Return 60 rows like one, 30 like another, and one like none, as shares of four fields."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.8, 0.2, 0, 0], [0, 0.1, 0.9, 0]]).repeat([60, 30], axis=0)
    noise = centres * rng.uniform(0.9, 1.1, centres.shape)
    rows = np.concatenate([noise / noise.sum(1, keepdims=True), [[0, 0, 0, 1.0]]])
    return sparse.csr_array(rows)


def test_representatives_find_the_groups_and_the_stranger():
    rows = some_groups()
    found = representatives(rows, most=2)
    assert found.typical[0] < 60 <= found.typical[1] < 90
    np.testing.assert_allclose(found.stand_for, [61 / 91, 30 / 91], atol=1 / 91)
    assert found.atypical[0] == 90 and found.distances[0] > 0.8
    # The first medoid, by its definition.
    among = distances(rows, rows)
    assert representatives(rows, most=1).typical[0] == among.sum(axis=1).argmin()
    np.testing.assert_allclose(among[0, 90], 1)


def test_equal_sessions_need_one_representative():
    same = sparse.csr_array(np.full((7, 2), 0.5))
    found = representatives(same, most=3)
    assert len(found.typical) == 1 and found.stand_for.tolist() == [1.0]
    assert not len(found.atypical)


def test_representatives_of_a_draw_stand_for_all():
    found = representatives(some_groups(), most=3, compared=20)
    assert found.stand_for.sum() == pytest.approx(1)
    assert found.atypical[0] == 90 or 90 in found.typical


def test_sums_are_called_leaky_and_told_by_calibrated_probabilities(found, run, dataset, shares):
    assert found["leaky"] == [] and "LEAKY" not in render(found)
    assert "LEAKY, not what its split says: a &lt;b&gt;." in render({**found, "leaky": ["a <b>"]})
    best = run.predict(dataset.images(shares.rows)).max(-1)
    np.testing.assert_allclose(shares.probabilities, best, rtol=1e-5)
    record = {"temperature": 5.0, "unknown": {"on": False, "score": "softmax"}}
    flat = dataclasses.replace(run, calibration=Calibration(record))
    less = explain_split(flat, dataset, "test", METHODS[:1], limit=4)
    np.testing.assert_allclose(
        less.probabilities, flat.predict(dataset.images(less.rows)).max(-1), rtol=1e-5
    )
    assert less.probabilities.max() < best.max()


def test_sessions_that_are_called_unknown_are_no_right_or_wrong_ones(run, dataset, shares):
    rule = {"on": True, "score": "softmax", "features": [], "rule": "because"}
    rule["threshold"] = float(np.median(shares.probabilities))
    sets = {"thresholds": dict.fromkeys(run.classes, 0.0), "coverage": 0.9}
    record = {"temperature": 1.0, "unknown": rule, "sets": sets}
    record |= {"learnt": run.classes, "classes": run.classes}
    careful = dataclasses.replace(run, calibration=Calibration(record))
    found = aggregate(careful, dataset, "test", methods=METHODS[:1])
    judged = verdicts_on(careful, dataset, shares.rows)
    told = {(verdict["capture"], verdict["session"]): verdict for verdict in judged}
    strange = sum(verdict["label"] == UNKNOWN for verdict in told.values())
    assert 0 < strange < len(told)
    classes = found["classes"].values()
    assert sum(own["unknown"] for own in classes) == strange
    for own in classes:
        assert own["unknown"] + own["right"] + own["wrong"] == own["sessions"]
    rows = [row for own in classes for row in own["methods"][METHODS[0]]["typical"]]
    assert {row["label"] for row in rows} > {UNKNOWN}
    right = sum(own["right"] for own in classes)
    assert found["right"]["sessions"] == len(told) - strange
    assert found["right"]["mean"] == pytest.approx(right / (len(told) - strange))
    assert found["right"]["low"] <= found["right"]["mean"] <= found["right"]["high"]
    for row in rows:
        verdict = told[row["capture"], row["session"]]
        assert (row["label"], nearest_class(row)) == (verdict["label"], nearest_class(verdict))
    page = render({**found, "redacted": False})
    assert f"{strange}\u00a0sessions are called unknown, neither right nor wrong" in page
    assert ", called unknown</td>" in page


def test_the_page_links_nowhere_and_holds_nothing_raw(written):
    page = written["page"].read_text("utf-8")
    assert not re.findall(r"""(?:src|href|action)=(?!"#)""", page)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; ") and "script-src" not in policy
    style = re.search(r"<style>(.*?)</style>", page, re.S)[1]
    assert content_hash(style) in policy and "unsafe" not in policy
    assert "<script" not in page and not re.search(r"<[^>]* (?:style|on\w+)=", page)
    assert all(character.isprintable() or character in "\n\u00a0" for character in page)
    assert "&lt;script&gt;alert(1)" in page
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in re.findall(r'href="(#[^"]*)"', page)} <= set(ids)
    assert written["numbers"].read_bytes().isascii()


def test_the_page_says_how_to_open_its_sessions(written, found, run, dataset):
    page = written["page"].read_text("utf-8")
    part = next(iter(found["classes"].values()))["methods"][METHODS[0]]
    numbers = sorted({row["session"] for row in part["typical"] + part["atypical"]})
    asked = f"--methods {METHODS[0]} --sessions {','.join(map(str, numbers))} --out why"
    assert f"{dataset.path} --split test {asked}" in page


def test_pseudonyms_stand_for_addresses(found):
    changed = redact_aggregate(found, Pseudonyms(b"k" * 16))
    text = json.dumps(changed)
    assert changed["redacted"] and not found["redacted"]
    assert "10.9.8.7" in json.dumps(found) and "10.9.8.7" not in text and "192.168.7" not in text
    assert "Addresses and host names are pseudonyms" in render(changed)
    assert list(changed["classes"]) == list(found["classes"])


def test_figures_show_classes_and_methods(written, found):
    names = sorted(path.name for path in written["figures"].iterdir())
    expected = [f"{kind}-{method}.png" for kind in ("fields", "packets") for method in METHODS]
    expected += [
        f"{number:02d}-{method}.png"
        for number, own in enumerate(found["classes"].values(), 1)
        for method in METHODS
        if own["methods"][method]["sessions"]
    ]
    assert names == sorted(expected)
    for name in names:
        with Image.open(written["figures"] / name) as picture:
            assert min(picture.size) > 300
            assert len(np.unique(np.asarray(picture.convert("L")))) > 8


def test_a_browser_shows_it_without_complaint(written, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        pytest.skip("chromium is not installed")
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--dump-dom",
            f"file://{written['page']}",
        ],
        capture_output=True, timeout=240, text=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr, done.stderr
    assert "Sessions to look at" in done.stdout


def test_what_cannot_be_summed_up_is_refused(written, run, dataset, tmp_path):
    out = written["page"].parent
    with pytest.raises(RunError, match="--overwrite"):
        aggregate_run(run, dataset, out)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(RunError, match=r"thesis\.txt"):
        aggregate_run(run, dataset, tmp_path / "mine", overwrite=True)
    with pytest.raises(RunError, match="no sessions in split"):
        aggregate(run, dataset, "train", methods=METHODS)
    with pytest.raises(RunError, match="limit is 0"):
        aggregate(run, dataset, methods=METHODS, limit=0)
    with pytest.raises(RunError, match="'lime' is unknown"):
        aggregate_run(run, dataset, tmp_path / "out", methods=["lime"])
    other = dataclasses.replace(run, rules=ReadingRules(mask="ports"))
    with pytest.raises(RunError, match="other rules"):
        aggregate_run(other, dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options", [[], ["--data", "d", "--sessions", "1"], ["--data", "d", "--metrics"]]
)
def test_the_command_needs_a_split_and_no_sessions(options, capsys):
    captures = [] if options else ["x.pcap"]
    assert main(["explain", "run", *captures, *options, "--aggregate", "--out", "x"]) == 2
    assert "--aggregate needs --data" in capsys.readouterr().err


def test_a_limit_without_an_aggregate_is_refused(capsys):
    assert main(["explain", "run", "x.pcap", "--limit", "5", "--out", "x"]) == 2
    assert "--limit and --seed are for --aggregate" in capsys.readouterr().err
