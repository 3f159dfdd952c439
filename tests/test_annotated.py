"""What explain leaves for an analyst's tools: comments, colours, lines by a schema, a table."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest
from capture_bytes import ethernet, ipv4, ipv6, pcap, section, tcp, udp
from explained_run import CLASSES, make_run, write_capture

from xai_traffic.capture.annotate import annotate
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import read_capture
from xai_traffic.data.build import convert
from xai_traffic.errors import RunError
from xai_traffic.report import annotated as module
from xai_traffic.report.colour_rules import class_hues, packet_filter, write_colour_rules
from xai_traffic.report.comments import PacketComments, heat, parse_comment, quoted
from xai_traffic.report.explanations import explain_run
from xai_traffic.report.jsonl import SCHEMA, SCHEMA_VERSION
from xai_traffic.report.parquet import write_parquet
from xai_traffic.terminal import log, printable

METHODS = ("gradient_x_input", "gradient")
NAMES = [*CLASSES, 'C@t | "quoted\\" \u202e', "Benign", "Malware"]


def long_session(packets):
    """Return the records of one session that the model does not read to its end."""
    return [
        ethernet(ipv4(tcp(50_000, 443, flags=0x18, sequence=n, data=bytes([n + 1]) * 40)))
        for n in range(packets)
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Explain three of four sessions once: (run, capture, report folder, what came back)."""
    folder = tmp_path_factory.mktemp("annotated")
    run = make_run(folder / "a run \x1b", classes=NAMES)
    capture = folder / "<img> one.pcap"
    write_capture(capture, sessions=2)
    hidden = ethernet(ipv6(udp(5, 6, data=b"x" * 30), protocol=17), kind=0x86DD)
    capture.write_bytes(capture.read_bytes() + pcap([*long_session(70), b"\xff" * 60, hidden])[24:])
    written = explain_run(run, [capture], folder / "report", sessions=[0, 2, 3], methods=METHODS)
    return run, capture, folder / "report", written


@pytest.fixture
def tshark():
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")

    def ask(path, *options, settings=None):
        command = ["tshark", "-n", "-r", path, *options]
        own = {"WIRESHARK_CONFIG_DIR": str(settings)} if settings else {}
        return subprocess.run(command, capture_output=True, check=False, env=os.environ | own)

    return ask


def comments_of(tshark, path):
    """Return the comment of each packet, None where it has none, as tshark tells it in JSON."""
    told = json.loads(tshark(path, "-T", "json", "-e", "frame.comment").stdout)
    found = [packet["_source"]["layers"].get("frame.comment") for packet in told]
    return [None if one is None else one[0] for one in found]


def lines_of(written):
    return [json.loads(line) for line in written["explanations"].read_text("ascii").splitlines()]


def test_comments_parse_back_to_the_lines(made, tshark):
    run, _, folder, written = made
    assert written["annotated"] == folder / "annotated.pcapng"
    comments = comments_of(tshark, written["annotated"])
    seen = 0
    for line in lines_of(written):
        method = line["methods"]["gradient_x_input"]
        for packet in method["packets"]:
            told = parse_comment(comments[packet["frame"] - 1])
            seen += 1
            assert {name: told[name] for name in ("label", "probability", "session")} == {
                name: line[name] for name in ("label", "probability", "session")
            }
            assert (told["packet"], told["step"]) == (packet["packet"], run.step)
            assert told["run"] == "a run \x1b"
            if packet["packet"] >= line["read"]:
                assert told["read"] == line["read"] == 16 and "share" not in told
                continue
            assert told["method"] == "gradient_x_input"
            assert told["card"] == method["card"]["grade"]
            assert told["share"] == pytest.approx(packet["share"], rel=5e-4, abs=1e-9)
            assert told["heat"] == heat(packet["share"])
            for own, field in zip(told["fields"], packet["fields"], strict=False):
                assert own["share"] == pytest.approx(field["share"], rel=5e-4, abs=1e-9)
                assert own["field"] == field["field"]
                assert own["start"] == packet["offset"] + field["start"]
                assert own["end"] == packet["offset"] + field["end"]
            assert len(told["fields"]) == min(4, len(packet["fields"]))
    assert seen == 4 + 64 + 1


