"""Captures to datasets: every packet accounted for, nothing half done, bad beside good."""

import dataclasses
import io
import json
import logging
import os
import pathlib
import struct

import numpy as np
import pyarrow.compute as pc
import pytest
from labelled_captures import FIVE, check_account, packet, packets_in, write_capture, write_folder

from xai_traffic.capture.masking import apply_mask
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import read_capture_by
from xai_traffic.data import spool
from xai_traffic.data.account import Entry
from xai_traffic.data.build import convert, summarise
from xai_traffic.data.duplicates import content_hash
from xai_traffic.data.loader import Loader
from xai_traffic.data.store import open_dataset
from xai_traffic.errors import CaptureError, ConfigError, DatasetError

CLOSE = ReadingRules(rule="five_tuple", mask="addresses+ports")


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    return write_folder(tmp_path / "captures")


def test_captures_become_a_dataset(folder, tmp_path):
    made = convert([folder], tmp_path / "out", rules=FIVE, split="random:60/20/20", seed=4)
    assert made.failures == []
    dataset = open_dataset(tmp_path / "out")
    manifest = dataset.manifest
    assert made.manifest == manifest
    check_account(manifest)
    assert dataset.classes == ["bot", "web"] and manifest["binary_classes"] == ["Benign", "Malware"]
    assert [row["capture"] for row in manifest["captures"]] == [
        "Benign/web.pcap",
        "Malware/bot.pcap.gz",
    ]
    assert manifest["captures"][0]["dropped"] == {"not IP": 20}
    assert manifest["captures"][1]["dropped"] == {"truncated header": 1}
    assert all(len(row["sha256"]) == 64 for row in manifest["captures"])
    assert manifest["per_class"]["web"]["splits"] == {"train": 12, "validation": 4, "test": 4}
    assert len(dataset) == 20 + 11 and np.array_equal(
        dataset.task_labels("binary"), 1 - dataset.labels
    )
    # what one capture gives alone is what it gives in a dataset
    alone = read_capture_by(folder / "Benign" / "web.pcap", FIVE)
    assert np.array_equal(dataset.tiles[: len(alone.tiles)], alone.tiles)
    assert np.array_equal(dataset.images(np.arange(20)), alone.images())
    columns = alone.table.drop(["capture"]).column_names
    assert dataset.table.slice(0, 20).select(columns).equals(alone.table.select(columns))
    assert dataset.packets.slice(0, 40).equals(alone.packets)
    assert [table[0] for table in summarise(manifest)] == [
        "Kept",
        "Dropped",
        "Shared with train under random:60/20/20",
    ]


def test_the_same_input_gives_the_same_bytes(folder, tmp_path):
    for name in ("one", "two"):
        convert([folder], tmp_path / name, rules=FIVE, seed=1)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_big_captures_go_through_a_file(folder, tmp_path, monkeypatch):
    convert([folder], tmp_path / "one", rules=FIVE)
    monkeypatch.setattr(spool, "_MEMORY", 1000)
    monkeypatch.setattr(spool, "_PIECE", 1000)
    convert([folder], tmp_path / "two", rules=FIVE)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_duplicates_and_images_under_two_labels(folder, tmp_path):
    manifest = convert([folder], tmp_path / "out", rules=CLOSE).manifest
    check_account(manifest)
    bot = manifest["per_class"]["bot"]
    assert bot["kept"]["sessions"] == 4 and bot["duplicates"] == 7
    assert bot["dropped"]["duplicate"] == 7
    assert manifest["per_class"]["web"]["kept"]["sessions"] == 20
    assert manifest["label_conflicts"] == [{"a": "bot", "b": "web", "images": 1}]
    tables = {title: rows for title, _, rows in summarise(manifest)}
    assert tables["Images under two labels"] == [("bot", "web", 1)]


