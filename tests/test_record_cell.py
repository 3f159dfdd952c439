"""One cell of the record from training to tables, with what its networks and baselines say."""

import importlib
import json
import pathlib
import sys

import numpy as np
import pytest
from small_dataset import CACHE, TINY

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.build import convert
from xai_traffic.data.store import open_dataset
from xai_traffic.evaluation.baseline_problem import Judged
from xai_traffic.lab.write import write_lab

FOLDER = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench():
    """What imports a module of the benchmarks by its name."""
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("record")


@pytest.fixture(scope="module")
def cell(bench, work):
    """A cell of three families, of which every second session has a payload; a part of eight."""
    write_lab(work / "lab", sessions_per_family=50, families=("dns", "web", "beacon"))

    def read(name, **rules):
        options = {"rules": ReadingRules(**rules), "split": "random:70/20/10"}
        return open_dataset(convert([work / "lab"], work / name, **options).dataset)

    whole, payload = read("whole"), read("read", layers="payload")
    split = np.array(payload.table["split"].to_pylist(), object)
    some = bench("record_datasets").rewrite(payload, work / "some", np.arange(0, 150, 2), split)
    changes = {"epochs": 4, "batch_size": 16, "data.limit": 0, "compilation_cache": CACHE}
    changes |= {"model.options": TINY, "optimizer.warmup_epochs": 0.0}
    cells = bench("record_cells")
    return cells.Cell(
        "small",
        "three families",
        lambda captures, folder, seed: whole,
        changes=changes,
        payload=(lambda captures, folder: some, cells.PAYLOAD_ONLY),
        part=cells.Part("few", "half of it", lambda dataset: np.arange(15) % 2 == 0),
    )


@pytest.fixture(scope="module")
def records(bench, cell, work):
    """What is measured on the cell; two networks, for compiling takes a minute."""
    with pytest.MonkeyPatch.context() as patch:
        scores, dataset = bench("record_scores"), cell.make(None, work, 0)
        patch.setattr(scores, "NETWORKS", ("vit",))
        patch.setattr(scores, "SMALL_CNNS", {"cnn": "debug"})
        return list(scores.score_cell(cell, dataset, work, work, 0, "debug"))


def test_a_cell_has_every_classifier_once(records, bench):
    scores = bench("record_scores")
    whole = [record for record in records if record["cell"] == "small"]
    models = [record["model"] for record in whole]
    assert len(set(models)) == len(models)
    for model in ("vit", scores.PAYLOAD, scores.TOGETHER, "cnn"):
        assert model in models
    kinds = [record["kind"] for record in whole]
    assert [kinds.count(kind) for kind in ("network", "baseline", "control")] == [3, 9, 2]
    assert all(record["test"] == 15 and record["train"] == 105 for record in whole)


def test_scores_lie_in_their_intervals_and_differ_as_told(records):
    own = {(record["cell"], record["model"]): record for record in records}
    for (name, model), record in own.items():
        for score in ("accuracy", "macro_f1"):
            found = record[score]
            assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1, (name, model)
            for other, ahead in record.get("ahead_of", {}).items():
                difference = found["value"] - own[name, other][score]["value"]
                assert ahead[score]["value"] == pytest.approx(difference)


def test_what_is_there_is_found_and_controls_find_nothing(records):
    own = {record["model"]: record["accuracy"] for record in records if record["cell"] == "small"}
    assert own["random forest, tiles"]["low"] > 0.7
    assert own["vit, untrained"]["low"] < 0.5


def test_sessions_without_a_payload_are_given_to_the_other_network(records):
    own = {record["model"]: record for record in records if record["cell"] == "small"}
    assert own["vit of the payload"]["detail"].endswith(" of 15 sessions by their payload")
    parameters = [own[name]["parameters"] for name in ("vit", "vit of the payload")]
    assert own["networks, mean"]["parameters"] == sum(parameters)


def test_a_part_is_judged_by_the_same_classifiers(records):
    part = [record for record in records if record["cell"] == "few"]
    whole = [record for record in records if record["cell"] == "small"]
    assert [one["model"] for one in part] == [one["model"] for one in whole]
    assert all(one["test"] == 8 and one["train"] == 105 for one in part)
    trained = [[one["training_seconds"] for one in some] for some in (part, whole)]
    assert trained[0] == trained[1]


