"""Verdicts: what they say, and of captures that end badly those on what came before."""

import itertools
import json
import os
import re
import signal

import numpy as np
import pytest
from capture_bytes import ethernet, ipv4, pcap, tcp
from explained_run import make_run, write_capture

from xai_traffic.cli import main
from xai_traffic.errors import XaiTrafficError
from xai_traffic.evaluation.classify import classify, judge
from xai_traffic.report.session_section import endpoints


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("classify") / "run")


@pytest.fixture
def command(run, monkeypatch):
    """The command, with a run at hand that no training made."""
    monkeypatch.setattr("xai_traffic.training.run.load_run", lambda path, **options: run)
    return main


def cut_short(path):
    write_capture(path)
    path.write_bytes(path.read_bytes()[:-1])
    return path


def test_verdicts_come_before_the_fault(run, tmp_path):
    whole = list(classify(run, write_capture(tmp_path / "whole.pcap"), "a"))
    verdicts = []
    with pytest.raises(XaiTrafficError, match=r"cut.pcap, packet \d+, byte offset \d+: "):
        for verdict in classify(run, cut_short(tmp_path / "cut.pcap"), "a"):
            verdicts.append(verdict)
    assert len(verdicts) == len(whole) and verdicts[0] == whole[0]


def test_a_run_that_reads_a_cut_capture_warns(run, tmp_path, caplog):
    sessions = run.read(cut_short(tmp_path / "cut.pcap"))
    assert len(sessions) and caplog.messages == [sessions.fault]


def test_classify_prints_what_came_before_and_fails(command, tmp_path, capsys):
    cut_short(tmp_path / "a.pcap")
    write_capture(tmp_path / "b.pcap")
    assert command(["classify", "RUN", str(tmp_path)]) == 1
    output = capsys.readouterr()
    lines = [json.loads(line) for line in output.out.splitlines()]
    assert [line["capture"] for line in lines] == ["a.pcap"] * 5 + ["b.pcap"] * 5
    assert output.err.count("cut short") == 1 and "a.pcap, packet" in output.err


def test_a_mistyped_path_costs_the_good_ones_nothing(command, tmp_path, capsys):
    good = write_capture(tmp_path / "good.pcap")
    (tmp_path / "empty").mkdir()
    paths = [str(tmp_path / "typo.pcap"), str(good), str(tmp_path / "empty")]
    assert command(["classify", "RUN", *paths]) == 1
    output = capsys.readouterr()
    assert output.out.count("\n") == 5
    assert "typo.pcap: there is no such file" in output.err
    assert "empty: this folder holds no capture" in output.err


def test_an_interruption_judges_what_was_read_and_leaves_the_rest(
    command, tmp_path, capsys, monkeypatch
):
    paths = [str(write_capture(tmp_path / f"{name}.pcap")) for name in "ab"]

    def judge_interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return judge(*arguments)

    monkeypatch.setattr("xai_traffic.evaluation.classify.judge", judge_interrupted)
    assert command(["classify", "RUN", *paths]) == 1
    output = capsys.readouterr()
    assert {json.loads(line)["capture"] for line in output.out.splitlines()} == {paths[0]}
    assert output.out.count("\n") == 5 and f"{paths[1]}: not read" in output.err
    assert "SIGTERM: stopping as soon as what was read is judged" in output.err


def test_a_file_that_is_stopped_says_so_behind_its_verdicts(run, tmp_path):
    capture = write_capture(tmp_path / "a.pcap")
    said = classify(run, capture, stop=lambda: True)
    assert [verdict["session"] for verdict in itertools.islice(said, 5)] == [0, 1, 2, 3, 4]
    with pytest.raises(XaiTrafficError, match="a.pcap: stopped"):
        next(said)
    live = list(classify(run, capture, live=True, stop=lambda: True))
    assert len(live) == 5  # a live stream has no other way to end


def test_verdicts_are_those_of_the_whole_capture(run, tmp_path):
    capture = write_capture(tmp_path / "a.pcap")
    sessions = run.read(capture)
    probabilities = run.predict(sessions.images())
    for live in (False, True):
        said = list(classify(run, capture, "a", live=live))
        assert [verdict["session"] for verdict in said] == sessions.table["session"].to_pylist()
        found = [list(verdict["probabilities"].values()) for verdict in said]
        np.testing.assert_allclose(found, probabilities, atol=2e-6)
        assert {verdict["end"] for verdict in said} == {"capture end"}


def test_a_tunnel_is_told_beside_the_endpoints(run, tmp_path):
    inner = ipv4(tcp(1000, 80, data=b"x"), source="10.1.1.1", destination="10.1.1.2")
    outer = {"source": "192.0.2.1", "destination": "192.0.2.2"}
    packet = ethernet(ipv4(inner, protocol=4, **outer))
    (tmp_path / "a.pcap").write_bytes(pcap([packet]))
    (verdict,) = classify(run, tmp_path / "a.pcap", "a")
    assert (verdict["source"], verdict["destination"]) == ("10.1.1.1", "10.1.1.2")
    told = {name: verdict[name] for name in ("tunnel", "outer_source", "outer_destination")}
    assert told == {
        "tunnel": "ipip", "outer_source": "192.0.2.1", "outer_destination": "192.0.2.2",
    }  # fmt: skip
    shown = re.sub("<[^>]*>", "", endpoints(verdict))
    assert shown == "10.1.1.1:1000 → 10.1.1.2:80 in ipip 192.0.2.1 → 192.0.2.2"
    outside = {**verdict, "tunnel": None}
    assert re.sub("<[^>]*>", "", endpoints(outside)) == "10.1.1.1:1000 → 10.1.1.2:80"


def test_classify_takes_a_name_that_is_no_text(command, tmp_path, capsys):
    whole = write_capture(tmp_path / "a.pcap")
    os.rename(whole, os.fsencode(tmp_path) + b"/\xff.pcap")
    assert command(["classify", "RUN", str(tmp_path)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["capture"] for line in lines} == {"\\udcff.pcap"}


def test_explain_tells_why_a_cut_capture_has_no_session(command, tmp_path, capsys):
    capture = write_capture(tmp_path / "cut.pcap")
    capture.write_bytes(capture.read_bytes()[:30])
    assert command(["explain", "RUN", str(capture), "--out", str(tmp_path / "out")]) == 1
    assert "no session" in (said := capsys.readouterr().err) and "cut.pcap, packet 1, " in said
    assert not (tmp_path / "out").exists()


def test_explain_writes_what_came_before_and_fails(command, tmp_path, capsys):
    capture = cut_short(tmp_path / "cut.pcap")
    out = tmp_path / "out"
    arguments = ["--methods", "gradient_x_input", "--sessions", "0", "--out", str(out)]
    assert command(["explain", "RUN", str(capture), *arguments]) == 1
    output = capsys.readouterr()
    assert output.out.strip() == str(out / "report.html")
    assert output.err.count("cut short") == 1
    assert "cut short" in (out / "report.html").read_text("utf-8")
    assert (out / "explanations.jsonl").read_text("ascii").count("\n") == 1