def test_a_mask_put_on_later_gives_the_same_images(folder, tmp_path):
    source = open_dataset(convert([folder], tmp_path / "plain", rules=FIVE, seed=2).dataset)
    made = convert([source.path], tmp_path / "later", rules=ReadingRules(mask="ports+addresses"))
    derived, direct = (
        open_dataset(path)
        for path in (made.dataset, convert([folder], tmp_path / "direct", rules=CLOSE).dataset)
    )
    check_account(derived.manifest)
    assert derived.rules == direct.rules == CLOSE
    for name in ("label", "content_hash"):
        assert sorted(derived.table[name].to_pylist()) == sorted(direct.table[name].to_pylist())
    assert derived.manifest["label_conflicts"] == direct.manifest["label_conflicts"]
    removed = derived.manifest["duplicates_under_mask"]
    assert sum(sum(split.values()) for split in removed.values()) == len(source) - len(derived) == 7
    splits = {
        key: split
        for *key, split in zip(
            *(source.table[name].to_pylist() for name in ("capture", "session", "split")),
            strict=True,
        )
        for key in [tuple(key)]
    }
    order = ["train", "validation", "test"]
    masked = apply_mask(source.tiles, source.packets, "addresses+ports")
    best = {}
    for row in range(len(source)):
        first, count = source.first_tiles[row], source.tile_counts[row]
        image = source.table["label"][row].as_py(), content_hash(masked[first : first + count])
        place = order.index(source.table["split"][row].as_py())
        best[image] = min(best.get(image, 9), place)
    for row in derived.table.to_pylist():
        assert row["split"] == splits[row["capture"], row["session"]]
        assert order.index(row["split"]) == best[row["label"], row["content_hash"]]
        tiles = derived.tiles[row["first_tile"] : row["first_tile"] + row["tiles"]]
        assert content_hash(tiles) == row["content_hash"]
    assert len(derived.packets) == len(derived.tiles)


def test_what_cannot_be_derived_is_refused(folder, tmp_path):
    plain = convert([folder], tmp_path / "plain", rules=FIVE).dataset
    masked = convert([folder], tmp_path / "masked", rules=CLOSE).dataset
    small = convert([folder], tmp_path / "small", rules=ReadingRules(layout="ustc28")).dataset
    ttl = ReadingRules(mask="ttl")
    for inputs, options, error, message in [
        ([masked], {"rules": ttl}, DatasetError, "masked already"),
        ([small], {"rules": ttl}, DatasetError, "layout ustc28"),
        ([plain], {"rules": FIVE}, DatasetError, "name the --mask"),
        ([plain, folder], {"rules": ttl}, ConfigError, "convert it alone"),
        ([plain], {"rules": ttl, "split": "hash:70/10/20"}, ConfigError, "keeps its split"),
        ([plain], {"rules": ttl, "labels": "x.csv"}, ConfigError, "keeps its labels"),
        (
            [plain],
            {"rules": ReadingRules(mask="ttl", layers="network")},
            ConfigError,
            "layers 'network': the dataset was read with 'all'",
        ),
    ]:
        with pytest.raises(error, match=message):
            convert(inputs, tmp_path / "out", **options)
    with pytest.raises(DatasetError, match="choose another"):
        convert([plain], plain, rules=ttl, overwrite=True)
    assert not (tmp_path / "out").exists()


def test_bad_captures_cost_nothing_beside_them(folder, tmp_path, monkeypatch):
    good = convert([folder], tmp_path / "good", rules=FIVE)
    (folder / "Malware" / "noise.pcap").write_bytes(b"no capture at all")
    (folder / "Malware" / "empty.pcap").write_bytes(b"")
    write_capture(folder / "Malware" / "cut.pcap", [packet(1, b"x"), packet(2, b"y")], cut=5)
    closed = folder / "Malware" / "closed.pcap"
    closed.touch()
    opened = open

    def refuse(path, *arguments, **options):
        if os.fspath(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(closed))
        return opened(path, *arguments, **options)

    monkeypatch.setattr("builtins.open", refuse)
    made = convert([folder], tmp_path / "out", rules=FIVE)
    check_account(made.manifest)
    failed = dict(made.failures)
    bad = ["closed", "cut", "empty", "noise"]
    assert sorted(failed) == [f"Malware/{name}.pcap" for name in bad]
    assert "no permission" in failed["Malware/closed.pcap"]
    assert "cut short" in failed["Malware/cut.pcap"] and "packet 2" in failed["Malware/cut.pcap"]
    assert "not a capture" in failed["Malware/noise.pcap"]
    assert str(tmp_path) not in json.dumps(made.manifest)
    assert made.manifest["per_class"]["cut"]["kept"] == {"packets": 1, "sessions": 1}
    assert sorted(made.manifest["lost_classes"]) == ["closed", "empty", "noise"]
    assert len(open_dataset(made.dataset)) == len(open_dataset(good.dataset)) + 1
    tables = {title: rows for title, _, rows in summarise(made.manifest)}
    assert len(tables["Captures with a fault"]) == 4


def test_a_kilobyte_that_claims_gigabytes(folder, tmp_path):
    """What comes before the lie is kept, and the error names its place."""
    liar = folder / "Malware" / "liar.pcap"
    write_capture(liar, [packet(1, b"x")])
    end = liar.stat().st_size
    size = 0xFFFFFFF0
    with open(liar, "ab") as stream:
        stream.write(struct.pack("<IIII", 9, 0, size, size) + bytes(1000))
    section = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    block = struct.pack("<II", 6, size) + bytes(1000)
    (folder / "Malware" / "block.pcapng").write_bytes(section + block)
    made = convert([folder], tmp_path / "out", rules=FIVE)
    failed = dict(made.failures)
    assert sorted(failed) == ["Malware/block.pcapng", "Malware/liar.pcap"]
    assert f"packet 2, byte offset {end}: a record claims more" in failed["Malware/liar.pcap"]
    assert "byte offset 28" in failed["Malware/block.pcapng"]
    assert made.manifest["per_class"]["liar"]["kept"] == {"packets": 1, "sessions": 1}


