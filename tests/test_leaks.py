"""Leaks: what splits share is counted, and a broken promise is told wherever numbers are."""

import json
import pathlib
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labelled_captures import FIVE, packet, write_capture

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.cli import main
from xai_traffic.data.build import convert
from xai_traffic.data.leaks import find_leaks
from xai_traffic.data.store import open_dataset

MASKED = ReadingRules(rule="five_tuple", mask="addresses+ports")


def captures_of(folder: pathlib.Path, seed=0) -> pathlib.Path:
    """Two benign and two malware classes, each of two captures; every client is in both."""
    rng = np.random.default_rng(seed)
    for number, name in enumerate(["Benign/web", "Benign/mail", "Malware/bot", "Malware/worm"]):
        for day in range(2):
            frames = []
            for _ in range(40):
                host, port = 20 * number + int(rng.integers(12)), int(rng.integers(1000, 60000))
                frames.append(packet(host, rng.bytes(24), port=port))
            write_capture(folder / f"{name.split('/')[0]}/day{day}/{name}.pcap", frames)
    return folder


@pytest.fixture(scope="module")
def captures_folder(tmp_path_factory) -> pathlib.Path:
    return captures_of(tmp_path_factory.mktemp("captures"))


def edit(dataset: pathlib.Path, change) -> None:
    """Change columns of sessions.parquet as somebody with a notebook would."""
    table = pq.read_table(dataset / "sessions.parquet")
    names = ("split", "content_hash", "source", "source_port", "destination_port")
    columns = {name: table[name].to_pylist() for name in names}
    change(columns, table)
    for name, values in columns.items():
        column = pa.array(values, table.schema.field(name).type)
        table = table.set_column(table.column_names.index(name), name, column)
    pq.write_table(table, dataset / "sessions.parquet")


def test_a_random_split_shares_hosts_and_is_not_leaky(captures_folder, tmp_path):
    made = convert([captures_folder], tmp_path / "out", rules=FIVE)
    leaks = made.manifest["leaks"]
    assert made.manifest["leaky"] is False and leaks["leaky"] == {"multiclass": [], "binary": []}
    table = open_dataset(made.dataset).table.to_pylist()
    for kind, name in (("client", "source"), ("server", "destination"), ("capture", "capture")):
        trained = {row[name] for row in table if row["split"] == "train"}
        shared = [row[name] in trained for row in table if row["split"] == "test"]
        assert leaks["shared"][kind]["sessions"] == sum(shared) > 0
    assert leaks["shared"]["near_duplicate"] is None
    trained = [row for row in table if row["split"] == "train"]
    tested = [row for row in table if row["split"] == "test"]
    assert leaks["shared"]["time"]["sessions"] == sum(
        any(
            one["first_time"] <= row["last_time"] and row["first_time"] <= one["last_time"]
            for one in trained
        )
        for row in tested
    )
    assert open_dataset(made.dataset).leaks == {**leaks, "edited": False}


@pytest.mark.parametrize(
    ("key", "kind"), [("host", "client"), ("capture", "capture"), ("session", "five_tuple")]
)
def test_promises_hold_and_a_straddling_key_is_leaky(captures_folder, tmp_path, key, kind):
    made = convert([captures_folder], tmp_path / "out", rules=FIVE, split=f"{key}:50/20/30")
    assert made.manifest["leaks"]["shared"][kind] == {"sessions": 0, "keys": 0}
    assert made.manifest["leaky"] is False

    def move(columns, table):
        """Let one session of a training key be tested on."""
        name = {"client": "source", "capture": "capture", "five_tuple": "community_id"}[kind]
        keys = table[name].to_pylist()
        one, other, *_ = [row for row, split in enumerate(columns["split"]) if split == "train"]
        if kind == "five_tuple":
            for end in ("source", "source_port", "destination_port"):
                columns[end][other] = columns[end][one]
        else:
            other = next(row for row in range(one + 1, len(keys)) if keys[row] == keys[one])
        columns["split"][other] = "test"

    edit(made.dataset, move)
    dataset = open_dataset(made.dataset)
    assert dataset.leaks["edited"] and dataset.leaks["shared"][kind]["sessions"] == 1
    assert "in two splits" in dataset.leaky("multiclass")[-1]
    assert set(dataset.leaky("multiclass")) <= set(dataset.leaky("binary"))


