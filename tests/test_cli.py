"""The commands, as a user types them: what they print, write and answer."""

import gzip
import json
import os
import pathlib
import queue
import re
import subprocess
import sys
import threading
import time

import pytest
from capture_bytes import ethernet, ipv4, pcap, tcp, udp

import xai_traffic as xt
from xai_traffic.cli import main
from xai_traffic.cli.main import make_parser
from xai_traffic.demo import FAMILIES
from xai_traffic.lab.recipe import lab_recipe
from xai_traffic.lab.write import write_lab


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Known-answer captures, their dataset, and a small trained run."""
    folder = tmp_path_factory.mktemp("cli")
    write_lab(folder / "lab", seed=3, sessions_per_family=16, families=FAMILIES)
    dataset = str(folder / "dataset")
    assert (
        main(["convert", str(folder / "lab"), "--out", dataset, "--split", "random:60/20/20"]) == 0
    )
    command = ["train", "--config", "configs/vit.py:multiclass,debug"]
    command += [f"--config.data.path={dataset}", "--workdir", str(folder / "run")]
    assert main(command) == 0
    return folder


COMMAND = [sys.executable, "-m", "xai_traffic"]


def a_capture(folder) -> str:
    return str(sorted((folder / "lab" / "Malware").glob("*.pcap"))[0])


def test_version_names_the_core(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--version"])
    assert leaving.value.code == 0
    assert re.fullmatch(
        r"xai-traffic \d+\.\d+\.\d+, capture core: (c|numpy)\n", capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "verb",
    [
        "convert",
        "audit",
        "train",
        "calibrate",
        "evaluate",
        "compare",
        "classify",
        "explain",
        "lab",
        "demo",
    ],
)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as leaving:
        main([verb, "--help"])
    assert leaving.value.code == 0 and "usage:" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["convert"],
        ["convert", "x", "--out", "y", "--layers", "all", "--bogus"],
        ["explain", "run", "x.pcap", "--out", "y", "--sessions", "5-2"],
        ["explain", "run", "x.pcap", "--out", "y", "--sessions", "all"],
        ["classify", "run", "x.pcap", "--quiet-after", "soon"],
        ["classify", "run", "x.pcap", "--quiet-after", "-1"],
        ["compare"],
        ["compare", "run", "--json", "--csv"],
        ["convert", "x", "--out", "y", "--tunnels", "both"],
        ["convert", "x", "--out", "y", "--retransmissions", "mark"],
        ["audit", "data", "--out", "y", "--seed", "-1"],
        ["calibrate", "run", "--seed", "1.5"],
    ],
)
def test_wrong_usage_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(arguments)
    assert leaving.value.code == 2 and "usage:" in capsys.readouterr().err


def test_what_is_named_may_stand_behind_options():
    parser = make_parser()
    for line, named in (
        ("classify RUN a --quiet-after 9 b", {"captures": ["a", "b"], "quiet_after": 9.0}),
        ("explain RUN --out why a b", {"captures": ["a", "b"], "out": pathlib.Path("why")}),
        ("convert --out d a --workers 1 b", {"inputs": ["a", "b"], "workers": 1}),
        ("audit DATA --out o RUN", {"run_folder": pathlib.Path("RUN")}),
    ):
        options, rest = parser.parse_known_args(line.split())
        assert not rest
        assert {name: getattr(options, name) for name in named} == named
    line = "train --config c --config.seed=3 --workdir w --config.epochs 4"
    assert parser.parse_known_args(line.split())[1] == ["--config.seed=3", "--config.epochs", "4"]


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["convert", "missing.pcap", "--out", "OUT"], "missing.pcap"),
        (["convert", ".", "--out", "OUT", "--mask", "adresses"], "adresses"),
        (["convert", ".", "--out", "OUT", "--filter", "tcp and"], "filter"),
        (["convert", ".", "--out", "OUT", "--idle-timeout", "nan"], "idle_timeout"),
        (["convert", ".", "--out", "OUT", "--min-packets", "-1"], "min_packets"),
        (["convert", ".", "--out", "OUT", "--most-per-capture", "-1"], "most_per_capture"),
        (["convert", ".", "--out", "OUT", "--community-id-seed", "-1"], "community_id_seed"),
        (["convert", ".", "--out", "OUT", "--rule", "zeek", "--idle-timeout", "5"], "time-outs"),
        (["evaluate", "no-run"], "no-run"),
        (["compare", "no-run"], "no-run is no run"),
        (["classify", "no-run", "x.pcap"], "no-run"),
        (["train", "--config", "nothing.py", "--workdir", "OUT"], "nothing.py"),
        (["train", "--config", "configs/vit.py:debug", "--workdir", "OUT"], "data.path"),
        (
            [
                "train",
                "--config",
                "configs/vit.py:debug",
                "--config.bach_size=3",
                "--workdir",
                "OUT",
            ],
            "batch_size",
        ),
    ],
)
def test_failure_is_status_1_and_one_clear_line(arguments, told, tmp_path, capsys):
    arguments = [str(tmp_path / "out") if word == "OUT" else word for word in arguments]
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert told in message and "Traceback" not in message
    assert not (tmp_path / "out").exists()


def test_interruption_has_a_status_of_its_own(tmp_path, monkeypatch, capsys):
    def interrupted(config, workdir):
        raise KeyboardInterrupt

    monkeypatch.setattr("xai_traffic.training.loop.train", interrupted)
    assert main(["train", "--config", "configs/vit.py", "--workdir", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "xai-traffic: interrupted\n"


def test_convert_refuses_what_exists(folder, capsys):
    assert main(["convert", a_capture(folder), "--out", str(folder / "dataset")]) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_bad_capture_costs_only_itself(folder, tmp_path, capsys):
    (tmp_path / "in" / "Benign").mkdir(parents=True)
    good = tmp_path / "in" / "Benign" / "good.pcap"
    good.write_bytes((folder / "lab" / "Benign" / "dns.pcap").read_bytes())
    (tmp_path / "in" / "Benign" / "bad.pcap").write_bytes(b"this is no capture")
    assert main(["convert", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--json"]) == 1
    output = capsys.readouterr()
    assert "bad.pcap" in output.err
    manifest = json.loads(output.out)
    dataset = xt.open_dataset(tmp_path / "out")
    assert len(dataset.table) > 0 and dataset.classes == ["good"] == manifest["classes"]


def test_derived_dataset_keeps_the_split(folder, tmp_path):
    out = tmp_path / "masked"
    source = xt.open_dataset(folder / "dataset")
    assert main(["convert", str(folder / "dataset"), "--mask", "ports", "--out", str(out)]) == 0
    derived = xt.open_dataset(out)
    split = {(row["capture"], row["session"]): row["split"] for row in source.table.to_pylist()}
    assert derived.rules.mask == "ports"
    assert all(
        split[row["capture"], row["session"]] == row["split"] for row in derived.table.to_pylist()
    )


def test_train_again_says_what_stands(folder, capsys):
    command = ["train", "--config", "configs/vit.py:multiclass,debug", "--json"]
    command += [f"--config.data.path={folder / 'dataset'}", "--workdir", str(folder / "run")]
    assert main(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads((folder / "run" / "result.json").read_text())
    assert re.fullmatch("[0-9a-f]{64}", result["params_sha256"])


def test_train_leaves_the_run_calibrated_once(folder, capsys):
    path = folder / "run" / "calibration.json"
    record = json.loads(path.read_text())
    result = json.loads((folder / "run" / "result.json").read_text())
    assert record["params_sha256"] == result["best_params_sha256"]
    assert record["sessions"] == len(xt.open_dataset(folder / "dataset").rows("validation"))
    assert not record["unknown"]["on"]
    before = path.stat().st_mtime_ns
    command = ["train", "--config", "configs/vit.py:multiclass,debug"]
    command += [f"--config.data.path={folder / 'dataset'}", "--workdir", str(folder / "run")]
    assert main(command) == 0
    assert path.stat().st_mtime_ns == before
    path.unlink()
    assert main(command) == 0
    assert json.loads(path.read_text()) == record
    assert "calibrated, temperature" in capsys.readouterr().err


def test_evaluate_writes_scores_and_plots(folder, capsys):
    assert main(["evaluate", str(folder / "run"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((folder / "run" / "evaluation-test.json").read_text())
    assert printed == written
    dataset = xt.open_dataset(folder / "dataset")
    assert written["sessions"] == len(dataset.rows("test"))
    assert {"accuracy", "macro_f1", "mcc", "per_class", "confusion_matrix"} <= set(written)
    plots = {path.name for path in (folder / "run" / "evaluation-test").iterdir()}
    drawn = ("confusion_matrix", "per_class", "reliability", "risk_coverage", "prediction_sets")
    assert plots == {f"{name}.png" for name in drawn}


def test_evaluate_forges_the_split(folder, capsys):
    run = folder / "run"
    assert main(["evaluate", str(run), "--forge", "all,none", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((run / "forged-test.json").read_text())
    every, nothing = printed["forgeries"]
    assert every["changed_packets"] == 1 and nothing["changed_packets"] == 0
    assert set(nothing["drop"]["accuracy"].values()) == {0.0}
    assert main(["evaluate", str(run)]) == 0
    written = json.loads((run / "evaluation-test.json").read_text())
    assert written["accuracy"] == pytest.approx(printed["unforged"]["accuracy"]["value"])
    assert written["macro_f1"] == pytest.approx(printed["unforged"]["macro_f1"]["value"])


def test_compare_reads_what_train_and_evaluate_wrote(folder, capsys):
    assert main(["evaluate", str(folder / "run")]) == 0
    assert main(["compare", str(folder), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["runs"]
    result = json.loads((folder / "run" / "result.json").read_text())
    written = json.loads((folder / "run" / "evaluation-test.json").read_text())
    assert (row["run"], row["state"], row["step"]) == ("run", "finished", result["step"])
    assert row["params_sha256"] == result["params_sha256"]
    assert row["validation/loss"] == result["best"]["loss"]
    assert row["test/mcc"] == written["mcc"] and written["step"] == result["best_step"]


VERDICT_KEYS = {
    "capture",
    "session",
    "protocol",
    "source",
    "source_port",
    "destination",
    "destination_port",
    "first_time",
    "last_time",
    "packets",
    "bytes",
    "community_id",
    "label",
    "probability",
    "probabilities",
    "end",
    "tunnel",
    "outer_source",
    "outer_destination",
}


def test_classify_prints_a_line_a_session(folder, capsys):
    capture = a_capture(folder)
    assert main(["classify", str(folder / "run"), capture]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    sessions = xt.load_run(folder / "run").read(capture)
    assert len(lines) == len(sessions.table)
    for line, session, source in zip(
        sorted(lines, key=lambda line: line["session"]),
        sessions.table["session"].to_pylist(),
        sessions.table["source"].to_pylist(),
        strict=True,
    ):
        assert set(line) == VERDICT_KEYS | {"prediction_set"}  # `train` left the run calibrated
        assert (line["session"], line["source"]) == (session, source)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", line["first_time"])
        assert line["label"] == max(line["probabilities"], key=line["probabilities"].get)
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-4)


def test_classify_reads_compressed_standard_input(folder, capsys):
    capture = a_capture(folder)
    main(["classify", str(folder / "run"), capture])
    direct = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    with open(capture, "rb") as stream:
        packed = gzip.compress(stream.read())
    done = subprocess.run(
        [*COMMAND, "classify", str(folder / "run"), "-", "--quiet-after", "0"],
        input=packed,
        capture_output=True,
        check=True,
    )
    piped = [json.loads(line) for line in done.stdout.splitlines()]
    assert [{**line, "capture": ""} for line in piped] == [
        {**line, "capture": ""} for line in direct
    ]


def question(port: int) -> bytes:
    return ethernet(ipv4(udp(port, 53, data=b"?"), protocol=17))


def lines_of(stream) -> queue.Queue:
    """Return the queue into which a thread puts what a process prints, line by line."""
    lines: queue.Queue = queue.Queue()
    threading.Thread(
        target=lambda: [lines.put(json.loads(line)) for line in stream], daemon=True
    ).start()
    return lines


def test_classify_judges_a_pipe_while_it_runs(folder):
    """Fed piece by piece: verdicts are there before it ends, and it ends as it is told to."""
    process = subprocess.Popen(
        [*COMMAND, "classify", str(folder / "run"), "-", "--quiet-after", "20"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    lines = lines_of(process.stdout)

    def feed(*records: tuple[int, bytes]) -> None:
        data = pcap([(second, 0, packet) for second, packet in records])[24:]
        for start in range(0, len(data), 50):  # records are cut anywhere
            process.stdin.write(data[start : start + 50])
            process.stdin.flush()

    def told(count: int) -> dict:
        """Return (why, packets) by session of the next verdicts."""
        found = [lines.get(timeout=60) for _ in range(count)]
        return {line["session"]: (line["end"], line["packets"]) for line in found}

    with process:
        process.stdin.write(pcap([]))
        feed(*[(1, question(1))] * 64)
        assert told(1) == {0: ("packet limit", 64)}
        feed((2, question(2)), (3, question(1)))
        feed((4, ethernet(ipv4(tcp(9, flags=2)))), (5, ethernet(ipv4(tcp(9, flags=2, sequence=8)))))
        assert told(1) == {2: ("new connection", 1)}
        feed((26, question(4)))
        assert told(2) == {1: ("quiet", 1), 3: ("quiet", 1)}
        feed((27, question(2)), (27, question(1)))  # both were judged already
        process.stdin.write(b"\0" * 7)  # in the middle of a record
        process.stdin.flush()
        time.sleep(0.2)
        process.terminate()
        assert process.wait(60) == 0
        assert told(1) == {4: ("capture end", 1)} and lines.empty()
        said = process.stderr.read().decode()
        assert "SIGTERM: stopping" in said
        assert "cut short" not in said and "Traceback" not in said


def test_a_seed_of_the_community_id_may_be_wished_for(folder, capsys):
    command = ["classify", str(folder / "run"), a_capture(folder)]
    assert main(command) == 0
    plain = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert main([*command, "--community-id-seed", "1"]) == 0
    seeded = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    for one, other in zip(plain, seeded, strict=True):
        assert one.pop("community_id") != other.pop("community_id")
        assert one == other
    assert main([*command, "--community-id-seed", "65536"]) == 1
    assert "community_id_seed" in capsys.readouterr().err


def test_classify_goes_on_after_a_bad_capture(folder, tmp_path, capsys):
    bad = tmp_path / "bad.pcap"
    bad.write_bytes(b"")
    assert main(["classify", str(folder / "run"), str(bad), a_capture(folder)]) == 1
    output = capsys.readouterr()
    assert "bad.pcap" in output.err and output.out.count("\n") > 1


def test_explain_writes_report_lines_and_figures(folder, capsys):
    out = folder / "why"
    command = ["explain", str(folder / "run"), a_capture(folder), "--sessions", "1"]
    assert main([*command, "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    lines = [json.loads(line) for line in (out / "explanations.jsonl").read_text().splitlines()]
    assert [line["session"] for line in lines] == [1]
    assert list((out / "figures").glob("*.png"))
    assert main([*command, "--out", str(out)]) == 1
    assert "--overwrite" in capsys.readouterr().err


def test_explain_a_split_of_a_dataset(folder):
    out = folder / "why-split"
    command = ["explain", str(folder / "run"), "--data", str(folder / "dataset"), "--methods"]
    assert main([*command, "grad_cam", "--out", str(out)]) == 0
    assert (out / "report.html").exists()


def test_explain_sums_up_a_split(folder, capsys):
    out = folder / "sums"
    command = ["explain", str(folder / "run"), "--data", str(folder / "dataset"), "--aggregate"]
    command += ["--methods", "gradient_x_input", "--limit", "3", "--out", str(out)]
    assert main(command) == 0
    assert capsys.readouterr().out.strip() == str(out / "aggregate.html")
    assert json.loads((out / "aggregate.json").read_text())["sessions"] == 3
    assert list((out / "figures").glob("*.png"))
    assert main(command) == 1


def test_explain_takes_captures_or_data(folder, tmp_path, capsys):
    assert main(["explain", str(folder / "run"), "--out", str(tmp_path / "x")]) == 2
    assert "--data" in capsys.readouterr().err


def test_output_that_cannot_be_written_is_a_failure(folder, tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    command = [*COMMAND, "convert", a_capture(folder), "--json"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*command, "--out", str(tmp_path / "out")],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1 and "No space left" in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_lab_command(tmp_path, capsys):
    assert main(["lab", "--out", str(tmp_path / "lab")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "lab")
    assert (tmp_path / "lab" / "evidence.jsonl").exists()
    asked = ["--plant", "window", "--packet", "3", "--strength", "0.5", "--sessions", "4"]
    out = str(tmp_path / "planted")
    assert main(["lab", "--out", out, *asked, "--families", "web, ssh"]) == 0
    assert capsys.readouterr().out.strip() == out
    recipe = lab_recipe(out)
    assert recipe.families == ("web", "ssh") and recipe.best_accuracy == 0.75
    assert (recipe.plant, recipe.packet, recipe.sessions_per_family) == ("window", 3, 4)
    assert main(["lab", "--out", str(tmp_path / "no"), "--plant", "window", "--packet", "99"]) == 1
    assert "packet is 99: choose one of 0 to 63" in capsys.readouterr().err


def test_python_names_of_the_contract(folder):
    capture = a_capture(folder)
    sessions = xt.read_capture(
        capture, layers="all", mask="none", rule="connection", min_packets=1, layout="tiles"
    )
    count = len(sessions.table)
    assert sessions.images().shape == (count, 128, 128)
    assert sessions.tiles.shape == (len(sessions.packets), 256)
    assert isinstance(sessions.dropped, dict)
    run = xt.load_run(folder / "run")
    images = run.read(capture).images()
    assert run.predict(images).shape == (count, len(run.classes))
    attributions = run.explain(images[:2], method="integrated_gradients", target=None)
    assert attributions.shape == (2, 128, 128) and attributions.dtype == "float32"
    dataset = xt.open_dataset(folder / "dataset")
    assert dataset.images([0, 1]).shape == (2, 128, 128)
    assert (
        len(dataset.labels) == len(dataset.table) and dataset.manifest["classes"] == dataset.classes
    )
    assert callable(xt.explain.integrated_gradients)