def test_sessions_that_had_to_make_room_are_counted_loudly(folder, tmp_path, caplog):
    rules = ReadingRules(rule="five_tuple", max_open=5)
    made = convert([folder], tmp_path / "out", rules=rules)
    check_account(made.manifest)
    evicted = {row["capture"]: row["evicted"] for row in made.manifest["captures"]}
    assert evicted == {"Benign/web.pcap": 35, "Malware/bot.pcap.gz": 6}
    assert "35 sessions WERE ENDED TO MAKE ROOM" in caplog.text
    assert any("max_open" in warning for warning in made.manifest["warnings"])


def test_names_that_are_no_text_become_text(tmp_path):
    source = write_capture(tmp_path / "a.pcap", [packet(1, b"x")])
    folder = os.fsencode(tmp_path) + b"/Benign"
    os.mkdir(folder)
    os.rename(source, folder + b"/\xff.pcap")
    write_capture(tmp_path / "Benign" / "b.pcap", [packet(2, b"y")])
    dataset = open_dataset(convert([tmp_path / "Benign"], tmp_path / "out", rules=FIVE).dataset)
    assert dataset.classes == ["\\udcff", "b"]
    assert dataset.table["capture"].to_pylist() == ["\\udcff.pcap", "b.pcap"]


def test_a_class_lost_to_the_minimum_is_named_loudly(folder, tmp_path, caplog):
    write_capture(folder / "Benign" / "call.pcap", [packet(9, b"ring")])
    with caplog.at_level(logging.WARNING, "xai_traffic"):
        made = convert([folder], tmp_path / "out", rules=ReadingRules(min_packets=2))
    check_account(made.manifest)
    assert "class call IS LOST" in caplog.text and "below minimum packets" in caplog.text
    assert made.manifest["lost_classes"]["call"]["sessions"] == 1
    assert made.manifest["classes"] == ["bot", "web"]
    assert made.manifest["per_class"]["bot"]["dropped_sessions"] == {"below minimum packets": 10}


@pytest.mark.parametrize("workers", [1, 2])
def test_no_capture_gives_more_of_a_class_than_is_asked(folder, tmp_path, workers):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "capture,filter,label\n*/web.pcap,src net 10.0.0.0/29,early\n*/web.pcap,,late\n*,,bot\n"
    )
    wish = dataclasses.replace(FIVE, most_per_capture=5)
    options = {"rules": wish, "labels": labels, "workers": workers}
    made = convert([folder], tmp_path / "out", **options)
    check_account(made.manifest)
    kept = {name: row["kept"]["sessions"] for name, row in made.manifest["per_class"].items()}
    assert kept == {"": 0, "early": 5, "late": 5, "bot": 5}
    early = made.manifest["per_class"]["early"]
    assert early["dropped_sessions"] == {"more than are taken of a capture": 3}
    whole = convert([folder], tmp_path / "whole", rules=FIVE, labels=labels)
    every, some = (open_dataset(one.dataset).table for one in (whole, made))
    for label in ("early", "late"):
        first = every.filter(pc.field("label") == label)["session"].to_pylist()[:5]
        assert some.filter(pc.field("label") == label)["session"].to_pylist() == first
    derived = convert([made.dataset], tmp_path / "masked", rules=ReadingRules(mask="ports"))
    assert open_dataset(derived.dataset).rules.most_per_capture == 5
    close = dataclasses.replace(CLOSE, most_per_capture=5)
    made = convert([folder], tmp_path / "close", **{**options, "rules": close})
    kept = made.manifest["per_class"]["bot"]["kept"]["sessions"]
    assert kept == 3  # copies are of the five: which they are depends on other captures
    # What is judged is judged whole, and a run takes sessions of both datasets.
    assert open_dataset(derived.dataset).rules == dataclasses.replace(FIVE, mask="ports")


def test_sessions_without_payload_are_dropped_by_name(folder, tmp_path):
    write_capture(folder / "Benign" / "ping.pcap", [packet(1, b""), packet(2, b"x")])
    rules = ReadingRules(layers="payload", min_packets=1)
    manifest = convert([folder], tmp_path / "out", rules=rules).manifest
    check_account(manifest)
    assert manifest["per_class"]["ping"]["dropped"] == {"no payload": 1}