def test_injected_duplicates_are_leaky(captures_folder, tmp_path):
    made = convert([captures_folder], tmp_path / "out", rules=FIVE)

    def copy(columns, table):
        labels = table["label"].to_pylist()
        for row in range(len(labels)):
            twin = next(
                other
                for other in range(len(labels))
                if labels[other] == labels[row]
                and {columns["split"][row], columns["split"][other]} == {"train", "test"}
            )
            columns["content_hash"][twin] = columns["content_hash"][row]
            return

    edit(made.dataset, copy)
    dataset = open_dataset(made.dataset)
    assert dataset.leaks["shared"]["image"] == {"sessions": 1, "keys": 1}
    assert "1 images with one label" in dataset.leaky("multiclass")[0]
    assert not dataset.leaks["edited"]  # the split is as it was: the images are not


def test_one_image_under_two_labels_leaks_into_the_binary_task_only(tmp_path):
    folder = tmp_path / "captures"
    rng = np.random.default_rng(1)
    same = [rng.bytes(20) for _ in range(40)]
    for name, host in (("Malware/bot", 1), ("Malware/worm", 60), ("Benign/web", 120)):
        payloads = same if name.startswith("Malware") else [rng.bytes(20) for _ in same]
        frames = [packet(host + n % 50, data, port=2000 + n) for n, data in enumerate(payloads)]
        write_capture(folder / f"{name}.pcap", frames)
    manifest = convert([folder], tmp_path / "out", rules=MASKED).manifest
    leaks = manifest["leaks"]
    assert manifest["leaky"] and leaks["leaky"]["multiclass"] == []
    assert leaks["shared"]["binary_image"]["sessions"] > 0
    assert leaks["shared"]["other_image"] == leaks["shared"]["binary_image"]
    grouped = convert(
        [folder], tmp_path / "grouped", rules=MASKED, near_duplicates="group:1"
    ).manifest
    assert not grouped["leaky"] and grouped["leaks"]["shared"]["other_image"]["keys"] == 0


def test_a_mask_brings_the_facts_up_to_date(captures_folder, tmp_path):
    folder = tmp_path / "captures"
    shutil.copytree(captures_folder, folder)
    frames = [packet(200 + n % 40, b"the same", port=3000 + n) for n in range(60)]
    write_capture(folder / "Malware" / "same.pcap", frames)
    write_capture(folder / "Malware" / "also.pcap", [f[:26] + b"\x09" + f[27:] for f in frames])
    plain = convert([folder], tmp_path / "plain", rules=FIVE, near_duplicates="keep:0.9")
    derived = convert([plain.dataset], tmp_path / "masked", rules=ReadingRules(mask="header"))
    leaks = derived.manifest["leaks"]
    assert leaks["shared"]["image"]["keys"] == 0  # copies of a label are removed
    assert leaks["shared"]["other_image"]["keys"] == 0 or derived.manifest["leaky"]
    assert derived.manifest["near_duplicates"]["after_split"]
    assert leaks["sessions"]["train"] < plain.manifest["leaks"]["sessions"]["train"]
    dataset = open_dataset(derived.dataset)
    assert dataset.leaks["leaky"] == leaks["leaky"] and not dataset.leaks["edited"]


def test_the_summary_says_leaky_in_capitals(tmp_path, capsys):
    folder = tmp_path / "captures"
    for name in ("bot", "worm"):
        frames = [packet(n, b"%d" % (n % 30), port=2000 + n) for n in range(60)]
        write_capture(folder / "Malware" / f"{name}.pcap", frames)
    main(["convert", str(folder), "--out", str(tmp_path / "out"), "--mask", "addresses+ports"])
    told = capsys.readouterr().err
    assert "LEAKY" in told and "binary" in told and "Shared with train" in told


def test_nothing_is_shared_by_nobody():
    empty = pa.RecordBatch.from_pylist([])
    found = find_leaks(lambda names: iter([empty]), "random:70/10/20")
    assert found["leaky"] == {"multiclass": [], "binary": []}
    json.dumps(found)
