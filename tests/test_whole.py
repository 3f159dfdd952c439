"""Files and folders that are made whole or not at all."""

from __future__ import annotations

import json

import pytest

from xai_traffic.errors import RunError
from xai_traffic.whole import Destination, whole_file, write_json


def foreign(folder):
    """Return the names in a folder that no page has."""
    return {each.name for each in folder.iterdir()} - {"page"}


def place(out, overwrite=True):
    """Return a destination of pages."""
    return Destination(out, overwrite, "a page", foreign, RunError)


def write(out, text, overwrite=True):
    """Write a page."""
    with place(out, overwrite).whole_folder() as folder:
        (folder / "page").write_text(text)


def test_a_folder_takes_the_place_of_one_of_its_kind_alone(tmp_path):
    out = tmp_path / "parent" / "out"
    write(out, "old")
    with pytest.raises(RunError, match=r"exists.*--overwrite"):
        write(out, "new", overwrite=False)
    write(out, "new")
    assert (out / "page").read_text() == "new"
    (out / "thesis.tex").touch()
    with pytest.raises(RunError, match=r"something other than a page \(thesis.tex\)"):
        write(out, "newer")
    assert (out / "page").read_text() == "new"
    assert [each.name for each in out.parent.iterdir()] == ["out"]


def test_a_link_and_a_file_are_no_folder_to_replace(tmp_path):
    write(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(RunError, match="is not a folder"):
            write(tmp_path / name, "new")
    assert (tmp_path / "real" / "page").read_text() == "old"


def test_what_comes_into_the_way_meanwhile_stays(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(RunError, match="exists"), place(out, False).whole_folder() as folder:
        (folder / "page").write_text("mine")
        out.mkdir()
        (out / "page").write_text("another's")
    assert (out / "page").read_text() == "another's"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_an_error_leaves_what_stood_there_and_nothing_else(tmp_path):
    out = tmp_path / "out"
    write(out, "old")
    with pytest.raises(ZeroDivisionError), place(out).whole_folder() as folder:
        (folder / "page").write_text("half")
        raise ZeroDivisionError
    assert (out / "page").read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_names_the_folder(tmp_path):
    with (
        pytest.raises(RunError, match=r"out could not be written: .*No space left"),
        place(tmp_path / "out").whole_folder(),
    ):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"step": 1})
    with pytest.raises(ZeroDivisionError), whole_file(path) as new:
        new.write_text("{")
        raise ZeroDivisionError
    assert json.loads(path.read_text()) == {"step": 1}
    write_json(path, {"step": 2})
    assert json.loads(path.read_text()) == {"step": 2}
    assert [each.name for each in tmp_path.iterdir()] == ["result.json"]