def test_judged_sessions_have_short_comments_and_others_none(made, tshark):
    comments = comments_of(tshark, made[3]["annotated"])
    assert len(comments) == 4 + 4 + 70 + 2
    assert all("not explained" in comment for comment in comments[4:8])
    assert parse_comment(comments[5])["session"] == 1
    # Beyond the 64 tiles of a session, and what is no session.
    assert comments[8 + 64 : 8 + 71] == [None] * 7 and comments[-1] is not None
    assert sum("the first 16 packets" in (comment or "") for comment in comments) == 64 - 16


def test_frames_and_their_bytes_are_those_of_the_capture(made, tshark):
    _, capture, _, written = made
    names = ("frame.number", "frame.time_epoch", "frame.len", "frame.cap_len", "frame.protocols")
    asked = ["-T", "fields", *(part for name in names for part in ("-e", name))]
    assert tshark(capture, *asked).stdout == tshark(written["annotated"], *asked).stdout
    assert tshark(capture, "-x").stdout == tshark(written["annotated"], "-x").stdout


def test_byte_ranges_count_from_the_frame(made, tmp_path):
    run = dataclasses.replace(made[0], rules=ReadingRules(layers="payload"))
    capture = tmp_path / "a.pcap"
    capture.write_bytes(pcap(long_session(3)))
    written = explain_run(run, [capture], tmp_path / "out", methods=["gradient_x_input"])
    text = written["annotated"].read_bytes().decode("utf-8", "replace")
    (line,) = lines_of(written)
    (field,) = line["methods"]["gradient_x_input"]["packets"][0]["fields"]
    assert (field["start"], field["end"]) == (0, 40)
    assert line["methods"]["gradient_x_input"]["packets"][0]["offset"] == 54
    assert "payload bytes 54-93 " in text


def painted(tshark, path, rules, folder):
    """Return the name of the rule by which Wireshark colours each packet; rules must all load."""
    folder.mkdir()
    shutil.copy(rules, folder / "colorfilters")
    asked = ["-T", "fields", "-e", "frame.coloring_rule.name"]
    done = tshark(path, "--color", *asked, settings=folder)
    assert done.returncode == 0
    assert not [line for line in done.stderr.decode().splitlines() if "Running as" not in line]
    return done.stdout.decode().splitlines()


def test_wireshark_colours_packets_by_verdict_and_heat(made, tshark, tmp_path):
    _, _, folder, written = made
    assert written["colours"] == folder / "annotated.colorfilters"
    rules = painted(tshark, written["annotated"], written["colours"], tmp_path / "own")
    seen = set()
    for rule, comment in zip(rules, comments_of(tshark, written["annotated"]), strict=True):
        told = parse_comment(comment or "")
        if told is None:
            assert rule == ""
            continue
        level = f"heat {told['heat']}" if told.get("heat") else "other packets"
        assert rule == printable(f"{told['label']}, {level}").replace("@", "(at)")
        seen.add(level)
    assert len(seen) >= 3


def test_colour_rules_of_hostile_names_load(tmp_path, tshark):
    path, out, rules = tmp_path / "six.pcap", tmp_path / "out.pcapng", tmp_path / "rules"
    path.write_bytes(pcap([b"x" * 60] * len(NAMES)))
    comments = {
        number: f"xai-traffic: verdict {quoted(name)}, probability 1 %, heat {number % 5} of 4,"
        for number, name in enumerate(NAMES, 1)
    }
    annotate(path, out, comments)
    write_colour_rules(rules, NAMES)
    found = painted(tshark, out, rules, tmp_path / "own")
    assert len(set(found)) == len(NAMES)
    for number, (rule, name) in enumerate(zip(found, NAMES, strict=True), 1):
        level = f"heat {number % 5}" if number % 5 else "other packets"
        assert rule == printable(f"{name}, {level}").replace("@", "(at)")
    for number, name in enumerate(NAMES, 1):
        asked = ["-Y", packet_filter(name, 0), "-T", "fields", "-e", "frame.number"]
        assert tshark(out, *asked).stdout.decode().split() == [str(number)]