def test_tables_tell_every_cell_with_its_interval(records, bench, monkeypatch, cell):
    report = bench("record_report")
    monkeypatch.setattr(bench("record_cells"), "cells", lambda: [cell])
    about = {"size": "cpu", "date": "2026-01-02", "cores": 1, "processor": "P", "system": "Linux"}
    about |= {"device": "cpu", "versions": {"python": "3.11"}}
    first = [{**json.loads(json.dumps(record)), **about} for record in records]
    second = [{**record, "seed": 1, "leaky": True} for record in first if record["seed"] == 0]
    found = report.tables(first).splitlines()
    accuracies = {r["model"]: r["accuracy"] for r in first if r["cell"] == "small"}
    best = max(value["value"] for value in accuracies.values())
    rows = [line for line in found if line.startswith("| three families | 15 | 1 |")]
    assert len(rows) == 2 and f"{100 * best:.1f} (" in rows[1]
    assert any(line.startswith("| half of it | 8 | 1 |") for line in found)
    assert found[-1] == "2026-01-02: size cpu, 1 core of P, Linux, cpu; python 3.11; seeds 0"
    found = report.tables([*first, *second]).splitlines()
    assert any(line.startswith("| three families **LEAKY** | 15 | 2 |") for line in found)
    assert found[-1].endswith("seeds 0, 1")
    elsewhere = [{**record, "processor": "Q"} for record in second]
    here, there = report.tables([*first, *elsewhere]).splitlines()[-2:]
    assert " of P," in here and here.endswith("seeds 0; 2 rows")
    assert " of Q," in there and there.endswith("seeds 1; 2 rows")
    assert report.tables([]) == "nothing is measured yet"
    timed = [
        {**record, "seed": seed, "sessions_per_second": 1000 * (seed + 1), "training_seconds": 21}
        for record in first
        if record["cell"] == "small"
        for seed in range(5)
    ]
    [cost] = [row for row in report.tables(timed).splitlines() if row.startswith("| cnn | 8")]
    assert cost.endswith(" | 200.00 | 3,000 (2,000, 4,000) |")


def test_what_most_classifiers_miss_is_looked_up_in_training(bench, cell, work):
    record_missed, dataset = bench("record_missed"), cell.make(None, work, 0)
    rows = dataset.rows("test")
    labels = dataset.labels[rows]
    web, dns = (dataset.classes.index(name) for name in ("web", "dns"))
    place = int(np.flatnonzero(labels == web)[0])
    judged = []
    for number in range(4):
        probabilities = np.eye(3)[labels]
        if number < 3:
            probabilities[place] = np.eye(3)[dns]
        if number < 2:  # of two only: not missed by most
            probabilities[labels == dns] = np.eye(3)[web]
        judged.append(Judged(str(number), labels, probabilities, 0.0, 0.0))
    (found,) = record_missed.missed(dataset, judged)
    assert (found.own, found.other) == ("web", "dns")
    port = dataset.table["destination_port"][int(rows[place])].as_py()
    assert found.port == port and found.message.startswith((b"GET ", b"POST ", b"\x16\x03"))
    train = dataset.rows("train")
    same = [
        dataset.classes[dataset.labels[row]]
        for row in train.tolist()
        if record_missed.first_message(dataset, row, dataset.table["destination_port"][row].as_py())
        == (found.port, found.message)
    ]
    assert found.of_own == same.count("web") and found.of_other == 0
    row = int(rows[labels == dns][0])
    port, question = record_missed.first_message(dataset, row, 53)
    assert port == 53 and 0 < question[0] < 64 and question[1 : question[0] + 1].isascii()
    assert record_missed.shown(b"GET /a|`\x00") == "`GET /a...`"
    assert record_missed.shown(b"") == "no payload"


def test_numbers_are_cut_where_they_say_nothing(bench):
    record = bench("record")
    value = {"a": [0.123456789, 3, "x"], "b": {"c": 1e-300}}
    assert record.shortened(value) == {"a": [0.123457, 3, "x"], "b": {"c": 1e-300}}


def test_names_of_cells_are_their_own(bench):
    names = [cell.name for cell in bench("record_cells").cells_and_parts()]
    assert len(names) == len(set(names)) == 16
    assert "l7/once" in names and "l7/once" not in [c.name for c in bench("record_cells").cells()]
