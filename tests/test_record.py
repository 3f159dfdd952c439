"""The record: its cells on real captures, its lines and tables from verdicts that are known."""

import importlib
import json
import pathlib
import sys

import numpy as np
import pytest
from small_dataset import make_dataset

from xai_traffic.evaluation.baseline_problem import Judged

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def parts():
    """Return cells, scores, report, the command, protocols, datasets, ceilings of the record."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        names = ("cells", "scores", "report", "", "protocols", "datasets", "ceilings")
        yield [importlib.import_module(f"record_{name}".rstrip("_")) for name in names]
    finally:
        sys.path.remove(str(BENCHMARKS))


def made(parts, captures, tmp_path, name):
    cell = next(cell for cell in parts[0].cells() if cell.name == name)
    return cell, cell.make(captures, tmp_path, 0)


def captures_of(dataset, split):
    return set(dataset.table["capture"].take(dataset.rows(split)).to_pylist())


def test_another_project_is_asked(parts, captures, tmp_path):
    _, dataset = made(parts, captures, tmp_path, "protocols/suricata")
    for split, project in (("train", "suricata"), ("validation", "suricata"), ("test", "zeek")):
        names = {name.split("/")[-1].split("__")[0] for name in captures_of(dataset, split)}
        assert names == {project}
    assert not captures_of(dataset, "train") & captures_of(dataset, "validation")
    labels = dataset.labels[dataset.rows("test")]
    assert np.bincount(labels, minlength=len(dataset.classes)).min() >= 20
    assert not {"STUN", "MySQL", "Modbus"} & set(dataset.classes)
    assert dataset.rules.mask == "ports" and not dataset.leaky("multiclass")


def test_no_capture_outweighs_the_others_of_its_protocol(parts, captures, tmp_path):
    _, few = made(parts, captures, tmp_path, "protocols/capture")
    _, every = made(parts, captures, tmp_path, "protocols/every-session")
    ldap = few.classes.index("LDAP")
    for dataset, most in ((few, 5), (every, 200)):
        names = np.array(dataset.table["capture"].to_pylist())
        _, sizes = np.unique(names, return_counts=True)
        assert sizes.max() <= most
        assert not captures_of(dataset, "train") & captures_of(dataset, "test")
        assert dataset.rules.mask == "ports" and len(dataset.classes) == 16
    assert len(few) < len(every)
    taught = {
        dataset: len(set(np.array(dataset.table["capture"].to_pylist())[rows]))
        for dataset in (few, every)
        for rows in [dataset.rows("train")[dataset.labels[dataset.rows("train")] == ldap]]
    }
    assert taught[every] == 1 and taught[few] > 10


@pytest.mark.parametrize(
    "name", ["trio/none", "ustc/host", "ustc/time", "protocols/capture", "malicious"]
)
def test_payloads_are_of_the_same_sessions_and_splits(parts, captures, tmp_path, name):
    cell, dataset = made(parts, captures, tmp_path, name)
    source = cell.payload[0](captures, tmp_path)
    payload = parts[5].payload_of(dataset, source, tmp_path / "payload")
    places = {}
    for each in (dataset, payload):
        columns = (each.table[column].to_pylist() for column in ("capture", "session", "split"))
        places[each] = {
            (capture, number): split for capture, number, split in zip(*columns, strict=True)
        }
    assert len(payload) > 0.3 * len(dataset) and payload.classes == dataset.classes
    assert all(places[dataset][key] == split for key, split in places[payload].items())


def test_ciphertext_is_not_in_the_clear(parts):
    clear = parts[6].in_the_clear
    drawn = np.random.default_rng(0).integers(0, 256, 190, np.uint8).tobytes()
    record = b"\x17\x03\x03\x05\x78"
    page = (
        b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html>"
    )
    assert clear(drawn) == b"" and clear(record + drawn) == record
    hello = b"\x16\x03\x01\x00\xa5" + bytes(range(60)) + bytes(60)
    for plain in (b"", drawn[:63], page, hello, bytes(190), bytes(range(64)) * 3):
        assert clear(plain) == plain


def test_families_are_left_out(parts, captures, tmp_path):
    cell, dataset = made(parts, captures, tmp_path, "malicious")
    labels = np.array(dataset.table["label"].to_pylist())
    malicious = dataset.task_labels("binary") == 1
    families = {
        split: set(labels[rows][malicious[rows]])
        for split in ("train", "validation", "test")
        for rows in [dataset.rows(split)]
    }
    assert all(families.values())
    every = [name for some in families.values() for name in some]
    assert len(every) == len(set(every)) == 18
    assert max(np.sum(labels == name) for name in every) <= parts[4].MOST
    assert cell.task == "binary" and not dataset.leaky("binary")
    assert parts[4].ATTACKS[0] not in set(dataset.table["capture"].to_pylist())


def test_the_last_fifth_is_later(parts, captures, tmp_path):
    _, dataset = made(parts, captures, tmp_path, "ustc/time")
    begin = dataset.table["first_time"].cast("int64").to_numpy()
    test = np.isin(np.arange(len(dataset)), dataset.rows("test"))
    for label in range(len(dataset.classes)):
        own = dataset.labels == label
        assert begin[own & ~test].max() <= begin[own & test].min()
        assert (own & test).sum() == -(-own.sum() // 5) or (own & test).sum() == own.sum() // 5


def test_published_images_keep_their_split_and_are_judged_without_copies_too(
    parts, captures, tmp_path
):
    cell, dataset = made(parts, captures, tmp_path, "l7/published")
    published = np.load(captures / "ustc/session_l7_28x28/test.npz")
    images = dataset.images(dataset.rows("test"))
    assert dataset.leaky("multiclass")
    np.testing.assert_array_equal(images, published["images"])
    labels = dataset.labels[dataset.rows("test")]
    names = [str(published["classes"][label]) for label in published["labels"]]
    assert [dataset.classes[label] for label in labels] == names
    taught = np.concatenate([dataset.rows("train"), dataset.rows("validation")])
    known = {
        (image.tobytes(), label)
        for image, label in zip(dataset.images(taught), dataset.labels[taught], strict=True)
    }
    kept = cell.part.kept(dataset)
    pairs = [(image.tobytes(), label) for image, label in zip(images, labels, strict=True)]
    left = [pair for pair, stays in zip(pairs, kept, strict=True) if stays]
    assert len(left) == len(set(left)) and not set(left) & known
    assert set(left) == set(pairs) - known and 9000 < len(left) < 10004


def test_lines_and_tables_are_of_the_verdicts(parts, tmp_path, capsys, monkeypatch):
    cells, scores, report, record, *_ = parts
    dataset = make_dataset(tmp_path / "data", sessions=300)
    rows = dataset.rows("test")
    labels = dataset.labels[rows]
    wrong = labels.copy()
    wrong[:3] = (wrong[:3] + 1) % 3

    def judged(name, verdicts):
        return Judged(name, labels, np.eye(3)[verdicts], 2.0, 0.5, 7)

    cell = cells.Cell("trio/none", "three", None)
    lines = list(
        scores._records(
            cell,
            dataset,
            0,
            [
                ("network", judged("vit", labels)),
                ("baseline", judged("forest", wrong)),
                ("control", judged("vit, untrained", wrong * 0)),
            ],
        )
    )
    network, forest, _ = lines
    assert network["accuracy"]["value"] == 1 and network["accuracy"]["low"] < 1
    ahead = network["ahead_of"]["forest"]
    assert ahead["accuracy"]["value"] == pytest.approx(0.1)
    assert ahead["mcnemar"] == {"only_first": 3, "only_second": 0, "p": 0.25}
    assert forest["sessions_per_second"] == 60 and forest["test"] == 30
    # Of the classes the first is benign, the others are malware: errors inside a side do not count.
    sides = (labels > 0) == (wrong > 0)
    assert forest["binary"]["accuracy"]["value"] == pytest.approx(sides.mean())
    part = cells.Part("l7/once", "some", lambda dataset: np.arange(len(labels)) >= 3)
    both = [("network", judged("vit", labels)), ("baseline", judged("forest", wrong))]
    _, some = some_lines = list(scores._records(cell, dataset, 0, both, part))
    assert (some["cell"], some["test"], some["accuracy"]["value"]) == ("l7/once", 27, 1)
    assert some["sessions_per_second"] == 60 and not some["leaky"] and forest["leaky"]
    lines += some_lines
    about = {"size": "cpu", "date": "D", "cores": 2, "processor": "P", "system": "S"}
    about |= {"device": "cpu", "versions": {"jax": "1"}}
    path = tmp_path / "record.jsonl"
    path.write_text(
        "".join(json.dumps(record.shortened({**line, **about})) + "\n" for line in lines)
    )
    monkeypatch.setattr(sys, "argv", ["record.py", "--markdown", "--out", str(tmp_path)])
    record.main()
    shown = capsys.readouterr().out
    assert "| vit | forest | +10." in shown and "| 30 | 1 | **100.0 (43.9, 100.0)**" in shown
    assert "hidden: none **LEAKY** |" in shown  # one 5-tuple a capture, in all splits
    assert "| the same, test images without a copy, each once | 27 | 1 |" in shown
    assert "S, cpu; jax 1; seeds 0" in shown


def test_unseen_malware_is_told_by_the_best_of_each_sort(parts):
    _, _, report, *_ = parts

    def line(kind, model, macro_f1, found, seed=0, detail=""):
        score = {"value": macro_f1, "low": None, "high": None}
        detection = {"value": found, "low": 0.0, "high": 1.0, "of": 40, "units": 4}
        alarm = {"value": 0.05, "low": 0.01, "high": 0.1, "of": 300, "units": 200}
        return {
            **{"cell": "malicious", "seed": seed, "kind": kind, "model": model, "detail": detail},
            **{"leaky": seed == 1, "macro_f1": score},
            "binary": {"detection": detection, "false_alarm": alarm},
        }

    shown = report._unseen(
        [
            line(kind, model, macro_f1 + seed / 10, found, seed, detail)
            for seed in (0, 1)
            for kind, model, macro_f1, found, detail in (
                ("network", "vit", 0.5, 0.25, ""),
                ("network", "vgg19", 0.6, 0.5, ""),
                ("baseline", "cnn 1d", 0.4, 0.1, ""),
                ("baseline", "decision tree, tiles", 0.7, 0.75, ""),
                ("baseline", "random forest, tiles", 0.6, 0.8, ""),
                ("baseline", "majority field", 0.3, 0.0, "ip.ttl, initiator, whole"),
            )
        ]
    )
    rates = "(0.0, 100.0) at 5.0 (1.0, 10.0)"
    told = (
        f"40 in 4 | 300 in 200 | vgg19: 50.0 {rates} | cnn 1d: 10.0 {rates} | "
        f"decision tree, tiles: 75.0 {rates} | ip.ttl, initiator, whole: 0.0 {rates} |"
    )
    assert f"| 0 | {told}\n| 1 **LEAKY** | {told}" in shown
    assert report._unseen([{"cell": "trio/none"}]) == ""
