"""Runs side by side: from folders written by hand, so that every number is known."""

import csv
import io
import json
import statistics

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xai_traffic.cli import main
from xai_traffic.errors import ConfigError
from xai_traffic.evaluation.compare import compare
from xai_traffic.report.comparison import group_table, run_table, told_once
from xai_traffic.training.config import load_config

HEAD = "step,epoch,train/loss,validation/loss,validation/accuracy,validation/macro_f1\n"
DATA = "ab" * 32


def write_run(
    folder, accuracy=None, *, rows="", test=None, data=DATA, mask="none", parameters=10, **fields
):
    """Write a run's files: finished with that validation accuracy, or as far as the rows tell.

    Args:
        test: of its evaluation: accuracy, and other keys by name.
        fields: of the config, `__` for dots.
    """
    folder.mkdir(parents=True)
    fields = {key.replace("__", "."): value for key, value in fields.items()}
    config = load_config("vit:debug", **{"data.path": "/data/ustc", "data.limit": 0, **fields})
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    dataset = {"path": "/data/ustc", "manifest_sha256": data}
    reading = {"rules": {"mask": mask}, "classes": ["a"], "task": config.task, "dataset": dataset}
    (folder / "reading.json").write_text(json.dumps(reading))
    (folder / "metrics.csv").write_text(HEAD + rows)
    if accuracy is not None:
        result = {
            **{"step": 40, "epoch": 4, "best_step": 30, "best_epoch": 3, "seconds": 1.5},
            **{"params_sha256": "cd" * 32, "parameters": parameters},
            "best": {"loss": 1 - accuracy, "accuracy": accuracy, "macro_f1": accuracy},
        }
        (folder / "result.json").write_text(json.dumps(result))
    if test is not None:
        scores = dict.fromkeys(("macro_f1", "mcc"), test["accuracy"])
        scores |= {"expected_calibration_error": 0.1, "parameters": parameters}
        scores |= {"dataset": "/data/ustc", "manifest_sha256": data, "step": 30, **test}
        (folder / "evaluation-test.json").write_text(json.dumps(scores))
    return folder


def table(comparison):
    columns, rows = run_table(comparison)
    names = [name.replace("\n", "") for name in columns]
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_what_differs_is_named_and_what_does_not_is_told_once(tmp_path):
    write_run(tmp_path / "a", 0.5, optimizer__learning_rate=1e-5, log__every_steps=7)
    write_run(tmp_path / "b", 0.7, model__options={"depth": 2})
    found = compare([tmp_path])
    first, second = table(found)
    assert first["run"] == "a" and second["run"] == "b"
    assert (first["optimizer.learning_rate"], first["model.options.depth"]) == ("1e-05", "")
    assert (second["optimizer.learning_rate"], second["model.options.depth"]) == ("0.0015", 2)
    assert not {"seed", "log.every_steps", "state", "test/accuracy"} & set(first)
    told = told_once(found)
    assert told.startswith("all: state finished, model vit/debug, task multiclass, data ustc abab")
    assert "seed 0" in told and "parameters 10" in told
    assert (first["validation/accuracy"], second["validation/accuracy"]) == ("0.5000", "0.7000*")
    assert (first["validation/loss"], second["validation/loss"]) == ("0.5000", "0.3000*")
    assert not found.warnings and not found.faults and not found.groups


def test_one_run_is_told_in_full(tmp_path):
    write_run(tmp_path / "a", 0.5, test={"accuracy": 0.25})
    (row,) = table(compare([tmp_path / "a"]))
    assert (row["run"], row["state"], row["model"]) == ("a", "finished", "vit/debug")
    assert row["test/accuracy"] == "0.2500" and row["params_sha256"] == "cdcdcdcd"


