"""Captures read side by side: the same dataset, and one process's end costs one capture."""

import errno
import multiprocessing
import os
import pathlib
import threading

import pytest
from labelled_captures import FIVE, check_account, packet, write_capture, write_folder

from xai_traffic.data import spool
from xai_traffic.data.build import convert
from xai_traffic.data.store import open_dataset
from xai_traffic.data.writer import DatasetWriter
from xai_traffic.errors import DatasetError


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    return write_folder(tmp_path / "captures")


def test_workers_make_the_same_dataset(folder, tmp_path, monkeypatch):
    write_capture(folder / "Benign" / "cut.pcap", [packet(1, b"x"), packet(2, b"y")], cut=5)
    monkeypatch.setattr(spool, "_PIECE", 1000)
    convert([folder], tmp_path / "one", rules=FIVE)
    made = convert([folder], tmp_path / "two", rules=FIVE, workers=3)
    assert [name for name, _ in made.failures] == ["Benign/cut.pcap"]
    for file in (tmp_path / "one").iterdir():
        if file.suffix != ".parquet":  # the workers do not know of the pieces above
            assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    assert open_dataset(tmp_path / "one").table.equals(open_dataset(tmp_path / "two").table)


def test_a_worker_that_dies_costs_its_capture_alone(folder, tmp_path):
    killer = folder / "killer.pcap"
    os.mkfifo(killer)  # a pipe keeps the worker waiting

    def kill_its_reader():
        with open(killer, "wb"):
            for process in multiprocessing.active_children():
                held = pathlib.Path(f"/proc/{process.pid}/fd").iterdir()
                if any(os.path.realpath(link) == str(killer) for link in held):
                    process.kill()
                    process.join()
                    return  # the other worker may be gone at any moment now

    thread = threading.Thread(target=kill_its_reader)
    thread.start()
    made = convert([killer, folder], tmp_path / "out", rules=FIVE, workers=2)
    thread.join()
    assert [name for name, _ in made.failures] == [str(killer)]
    assert "died" in made.failures[0][1]
    check_account(made.manifest)
    assert [row["kept"]["sessions"] for row in made.manifest["captures"]] == [0, 20, 11]


def test_workers_end_with_a_full_disk(folder, tmp_path, monkeypatch):
    def append(self, tiles, packets):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = set(multiprocessing.active_children())
    monkeypatch.setattr(DatasetWriter, "append", append)
    with pytest.raises(DatasetError, match="No space left") as caught:
        convert([folder], tmp_path / "out", rules=FIVE, workers=2)
    assert set(multiprocessing.active_children()) <= before  # while the error is still held
    assert caught.value.__cause__ is not None and not (tmp_path / "out").exists()
