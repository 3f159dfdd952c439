"""Find the captures that a user names: by file, folder, pattern or list, or standard input."""

from __future__ import annotations

import collections
import glob
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from xai_traffic.errors import CaptureError
from xai_traffic.terminal import log, printable

STANDARD_INPUT = "-"

_SUFFIX = re.compile(r"\.(pcap|pcapng|cap|pcap\d+)(\.(gz|zst|xz))?$", re.IGNORECASE)


class Found(NamedTuple):
    """A capture: its name in tables, its path, and the input it was found by, or lies below."""

    name: str
    path: pathlib.Path
    root: pathlib.Path


def find_captures(
    paths: Iterable[str | os.PathLike],
    missing: list[CaptureError] | None = None,
    lists: Sequence[str | os.PathLike] = (),
) -> list[tuple[str, pathlib.Path]]:
    """Return (name, path) of every capture; see `find_inputs`."""
    return [(found.name, found.path) for found in find_inputs(paths, missing, lists)]


def find_inputs(
    paths: Iterable[str | os.PathLike],
    missing: list[CaptureError] | None = None,
    lists: Sequence[str | os.PathLike] = (),
) -> list[Found]:
    """Return every capture: files as they are given, folders searched through, patterns expanded.

    In folders a capture is a regular file named *.pcap, *.pcapng or *.cap, also with a number
    behind pcap and with .gz, .zst or .xz; its name is its path from that folder, with slashes.
    A folder below that may not be searched stands for the captures in it: opening it fails. One
    that is a link is not followed, and a warning says so.
    Captures of equal name keep their full paths as names.

    Args:
        paths: files, folders, "-"; and, where there is no such file, patterns of `glob` (** goes
            through folders), whose matches come sorted.
        missing: takes the errors of the paths where nothing is, so that they do not cost the
            others; without it the first is raised.
        lists: files, or "-", that name more of these, one a line; empty lines and those that begin
            with # are left out.

    Raises:
        CaptureError: nothing is there, a folder holds no capture, a pattern matches nothing, or a
            list cannot be read.
    """
    found: dict[pathlib.Path, tuple[str, pathlib.Path]] = {}

    def find(given: str | os.PathLike, where: str = "") -> None:
        for root in _expanded(os.fspath(given), where):
            for name, file in _find(root, where):
                found.setdefault(file, (name, root))

    def attempt(step, *arguments) -> None:
        try:
            step(*arguments)
        except CaptureError as error:
            if missing is None:
                raise
            missing.append(error)

    def find_listed(file: str | os.PathLike) -> None:
        for number, line in _lines(os.fspath(file)):
            attempt(find, line, f"{os.fspath(file)}, line {number}: ")

    for given in paths:
        attempt(find, given)
    for file in lists:
        attempt(find_listed, file)
    seen = collections.Counter(name for name, _ in found.values())
    return [
        Found(capture_name(file) if seen[name] > 1 else name, file, root)
        for file, (name, root) in found.items()
    ]


def listed_paths(file: str | os.PathLike) -> list[str]:
    """Return the paths that a list of captures names, see `find_inputs`.

    Raises:
        CaptureError: it cannot be read.
    """
    return [path for _, path in _lines(os.fspath(file))]


def _lines(file: str) -> Iterator[tuple[int, str]]:
    """Yield (number, path) of the lines of a list; paths are any bytes."""
    try:
        if file == STANDARD_INPUT:
            if sys.stdin is None:
                raise CaptureError(
                    file, "standard input is closed: pipe a list of captures into it"
                )
            data = sys.stdin.buffer.read()
        else:
            data = pathlib.Path(file).read_bytes()
    except OSError as error:
        raise CaptureError(file, f"the list of captures cannot be read ({error})") from error
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip() and not line.startswith(b"#"):
            yield number, os.fsdecode(line)


def _expanded(given: str, where: str) -> list[pathlib.Path]:
    """Return what a pattern matches, sorted; a path that is there, or is no pattern, as it is."""
    path = pathlib.Path(given)
    if given == STANDARD_INPUT or not glob.has_magic(given) or _is_there(path):
        return [path]
    matches = sorted(glob.glob(given, recursive=True))
    if not matches:
        raise CaptureError(where + given, "nothing matches this pattern: check the path")
    # Folders that ** matches are searched through already by the files in them.
    return [pathlib.Path(match) for match in matches if "**" not in given or os.path.isfile(match)]


def capture_name(path: str | os.PathLike) -> str:
    """Return a path as text for tables, slashes between its parts, bytes that are no text escaped.

    A file name is any bytes: Python holds those that are not UTF-8 as lone surrogates, which
    neither Arrow nor a page of UTF-8 can store.
    """
    return pathlib.PurePath(path).as_posix().encode("utf-8", "backslashreplace").decode()


def _find(given: pathlib.Path, where: str) -> list[tuple[str, pathlib.Path]]:
    if os.path.isdir(given):
        inside = sorted(_search(given))
        if not inside:
            raise CaptureError(
                f"{where}{given}", "this folder holds no capture (*.pcap, *.pcapng, *.cap, ...)"
            )
        return inside
    if str(given) == STANDARD_INPUT or _is_there(given):
        return [(capture_name(given), given)]
    raise CaptureError(f"{where}{given}", "there is no such file or folder: check the path")


def is_capture_name(name: str) -> bool:
    """Tell whether a file in a folder is taken for a capture."""
    return _SUFFIX.search(name) is not None


def _search(given: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """Yield (name, path) of the captures in a folder, and of folders that cannot be searched."""
    closed: list[OSError] = []
    for folder, folders, files in os.walk(given, onerror=closed.append):
        for file in (pathlib.Path(folder, name) for name in files):
            if is_capture_name(file.name) and _is_taken(file):
                yield capture_name(file.relative_to(given)), file
        for below in (pathlib.Path(folder, name) for name in folders):
            if below.is_symlink():
                log.warning(
                    "%s links to a folder and is not followed: name it as an input to read it",
                    printable(below),
                )
    for error in closed:
        yield capture_name(error.filename), pathlib.Path(error.filename)


def _is_taken(file: pathlib.Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # not even to be looked at: opening it says why
        return True


def _is_there(given: pathlib.Path) -> bool:
    try:
        given.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:  # opening it says why
        return True
    return True