def test_test_scores_stand_with_their_intervals(tmp_path, capsys):
    ends = {"low": 0.125, "high": 0.5}
    told = {"intervals": {"accuracy": {"value": 0.25, **ends}, "macro_f1": None}}
    error = {"expected_calibration_error": {"mean": 0.1, **ends}}
    told["confidence"] = {"before": {}, "after": error}
    write_run(tmp_path / "a", 0.5, test={"accuracy": 0.25, **told})
    write_run(tmp_path / "b", 0.5, test={"accuracy": 0.75})
    found = compare([tmp_path])
    first, second = table(found)
    assert first["test/accuracy"] == "0.2500 (0.1250, 0.5000)"
    assert first["test/expected_calibration_error"] == "0.1000 (0.1250, 0.5000)"
    assert (first["test/macro_f1"], second["test/accuracy"]) == ("0.2500", "0.7500*")
    assert main(["compare", str(tmp_path), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["test/accuracy low"] for row in rows] == ["0.125", ""]
    assert [row["test/mcc high"] for row in rows] == ["", ""] and "intervals" not in rows[0]


def test_unfinished_runs_tell_how_far_they_are(tmp_path):
    write_run(tmp_path / "new")
    rows = "10,1,0.9,,,\n10,1,,0.6,0.5,0.4\n20,2,,0.7,0.9,0.9\n25,3,0.5,,,\n30,3,0."
    write_run(tmp_path / "half", rows=rows)
    write_run(tmp_path / "whole", 0.5)
    half, new, whole = compare([tmp_path]).runs
    assert [row["state"] for row in (half, new, whole)] == ["unfinished", "not begun", "finished"]
    assert (half["step"], half["epoch"], half["best_epoch"]) == (25, 2, 1)
    # The metric of its early stopping is the loss.
    assert half["validation/accuracy"] == 0.5 and half["seconds"] is None
    assert (new["step"], new["validation/loss"]) == (0, None)


def test_scores_on_other_sessions_are_warned_of_and_marked_apart(tmp_path):
    for name, accuracy, data in (("a", 0.5, DATA), ("b", 0.6, DATA), ("c", 0.9, "ef" * 32)):
        write_run(tmp_path / name, accuracy, data=data, test={"accuracy": accuracy})
    write_run(tmp_path / "d", 0.95, task="binary", test={"accuracy": 0.95})
    found = compare([tmp_path])
    assert [row["test/accuracy"][6:] for row in table(found)] == ["", "*", "", ""]
    validation, test = found.warnings
    assert validation.startswith("validation scores come from 3 different sets")
    assert "a, b (multiclass, data abababab)" in test and "d (binary, data abababab)" in test
    assert "c (multiclass, data efefefef)" in test


def test_an_evaluation_on_another_dataset_or_by_an_earlier_step_is_told(tmp_path):
    write_run(tmp_path / "a", 0.5, test={"accuracy": 0.5})
    write_run(tmp_path / "b", 0.6, test={"accuracy": 0.9, "manifest_sha256": "ef" * 32})
    write_run(tmp_path / "c", 0.6, test={"accuracy": 0.7, "step": 20})
    test, stale = compare([tmp_path]).warnings
    assert "a, c (multiclass, data abababab); b (multiclass, data efefefef)" in test
    assert stale == "c: its test scores are of step 20, its best is step 30: evaluate it again"


def test_a_limit_draws_other_validation_sessions_for_each_seed(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), 0.5, seed=seed, data__limit=9, test={"accuracy": 0.5})
    (warning,) = compare([tmp_path]).warnings
    assert "9 sessions by seed 1" in warning


def test_means_over_seeds(tmp_path):
    scores = {0: 0.90, 1: 0.94, 2: 0.95}
    for seed, score in scores.items():
        # The dataset is known by its manifest, and logging changes nothing.
        path, every = f"/moved/{seed}", 1 + seed
        write_run(
            tmp_path / f"s{seed}",
            score,
            test={"accuracy": score} if seed < 2 else None,
            **{"seed": seed, "data__path": path, "log__every_steps": every},
        )
    write_run(tmp_path / "s3", rows="10,1,,0.1,0.1,0.1\n", seed=3)
    write_run(tmp_path / "other", 0.5, seed=0, batch_size=8)
    write_run(tmp_path / "s0-again", 0.9, seed=0)
    found = compare([tmp_path])
    (group,) = found.groups
    assert group["runs"] == 3 and group["over"] == {"seed": [0, 1, 2]}
    assert group["batch_size"] == 16 and "seed" not in group
    accuracy = group["validation/accuracy"]
    assert accuracy["mean"] == pytest.approx(statistics.mean(scores.values()))
    assert accuracy["std"] == pytest.approx(statistics.stdev(scores.values()))
    assert (accuracy["n"], group["test/accuracy"]["n"]) == (3, 2)
    columns, (cells,) = group_table(found)
    told = dict(zip(columns, cells, strict=True))
    assert told["validation/\naccuracy"] == "0.9300 ± 0.0265"
    assert told["test/\naccuracy"] == "0.9200 ± 0.0283 (2)"
    (repeated,) = [warning for warning in found.warnings if "repeats" in warning]
    assert repeated == "s0-again repeats s0: only the latter counts in the means"


def test_means_over_another_field(tmp_path):
    for seed in (0, 1):
        for size in (8, 16):
            write_run(tmp_path / f"{seed}-{size}", 0.5, seed=seed, batch_size=size)
    assert [group["over"] for group in compare([tmp_path], over=["batch_size"]).groups] == [
        {"batch_size": [8, 16]}
    ] * 2
    (group,) = compare([tmp_path], over=["seed", "batch_size"]).groups
    assert group["runs"] == 4
    with pytest.raises(ConfigError, match="no run has the config field bach"):
        compare([tmp_path], over=["bach"])


def test_sorted_by_a_column(tmp_path):
    for name, score in (("a", 0.5), ("b", 0.9), ("c", 0.7)):
        write_run(tmp_path / name, score, optimizer__learning_rate=score)
    write_run(tmp_path / "d")

    def order(sort):
        return "".join(row["run"] for row in compare([tmp_path], sort=sort).runs)

    assert order("validation/accuracy") == order("accuracy") == order("loss") == "bcad"
    assert order("learning_rate") == "dacb"
    assert order(None) == "abcd"
    with pytest.raises(ConfigError, match="no column speed .* choose one of run, path, state"):
        order("speed")


