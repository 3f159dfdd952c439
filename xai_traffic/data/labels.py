"""Give sessions their labels: by the folder a capture lies in, or by a table of rules.

By folder: the parent folder `Benign` or `Malware` (any case) makes the file's stem the label;
any other parent folder is itself the label. The binary label is the nearest `Benign` or `Malware`
above the capture, searched up to the folder that holds the input the user named, so that the
name of a home folder far above labels nothing.

By table (`--labels FILE.csv`): columns `capture`, `filter`, `label`, `binary_label`. `capture` is
a capture's name in the dataset or a glob of it (empty: any), `filter` an expression of
`capture/filters.py` on the session's first packet (empty: any), `binary_label` may be empty. The
first row that matches wins; a session that no row matches has no label.
"""

from __future__ import annotations

import csv
import dataclasses
import fnmatch
import os
import pathlib

import numpy as np

from xai_traffic.capture.filters import Program, compile_filter
from xai_traffic.capture.reader import capture_name
from xai_traffic.errors import ConfigError

BINARY_CLASSES = ("Benign", "Malware")
COLUMNS = ("capture", "filter", "label", "binary_label")
_BINARY = {name.lower(): name for name in BINARY_CLASSES}
_COMPRESSIONS = (".gz", ".zst", ".xz")


def label_by_folder(path: str | pathlib.Path, root: str | pathlib.Path) -> tuple[str, str | None]:
    """Return a capture's label and binary label (None: neither) by the folders it lies in.

    Args:
        path: the capture.
        root: the input the user named: the capture itself or a folder above it.
    """
    path, root = (pathlib.Path(os.path.abspath(each)) for each in (path, root))
    holder = (path.parent if root == path else root).parent
    parent = path.parent.name
    label = capture_name(_stem(path) if parent.lower() in _BINARY or not parent else parent)
    for folder in path.parents:
        if folder.name.lower() in _BINARY:
            return label, _BINARY[folder.name.lower()]
        if folder == holder:
            break
    return label, None


def _stem(path: pathlib.Path) -> str:
    while path.suffix.lower() in _COMPRESSIONS:
        path = path.with_suffix("")
    return path.stem


@dataclasses.dataclass(frozen=True)
class LabelRule:
    """One row of a label table; `line` is its number in the file, for messages."""

    capture: str
    program: Program
    label: str
    binary_label: str | None
    line: int

    def covers(self, capture: str) -> bool:
        """Tell whether the row speaks of a capture of this name."""
        return (
            not self.capture
            or self.capture == capture
            or fnmatch.fnmatchcase(capture, self.capture)
        )


def read_label_table(path: str | pathlib.Path) -> list[LabelRule]:
    """Read a label table.

    Raises:
        ConfigError: with file, line and remedy, when a column, a label or a filter is wrong.
    """
    path = pathlib.Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            columns = tuple(name.strip() for name in reader.fieldnames or ())
            if set(columns) - set(COLUMNS) or "label" not in columns:
                raise ConfigError(
                    f"{path}: the columns are {', '.join(columns) or 'missing'}; a label table "
                    f"has {', '.join(COLUMNS)}, and label at least"
                )
            reader.fieldnames = columns
            rules = [_rule(row, path, reader.line_num) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: the label table cannot be read: {error}") from error
    if not rules:
        raise ConfigError(f"{path}: the label table has no rows")
    return rules


def _rule(row: dict, path: pathlib.Path, line: int) -> LabelRule:
    values = {name: (row.get(name) or "").strip() for name in COLUMNS}
    if None in row:
        raise ConfigError(f"{path}, line {line}: more values than columns: quote those with commas")
    if not values["label"]:
        raise ConfigError(f"{path}, line {line}: the label is empty")
    binary = values["binary_label"]
    if binary and binary.lower() not in _BINARY:
        raise ConfigError(
            f"{path}, line {line}: binary_label {binary!r} is neither Benign nor Malware"
        )
    try:
        program = compile_filter(values["filter"])
    except ConfigError as error:
        raise ConfigError(f"{path}, line {line}: {error}") from error
    return LabelRule(values["capture"], program, values["label"], _BINARY.get(binary.lower()), line)


def apply_label_table(
    rules: list[LabelRule], capture: str, sessions: np.ndarray, wire: np.ndarray
) -> np.ndarray:
    """Return for each session the index of the first rule that matches, -1 where none does.

    Args:
        rules: the table.
        capture: the capture's name in the dataset.
        sessions: SESSION rows [N].
        wire: [N] bytes on the wire of each session's first packet.
    """
    covering = [(index, rule.program) for index, rule in enumerate(rules) if rule.covers(capture)]
    matched = np.full(len(sessions), -1, np.int64)
    if not covering:
        return matched
    for row in range(len(sessions)):
        session = sessions[row]
        width = 4 if session["family"] == 4 else 16
        packet = (
            int(session["protocol"]),
            int(session["family"]),
            session["source"][:width].tobytes(),
            session["destination"][:width].tobytes(),
            int(session["source_port"]),
            int(session["destination_port"]),
            int(wire[row]),
        )
        for index, program in covering:
            if not program.code or program.matches(*packet):
                matched[row] = index
                break
    return matched
