"""The model to start with: whole, small, found by name, and usable right after an install."""

import collections
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import xai_traffic as xt
from xai_traffic.cli import main
from xai_traffic.data.build import convert
from xai_traffic.errors import RunError
from xai_traffic.evaluation.compare import compare
from xai_traffic.lab.write import write_lab
from xai_traffic.training.default_run import DEFAULT, FOLDER, own_folder, run_folder
from xai_traffic.training.state import params_sha256

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder at hand in which nothing is called default."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_whole_and_its_card_has_its_hashes(elsewhere):
    card = (FOLDER / "model_card.md").read_text("utf-8")
    listed = dict(re.findall(r"^\| `([^`]+)` \| [\d,]+ \| `([0-9a-f]{64})` \|$", card, re.M))
    json_files = {"config.json", "reading.json", "calibration.json"}
    assert set(listed) == {"variables.npz", "calibration.npz", *json_files}
    for name, digest in listed.items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name
    run = xt.load_run(DEFAULT)
    assert params_sha256(run.variables) in card
    assert run.calibration is not None and run.calibration.record["unknown"]["on"]
    assert len(run.classes) == 16 and run.rules.layers == "payload"
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 10e6
    assert all(path.is_file() for path in FOLDER.iterdir())


def test_its_card_says_what_it_is_worth_and_what_it_has_never_seen(elsewhere):
    card = (FOLDER / "model_card.md").read_text("utf-8")
    evaluation = json.loads((FOLDER / "evaluation-test.json").read_text())
    assert f"| accuracy | {100 * evaluation['accuracy']:.2f} % (" in card
    assert evaluation["leaky"] == [] and evaluation["confidence"]["unit"] == "capture"
    assert "It has never seen any protocol but the 16" in card
    assert "no licence is stated: mmguero-dev/Malcolm-PCAP" in card
    for missing in ("*Not measured", "*Not looked for", "*not at hand*", "LEAKY"):
        assert missing not in card, missing
    manifest = json.loads((FOLDER / "dataset.json").read_text())
    assert {row["capture"].split("/")[-1].split("__")[0] for row in manifest["captures"]} == {
        "suricata",
        "zeek",
    }
    for path in FOLDER.glob("*.json"):
        assert not re.search(r'"/[a-z]+/', path.read_text("utf-8")), f"a path in {path.name}"


def test_a_folder_of_that_name_is_meant_before_it(elsewhere):
    assert run_folder(DEFAULT) == FOLDER and run_folder("./default") == FOLDER
    assert main(["export", DEFAULT, "--out", "mine"]) == 0
    for name in ("variables.npz", "dataset.json", "audit.json", "notes.md"):
        assert (elsewhere / "mine" / name).read_bytes() == (FOLDER / name).read_bytes()
    (elsewhere / "mine").rename(elsewhere / DEFAULT)
    assert run_folder(DEFAULT) == own_folder(DEFAULT) == pathlib.Path(DEFAULT)
    assert xt.load_run(DEFAULT).path == pathlib.Path(DEFAULT)
    assert main(["card", DEFAULT]) == 0  # that one may be written to


def test_it_stands_in_the_table_of_runs(elsewhere):
    (row,) = compare([DEFAULT]).runs
    assert row["state"] == "finished" and row["test/accuracy"] > 0.9
    assert row["path"] == str(FOLDER)


@pytest.mark.parametrize("verb", ["evaluate", "calibrate", "card"])
def test_it_is_not_written_to(elsewhere, capsys, verb):
    before = {path.name: path.stat().st_mtime_ns for path in FOLDER.iterdir()}
    assert main([verb, DEFAULT]) == 1
    assert "xai-traffic export default --out RUN" in capsys.readouterr().err
    with pytest.raises(RunError, match="is not written to"):
        own_folder(FOLDER)
    assert {path.name: path.stat().st_mtime_ns for path in FOLDER.iterdir()} == before


def test_it_works_right_after_an_install(tmp_path):
    """What setup.py installs judges and explains a capture; nothing else of the checkout is there.

    Of the lab's name look-ups most are called DNS, in whatever words the lab asks.
    """
    installed = tmp_path / "site-packages"
    build = [sys.executable, "setup.py", "-q", "build", "--build-base", str(tmp_path / "build")]
    environment = {**os.environ, "XAI_TRAFFIC_NO_C": "1", "PYTHONWARNINGS": "ignore"}
    command = [*build, "build_py", "--build-lib", str(installed)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    there = {path.name for path in (installed / "xai_traffic" / "default_model").iterdir()}
    assert there == {path.name for path in FOLDER.iterdir()}
    write_lab(tmp_path / "lab", sessions_per_family=20, families=("dns",))
    (capture,) = (tmp_path / "lab").rglob("dns.pcap*")
    environment |= {"PYTHONPATH": str(installed), "XLA_FLAGS": ""}

    def run(*words):
        command = [sys.executable, "-m", "xai_traffic", *words]
        return subprocess.check_output(command, cwd=tmp_path, env=environment, text=True)

    verdicts = [json.loads(line) for line in run("classify", DEFAULT, str(capture)).splitlines()]
    called = [verdict["label"] for verdict in verdicts]
    assert len(called) >= 20 and called.count("DNS") > len(called) / 2
    assert all(set(verdict["probabilities"]) >= {"DNS", "TLS"} for verdict in verdicts)
    report = run("explain", DEFAULT, str(capture), "--sessions", "0", "--out", "why").strip()
    assert (tmp_path / report).is_file()
    explained = (tmp_path / "why" / "explanations.jsonl").read_text().splitlines()
    assert json.loads(explained[0])["label"] == verdicts[0]["label"]
    assert {path.name for path in (installed / "xai_traffic" / "default_model").iterdir()} == there


def test_sessions_are_dealt_by_capture_and_no_capture_outweighs_the_others(tmp_path, monkeypatch):
    """The benchmark's own split: whole captures, few sessions of each, none lost, and no leak."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from default_sessions import MOST, RULES, SPLIT, deal_again

    for seed in range(6):
        folder = tmp_path / "labs" / str(seed)
        write_lab(folder, seed=seed, sessions_per_family=12, families=("dns", "web", "beacon"))
    convert([tmp_path / "labs"], tmp_path / "whole", rules=RULES, split=SPLIT)
    whole = xt.open_dataset(tmp_path / "whole")
    dealt = deal_again(whole, tmp_path / "dealt", seed=0)
    assert len(dealt) == len(whole) and np.array_equal(dealt.tiles, whole.tiles)
    assert dealt.leaky("multiclass") == [] and not dealt.leaks["edited"]
    table = dealt.table.select(["capture", "label", "split"]).to_pylist()
    used = [row for row in table if row["split"] != "unused"]
    assert 0 < len(used) < len(table)
    most = collections.Counter((row["capture"], row["label"]) for row in used)
    assert max(most.values()) == MOST
    of = collections.defaultdict(set)
    for row in used:
        of[row["capture"]].add(row["split"])
    assert all(len(splits) == 1 for splits in of.values())
    for label, own in dealt.manifest["per_class"].items():
        found = collections.Counter(row["split"] for row in table if row["label"] == label)
        assert own["splits"] == {name: found[name] for name in own["splits"]}
        assert found["train"] > found["test"] > 0 and found["validation"] > 0