def test_labels_by_table(folder, tmp_path):
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "capture,filter,label,binary_label\n"
        "*/web.pcap,src net 10.0.0.0/29,early,Benign\n"
        "*/web.pcap,host 10.0.0.19,last,\n"
        "*.gz,,beacon,Malware\n"
        "never,,never,\n"
    )
    made = convert([folder], tmp_path / "out", rules=FIVE, labels=labels)
    check_account(made.manifest)
    counts = {name: row["kept"]["sessions"] for name, row in made.manifest["per_class"].items()}
    assert counts == {"": 0, "beacon": 11, "early": 8, "last": 1}
    rest = made.manifest["per_class"][""]
    assert rest["dropped_sessions"] == {"no label": 11}
    assert rest["dropped"] == {"no label": 22, "not IP": 20, "truncated header": 1}
    assert "line 5 of the label table labels no session" in made.manifest["warnings"]
    with pytest.raises(DatasetError, match="1 sessions are neither"):
        open_dataset(made.dataset).task_labels("binary")


def test_one_capture_by_name(folder, tmp_path):
    made = convert([folder / "Benign" / "web.pcap"], tmp_path / "out", rules=FIVE)
    assert made.manifest["classes"] == ["web"]
    assert open_dataset(made.dataset).table["binary_label"].unique().to_pylist() == ["Benign"]


def test_standard_input_needs_a_label_table(folder, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="--labels"):
        convert(["-"], tmp_path / "out", rules=FIVE)
    labels = tmp_path / "labels.csv"
    labels.write_text("label\npiped\n")
    with open(folder / "Benign" / "web.pcap", "rb") as stream:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(stream))
        made = convert(["-"], tmp_path / "out", rules=FIVE, labels=labels)
    assert made.manifest["captures"][0]["sha256"] is None
    assert made.manifest["per_class"]["piped"]["kept"]["sessions"] == 20


def test_nothing_is_written_when_nothing_is_left(folder, tmp_path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(DatasetError, match="no session is left.*below minimum"):
        convert([folder], tmp_path / "out", rules=ReadingRules(min_packets=50))
    with pytest.raises(CaptureError, match="no such file"):
        convert([tmp_path / "none"], tmp_path / "out", rules=FIVE)
    with pytest.raises(ConfigError, match="sum to"):
        convert([folder], tmp_path / "out", rules=FIVE, split="random:1/1/1")
    assert sorted(tmp_path.iterdir()) == before


def test_existing_datasets_are_kept_unless_told(folder, tmp_path):
    convert([folder], tmp_path / "out", rules=FIVE)
    with pytest.raises(DatasetError, match="--overwrite"):
        convert([folder], tmp_path / "out", rules=CLOSE)
    assert open_dataset(tmp_path / "out").rules == FIVE
    convert([folder], tmp_path / "out", rules=CLOSE, overwrite=True)
    assert open_dataset(tmp_path / "out").rules == CLOSE


def test_the_account_refuses_what_does_not_add_up():
    entry = Entry()
    entry.drop_packets({"not IP": 3})
    entry.add(np.array([2, 5]), np.array(["", "no label"], object))
    entry.check("a.pcap", seen=10)
    with pytest.raises(DatasetError, match="11 packets in .* defect"):
        entry.check("a.pcap", seen=11)
    assert Entry.from_dict(entry.to_dict()) == entry


def test_ustc_prefixes_end_to_end(captures, tmp_path):
    made = convert([captures / "ustc" / "session_prefix"], tmp_path / "out", rules=FIVE)
    manifest = made.manifest
    check_account(manifest)
    assert made.failures == [] and len(manifest["classes"]) == 20
    assert sum(row["sessions"] for row in manifest["captures"]) == 10_658
    assert packets_in(manifest) == 37_495
    dataset = open_dataset(made.dataset)
    kept = sum(row["kept"]["packets"] for row in manifest["captures"])
    assert kept == sum(dataset.table["packets"].to_pylist())
    splits = [len(dataset.rows(split)) for split in ("train", "validation", "test")]
    assert np.abs(np.array(splits) / len(dataset) - [0.7, 0.1, 0.2]).max() < 0.002
    loader = Loader(dataset, dataset.rows("test"), 256, shuffle=False)
    images = np.concatenate([batch["tiles"][batch["weights"] > 0] for batch in loader])
    assert len(images) == splits[2]
    mask = "addresses+ports+ids+window+options"
    masked = convert([made.dataset], tmp_path / "masked", rules=ReadingRules(mask=mask)).manifest
    check_account(masked)
    assert masked["per_class"]["SMB"]["duplicates"] == 381
    assert masked["label_conflicts"][0] == {"a": "Neris", "b": "Virut", "images": 7}