def test_means_of_leaky_runs_are_marked_beside_others(tmp_path):
    for seed in (0, 1):
        scored = {"accuracy": 0.5, "leaky": ["2 clients are shared"] * seed}
        write_run(tmp_path / f"leaky-{seed}", 0.5, seed=seed, test=scored)
        write_run(tmp_path / f"clean-{seed}", 0.5, seed=seed, batch_size=8, test={"accuracy": 0.5})
    found = compare([tmp_path])
    assert [group["leaky"] for group in found.groups] == ["", "LEAKY"]
    columns, rows = group_table(found)
    assert [row[columns.index("leaky")] for row in rows] == ["", "LEAKY"]


def test_runs_are_found_below_folders_each_once(tmp_path):
    for name in ("run-10", "run-2", "deep/er/run-1", "z=0.003", "z=0.00075"):
        write_run(tmp_path / name, 0.5)
    write_run(tmp_path / "run-2" / "inside", 0.5)
    (tmp_path / "config.json.d").mkdir()
    found = compare([tmp_path / "run-10", tmp_path])
    assert [row["run"] for row in found.runs] == [
        *("run-10", "deep/er/run-1", "run-2", "z=0.00075", "z=0.003")
    ]


def test_what_is_no_run_costs_only_itself_and_hostile_names_are_escaped(tmp_path, capsys):
    write_run(tmp_path / "runs" / "\x1b[31mred\u202e", 0.5)
    write_run(tmp_path / "runs" / "good", 0.6)
    for name, file in (("cut", "result.json"), ("odd", "evaluation-test.json")):
        write_run(tmp_path / "runs" / name, 0.5)
        (tmp_path / "runs" / name / file).write_text('{"step": 3' if name == "cut" else "{}")
    write_run(tmp_path / "runs" / "list", 0.5)
    (tmp_path / "runs" / "list" / "config.json").write_text("[1]")
    (tmp_path / "\x1b[2Jempty").mkdir()
    arguments = ["compare", str(tmp_path / "runs"), str(tmp_path / "\x1b[2Jempty")]
    assert main(arguments) == 1
    output = capsys.readouterr()
    assert "good" in output.out and "\\x1b[31mred\\u202e" in output.out
    assert not {"\x1b", "\u202e"} & set(output.out + output.err)
    for told in ("\\x1b[2Jempty is no run", "cut/result.json cannot be read", "odd cannot be told"):
        assert told in output.err
    assert main([*arguments, "--csv"]) == 1
    output = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(output.out)))
    assert len(rows) == 2 and not {"\x1b", "\u202e"} & set(output.out)
    assert {row["validation/accuracy"] for row in rows} == {"0.5", "0.6"}
    assert main([*arguments, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert len(told["runs"]) == 2 and len(told["faults"]) == 4
    assert told["common"]["model"] == "vit/debug"


def test_an_infinite_loss_is_no_score(tmp_path, capsys):
    write_run(tmp_path / "a", rows="10,1,,nan,0.5,0.5\n")
    assert main(["compare", str(tmp_path), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["runs"]
    assert row["validation/loss"] is None and row["validation/accuracy"] == 0.5


def write_said(folder, rows, labels, verdicts):
    """Write the verdicts that an evaluation leaves behind."""
    names = np.array(["a", "b"], object)
    columns = {"row": rows, "unit": rows, "label": names[labels], "verdict": names[verdicts]}
    pq.write_table(pa.table(columns), folder / "verdicts-test.parquet")


def test_runs_on_the_same_sessions_stand_in_pairs(tmp_path, capsys):
    rows = np.arange(200)
    labels = rows % 2
    for name, wrong in (("far", 60), ("near", 4), ("other", 0)):
        write_run(tmp_path / name, 0.9, test={"accuracy": 0.9})
        verdicts = np.where(rows < wrong, 1 - labels, labels)
        kept = slice(None) if name != "other" else slice(1, None)
        write_said(tmp_path / name, rows[kept], labels[kept], verdicts[kept])
    (pair,) = compare([tmp_path]).pairs
    near, far = pair["classifiers"]
    assert (near["name"], far["name"], pair["sessions"]) == ("near", "far", 200)
    assert near["accuracy"]["value"] == 0.98 and far["behind"]["accuracy"]["value"] == 0.28
    assert far["mcnemar"] == {"only_first": 56, "only_second": 0, "p": pytest.approx(2 / 2**56)}
    assert main(["compare", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "the same 200 sessions" in shown and "98.00 (96.00, 99.50)" in shown
    assert "28.00 (22.00, 34.00)" in shown and "< 0.0001" in shown
    (tmp_path / "near" / "verdicts-test.parquet").write_bytes(b"PAR1")
    found = compare([tmp_path])
    assert not found.pairs
    assert any("verdicts-test.parquet cannot be read" in warning for warning in found.warnings)