def test_hues_tell_classes_apart():
    assert class_hues(["Benign", "Malware"]) == {"Benign": 1 / 3, "Malware": 0.0}
    many = [f"class {n}" for n in range(20)]
    hues = sorted(class_hues(many).values())
    assert np.diff(hues) == pytest.approx(1 / 20) and hues[0] >= 0 and hues[-1] < 1


def test_lines_hold_to_their_schema(made):
    schema = json.loads(SCHEMA.read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    assert schema["$id"].endswith(SCHEMA_VERSION)
    lines = lines_of(made[3])
    for line in lines:
        validator.validate(line)
    for name in schema["required"]:
        broken = {key: value for key, value in lines[0].items() if key != name}
        assert not validator.is_valid(broken)
    assert not validator.is_valid({**lines[0], "own": 1})


def test_lines_speak_eve_and_ecs(made):
    first, long, last = lines_of(made[3])
    for line in (first, long, last):
        assert line["annotated"] == "annotated.pcapng" and line["event_type"] == "xai"
        assert line["pcap_filename"] == line["capture"]
        assert (line["src_ip"], line["dest_ip"]) == (line["source"], line["destination"])
        assert (line["src_port"], line["dest_port"]) == (
            line["source_port"], line["destination_port"],
        )  # fmt: skip
        document = line["ecs"]
        assert document["source"]["ip"] == line["source"]
        assert document["network"]["community_id"] == line["community_id"]
        assert document["event"]["start"] == document["@timestamp"] == line["first_time"]
    assert first["timestamp"] == "1970-01-01T00:00:00.000000+0000" == first["flow"]["start"]
    assert first["flow"] == {
        "pkts_toserver": 2, "pkts_toclient": 2,
        "bytes_toserver": first["ecs"]["source"]["bytes"],
        "bytes_toclient": first["ecs"]["destination"]["bytes"],
        "start": first["timestamp"], "end": "1970-01-01T00:00:03.000000+0000", "age": 3,
    }  # fmt: skip
    assert first["ecs"]["event"]["duration"] == 3_000_000_000
    assert sum(first["ecs"][end]["bytes"] for end in ("source", "destination")) == first["bytes"]
    # Of six of its packets nobody kept the direction.
    assert long["packets"] == 70 and set(long["flow"]) == {"start", "end", "age"}
    assert "packets" not in long["ecs"]["source"]
    assert (last["proto"], last["ecs"]["network"]["type"]) == ("UDP", "ipv6")


def test_table_holds_the_lines(made):
    _, _, folder, written = made
    assert written["table"] == folder / "explanations.parquet"
    rows = pq.read_table(written["table"]).to_pylist()
    expected = [
        (line["session"], name, packet)
        for line in lines_of(written)
        for name, method in line["methods"].items()
        for packet in method["packets"]
    ]
    assert len(rows) == len(expected) == 2 * (4 + 64 + 1)
    for row, (session, name, packet) in zip(rows, expected, strict=True):
        assert (row["session"], row["method"]) == (session, name)
        for key, value in packet.items():
            assert row[key] == value


def test_table_of_many_sessions_has_many_row_groups(made, tmp_path, monkeypatch):
    monkeypatch.setattr("xai_traffic.report.parquet.GROUP", 60)
    text = made[3]["explanations"].read_text("ascii")
    (tmp_path / "lines.jsonl").write_text(text * 5, "ascii")
    write_parquet(tmp_path / "lines.jsonl", tmp_path / "table.parquet")
    whole = pq.ParquetFile(tmp_path / "table.parquet")
    assert whole.metadata.num_rows == 5 * 2 * 69 and whole.metadata.num_row_groups >= 5
    (tmp_path / "none.jsonl").write_text("")
    write_parquet(tmp_path / "none.jsonl", tmp_path / "none.parquet")
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0


def test_each_of_several_captures_has_its_copy(made, tmp_path):
    run = made[0]
    names = ["x/a.pcap", "y/a.pcap", "y/\x1b[2J..\u202e.pcap"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_capture(tmp_path / name, sessions=1)
    (tmp_path / "bad.pcap").write_bytes(b"nothing")
    captures = [tmp_path / name for name in names]
    written = explain_run(
        run, [tmp_path / "bad.pcap", *captures], tmp_path / "out", methods=["gradient_x_input"]
    )
    copies = sorted(path.name for path in written["annotated"].iterdir())
    assert len(copies) == 3 and [name[:4] for name in copies] == ["001-", "002-", "003-"]
    assert all(name.isascii() and name.isprintable() for name in copies)
    assert copies[0] != copies[1] and copies[0].endswith("x_a.pcap.pcapng")
    for line in lines_of(written):
        copy = tmp_path / "out" / line["annotated"]
        assert line["annotated"].startswith("annotated/")
        assert copy.read_bytes().startswith(section()[:4])
    page = written["report"].read_text("utf-8")
    assert "x/a.pcap" in page.split("Judged", 1)[1][:400]
    # An earlier report with all its files may be replaced, here by one without copies.
    again = explain_run(
        run, captures[:1], tmp_path / "out", methods=["gradient_x_input"], annotate=False,
        overwrite=True,
    )  # fmt: skip
    assert again["annotated"] is None and again["colours"] is None
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "report.html", "explanations.jsonl", "explanations.parquet", "figures",
    }  # fmt: skip
    (tmp_path / "out" / "annotated.txt").write_text("mine")
    with pytest.raises(RunError, match=r"annotated\.txt"):
        explain_run(run, captures[:1], tmp_path / "out", overwrite=True)


def test_a_dataset_and_standard_input_are_not_annotated(made, tmp_path, caplog):
    folder = tmp_path / "captures" / "Benign"
    folder.mkdir(parents=True)
    write_capture(folder / f"{CLASSES[0]}.pcap", sessions=3)
    run = made[0]
    convert([folder], tmp_path / "data", rules=run.rules, split="random:0/0/100")
    log.propagate = True
    with caplog.at_level("INFO", "xai_traffic"):
        written = explain_run(
            run, [], tmp_path / "out", dataset=tmp_path / "data", limit=1,
            methods=["gradient_x_input"],
        )  # fmt: skip
    assert written["annotated"] is None and written["colours"] is None
    assert "a dataset holds no captures: nothing is annotated" in caplog.text
    (line,) = lines_of(written)
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(line)
    assert line["annotated"] is None and pq.read_table(written["table"]).num_rows > 0

    sessions = read_capture(made[1])
    said = module.Judgement("-", pathlib.Path("-"), sessions.packets, [])
    with caplog.at_level("INFO", "xai_traffic"):
        assert module.write_annotated(run, tmp_path, [said], [], False) == {}
    assert "standard input is read once" in caplog.text


def test_comments_are_a_mapping_by_frame(made):
    run, capture, _, _ = made
    sessions = read_capture(capture)
    verdicts = [
        {"session": session, "label": NAMES[3], "probability": 0.5}
        for session in sessions.table["session"].to_pylist()
    ]
    comments = PacketComments(run, sessions.packets, verdicts, [])
    assert len(comments) == len(list(comments)) == 4 + 4 + 64 + 1
    assert comments.get(10**6) is None and comments.get(9 + 64) is None
    assert all(comments[frame].isprintable() for frame in comments)
    assert parse_comment(f"before, {comments[1]} | behind")["label"] == NAMES[3]
    # Of a copy that was annotated again the last word counts.
    assert parse_comment(f"{comments[1]},{comments[2]}")["packet"] == 1


@pytest.mark.parametrize(
    "text", ["", "xai-traffic", 'xai-traffic: verdict "a", probability', "note | share 1 %"]
)
def test_other_comments_are_not_ours(text):
    assert parse_comment(text) is None


def test_scripts_find_what_they_found_before(made):
    kept = {
        "capture", "session", "protocol", "source", "source_port", "destination",
        "destination_port", "first_time", "last_time", "packets", "bytes", "community_id", "label",
        "probability", "probabilities", "end", "tunnel", "outer_source", "outer_destination",
        "truth", "target", "mask", "read", "methods",
    }  # fmt: skip
    assert all(kept <= line.keys() for line in lines_of(made[3]))
