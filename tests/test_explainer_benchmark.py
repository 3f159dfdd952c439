"""Explainers on known evidence: a model that uses it, one that cannot, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
from explained_run import make_run
from small_dataset import tiny_config

from xai_traffic import explain
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.cli.main import main
from xai_traffic.data.build import convert
from xai_traffic.data.store import open_dataset
from xai_traffic.errors import RunError
from xai_traffic.evaluation import evidence_scores
from xai_traffic.evaluation import explainer_benchmark as bench
from xai_traffic.evaluation.bootstrap import ratio_interval
from xai_traffic.lab.evidence import read_evidence
from xai_traffic.lab.recipe import lab_recipe
from xai_traffic.lab.write import write_lab
from xai_traffic.training.loop import train
from xai_traffic.training.run import load_run

METHODS = ("gradient_x_input", "grad_cam")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    write_lab(folder / "lab", sessions_per_family=150, families=("dns",), plant="ttl")
    convert([folder / "lab"], folder / "data", rules=ReadingRules(), split="random:80/20/0")
    changes = {"data.limit": 0, "epochs": 20, "optimizer.ema": 0.9}
    changes |= {f"augment.{way}": 0.0 for way in ("header_dropout", "payload_dropout", "byte_swap")}
    dataset = open_dataset(folder / "data")
    for name, permuted in (("run", False), ("control", True)):
        config = tiny_config(dataset, task="binary", **changes, **{"data.permute_labels": permuted})
        train(config, folder / name)
    return folder


@pytest.fixture(scope="module")
def result(folder):
    run, control = (load_run(folder / name) for name in ("run", "control"))
    return bench.benchmark_explainers(run, control=control, methods=METHODS, sessions=8)


def test_a_run_knows_its_lab(folder):
    assert bench.recipe_of(load_run(folder / "run")) == lab_recipe(folder / "lab")


def test_the_model_loses_everything_with_the_plant(result):
    relied = result["reliance"]
    assert relied["relies"] and relied["best"] == 1
    assert relied["accuracy"]["mean"] > 0.9
    assert relied["without"]["low"] <= 0.5 <= relied["without"]["high"]
    assert 0 < result["explained"]["sessions"] <= 8 <= result["explained"]["turned"]


def test_the_method_that_follows_the_bytes_finds_the_field(result):
    own = result["methods"]["gradient_x_input"]
    assert own["fields"]["pointing"]["mean"] > 0.6
    assert own["bytes"]["mass"]["mean"] > 10 * result["chance"]["bytes"]
    assert "bytes" in result["answers"]["gradient_x_input"]
    assert not result["answers"]["random"]
    control = result["control"]["methods"]["gradient_x_input"]
    assert control["bytes"]["mass"]["mean"] < own["bytes"]["mass"]["mean"] / 2


def test_the_claim_is_answered_with_an_interval(result):
    logit = result["claim"]["logit"]
    assert logit["difference"]["low"] > 0
    assert logit["planted"]["mean"] > logit["other"]["mean"]
    ratio = result["claim"]["shares"]["gradient_x_input"]
    assert 1 < ratio["low"] <= ratio["mean"] <= ratio["high"]


def test_evidence_lies_where_the_lines_say(folder):
    run = load_run(folder / "run")
    judged = bench.judge_lab(run, folder / "lab")
    lines = read_evidence(folder / "lab")
    assert judged.malware.sum() == len(lines) == 150
    for key, image in zip(judged.keys, judged.images, strict=True):
        marks = evidence_scores.marked(lines.get(key, ()))
        assert marks.any() == key[0].startswith("Malware/")
        assert (image[marks] == 255).all()
        assert marks.sum() == len(lines.get(key, ()))  # a byte of each packet of the client


def test_the_command_writes_what_it_measured(folder, capsys):
    arguments = ["benchmark-explainers", str(folder / "run"), "--methods", "gradient_x_input"]
    assert main([*arguments, "--sessions", "4", "--json"]) == 0
    shown = capsys.readouterr()
    written = json.loads((folder / "run" / "explainers.json").read_text())
    assert json.loads(shown.out) == written
    assert written["explained"]["sessions"] == 4
    assert "gradient_x_input" in shown.err and "which" in shown.err


def test_what_cannot_be_asked_is_refused(folder, tmp_path):
    with pytest.raises(RunError, match="was not trained on a lab"):
        bench.benchmark_explainers(make_run(tmp_path))
    run = load_run(folder / "run")
    with pytest.raises(RunError, match="train with task binary"):
        bench.benchmark_explainers(dataclasses.replace(run, task="multiclass"))
    with pytest.raises(RunError, match="layers 'payload'"):
        rules = dataclasses.replace(run.rules, layers="payload")
        bench.benchmark_explainers(dataclasses.replace(run, rules=rules))
    with pytest.raises(RunError, match="permute_labels"):
        bench.benchmark_explainers(run, control=run)
    # What has not learned cannot be asked where it looked.
    with pytest.raises(RunError, match="no verdict turns"):
        head = {"params": {"head": {"kernel": 0.0, "bias": np.float32([1, 0])}}}
        bench.benchmark_explainers(dataclasses.replace(run, variables=_with(run.variables, head)))


def _with(variables, head):
    changed = {**variables, "params": {**variables["params"]}}
    own = changed["params"]["head"]
    changed["params"]["head"] = {
        "kernel": own["kernel"] * head["params"]["head"]["kernel"],
        "bias": head["params"]["head"]["bias"],
    }
    return changed


def test_sessions_are_drawn_from_all_captures():
    keys = [("a", n) for n in range(50)] + [("b", n) for n in range(3)]
    rows = bench._even(keys, np.arange(53), 8, seed=0)
    assert len(rows) == 8 and (rows >= 50).sum() == 3
    assert (np.diff(rows) > 0).all()


def test_ratios_have_intervals_and_no_value_without_a_denominator():
    rng = np.random.default_rng(0)
    below = rng.uniform(1, 2, 400)
    found = ratio_interval(3 * below + rng.normal(0, 0.1, 400), below)
    assert found["low"] < 3 < found["high"] < 3.1
    assert ratio_interval(below, np.zeros(400))["mean"] is None
    assert ratio_interval(np.array([np.nan]), np.array([1.0]))["sessions"] == 0


def test_scores_of_units_agree_with_sums_by_hand():
    groups = explain.packet_groups([100, 256, 30])[None]
    values = np.arange(128 * 128, dtype=float).reshape(1, 128, 128)
    sums = evidence_scores._sums(groups, values)
    expected = [values[0][groups[0, ..., 0] == packet].sum() for packet in range(3)]
    np.testing.assert_allclose(sums[0], expected)
