"""Datasets on disk: what is written is what is read, and what does not fit is refused."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xai_traffic.capture.images import grid_images
from xai_traffic.capture.records import PACKET, SESSION
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import packet_table, session_table
from xai_traffic.data.folder import is_dataset, new_folder
from xai_traffic.data.store import open_dataset
from xai_traffic.data.writer import SESSION_SCHEMA, DatasetWriter
from xai_traffic.errors import ConfigError, DatasetError

COUNTS = np.array([3, 64, 1, 2])


def write(folder, *, rules=None, **changes):
    """Write four sessions of 3, 64, 1 and 2 tiles; return their tiles."""
    rng = np.random.default_rng(1)
    tiles = rng.integers(0, 256, (COUNTS.sum(), 256), np.uint8)
    packets = np.zeros(len(tiles), PACKET)
    packets["frame"] = np.arange(1, len(tiles) + 1)
    packets["session"] = np.repeat(np.arange(4), COUNTS)
    sessions = np.zeros(4, SESSION)
    sessions["session"], sessions["tiles"] = np.arange(4), COUNTS
    sessions["family"], sessions["protocol"] = 4, 6
    table = session_table(sessions, "a.pcap")
    for name, values in (
        ("label", ["web", "bot", "web", "bot"]),
        ("binary_label", ["Benign", "Malware", "Benign", "Malware"]),
        ("split", ["train", "train", "test", "validation"]),
        ("content_hash", list("abcd")),
    ):
        table = table.append_column(name, pa.array(changes.get(name, values), pa.string()))
    manifest = {"rules": (rules or ReadingRules()).to_dict(), "classes": ["bot", "web"]}
    manifest["mask_version"] = changes.get("mask_version")
    with DatasetWriter(folder) as writer:
        for start, end in ((0, 67), (67, 70)):
            writer.append(tiles[start:end], packet_table(packets[start:end]))
        writer.finish(table, manifest)
    return tiles


def test_what_is_written_is_read(tmp_path):
    tiles = write(tmp_path)
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 4 and dataset.rules == ReadingRules()
    assert dataset.table.schema.equals(SESSION_SCHEMA)
    assert dataset.table.schema.metadata[b"xai_traffic.schema"] == b"2"
    assert isinstance(dataset.tiles, np.memmap) and np.array_equal(dataset.tiles, tiles)
    assert dataset.classes == ["bot", "web"]
    assert dataset.labels.tolist() == [1, 0, 1, 0] and dataset.labels.dtype == np.int32
    assert dataset.task_labels("binary").tolist() == [0, 1, 0, 1]
    assert dataset.task_classes("binary") == ["Benign", "Malware"]
    assert dataset.rows("train").tolist() == [0, 1] and dataset.rows("train").dtype == np.int64
    assert dataset.first_tiles.tolist() == [0, 3, 67, 68]
    assert dataset.packets["frame"][dataset.packet_span(3)].to_pylist() == [69, 70]
    dense = np.zeros((2, 64, 256), np.uint8)
    dense[0, :2], dense[1] = tiles[68:], tiles[3:67]
    assert np.array_equal(dataset.images([3, 1]), grid_images(dense))


def test_wrong_names_are_explained(tmp_path):
    write(tmp_path, binary_label=["Benign", None, "Benign", None])
    dataset = open_dataset(tmp_path)
    with pytest.raises(DatasetError, match=r"2 sessions are neither.*\(bot\)"):
        dataset.task_labels("binary")
    with pytest.raises(ConfigError, match="split 'dev'"):
        dataset.rows("dev")
    with pytest.raises(ConfigError, match="task 'ternary'"):
        dataset.task_labels("ternary")


def edit(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: edit(folder, schema=0), "version 0 of the dataset's schema"),
        (lambda folder: edit(folder, rules={"version": 0}), "version 0 of the reading rules"),
        (lambda folder: edit(folder, holds={}), "do not fit its manifest"),
        (lambda folder: edit(folder, format="other"), "not a dataset"),
        (lambda folder: (folder / "manifest.json").write_text("{"), "not a dataset"),
        (lambda folder: (folder / "tiles.npy").unlink(), "incomplete, tiles.npy missing"),
        (lambda folder: (folder / "tiles.npy").write_bytes(b"none"), "cannot be read"),
        (lambda folder: (folder / "tiles.npy").write_bytes(b""), "cannot be read"),
        (lambda folder: (folder / "sessions.parquet").write_bytes(b"none"), "cannot be read"),
        (
            lambda folder: pq.write_table(
                open_dataset(folder).table.drop(["split"]), folder / "sessions.parquet"
            ),
            "lacks split",
        ),
    ],
)
def test_a_damaged_dataset_is_refused(tmp_path, damage, message):
    write(tmp_path)
    damage(tmp_path)
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path)


def test_old_masks_are_refused_and_missing_folders_named(tmp_path):
    write(tmp_path, rules=ReadingRules(mask="ports"), mask_version=0)
    with pytest.raises(DatasetError, match="masked by version 0"):
        open_dataset(tmp_path)
    with pytest.raises(DatasetError, match="no such folder"):
        open_dataset(tmp_path / "none")


def test_tables_must_cover_the_tiles(tmp_path):
    write(tmp_path)
    table = open_dataset(tmp_path).table
    with DatasetWriter(tmp_path) as writer, pytest.raises(DatasetError, match="does not cover"):
        writer.finish(table, {})


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    out = tmp_path / "deep" / "out"
    with pytest.raises(KeyboardInterrupt), new_folder(out, False) as folder:
        write(folder)
        raise KeyboardInterrupt
    assert list(out.parent.iterdir()) == []
    with new_folder(out, False) as folder:
        write(folder)
        assert not out.exists()
    assert is_dataset(out) and list(out.parent.iterdir()) == [out]


def test_only_a_dataset_is_overwritten(tmp_path):
    out = tmp_path / "out"
    with new_folder(out, False) as folder:
        write(folder)
    with pytest.raises(DatasetError, match="--overwrite"), new_folder(out, False):
        pytest.fail("it exists")
    with pytest.raises(ValueError, match="stop"), new_folder(out, True):
        raise ValueError("stop")
    assert is_dataset(out)
    with new_folder(out, True) as folder:
        write(folder)
    assert is_dataset(out)
    (out / "thesis.tex").write_text("years of work")
    with pytest.raises(DatasetError, match=r"holds something other than a dataset \(thesis.tex\)"):
        new_folder(out, True).__enter__()
    other = tmp_path / "other"
    other.mkdir()
    (other / "manifest.json").write_text('{"format": "another"}')
    with pytest.raises(DatasetError, match="something other than a dataset"):
        new_folder(other, True).__enter__()
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(DatasetError, match="not a folder"):
        new_folder(file, True).__enter__()
    assert (out / "thesis.tex").exists() and (other / "manifest.json").exists()
