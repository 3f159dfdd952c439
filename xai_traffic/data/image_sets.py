"""Make sessions of image sets that others made of captures: layout ustc28, without packets.

Nothing is known of such a session but its 784 bytes: it has no packets, times or endpoints, and
its number in the file stands for its source.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from xai_traffic.capture.idx import is_image_set, labels_beside, read_images, read_labels, stem_of
from xai_traffic.capture.images import STREAM, STREAM_TILES
from xai_traffic.capture.mixing import mix
from xai_traffic.capture.reader import capture_name, find_captures
from xai_traffic.capture.records import SESSION, TILE
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.tables import PACKET_SCHEMA, TIME, session_table
from xai_traffic.data.duplicates import content_digests, hex_names
from xai_traffic.data.file_facts import facts_of_file
from xai_traffic.data.labels import label_by_folder
from xai_traffic.data.parts import Part, Summary
from xai_traffic.errors import CaptureError, ConfigError

_FREE = ("layout", "layers", "community_id_seed")
"""Reading rules that an image set leaves open."""


class Piece(NamedTuple):
    """Some images of a set.

    table: as of `session_table`; tiles: uint8 [4 * n, 256]; labels: object [n].
    """

    table: pa.Table
    tiles: np.ndarray
    labels: np.ndarray


def find_image_sets(inputs: Sequence[str | os.PathLike]) -> list[tuple[str, pathlib.Path]]:
    """Return (name, path) of the image sets among the inputs; none if the inputs are captures.

    A folder is searched through for them if it holds no capture.

    Raises:
        ConfigError: there are captures beside image sets.
    """
    found, others = [], []
    for given in map(pathlib.Path, inputs):
        inside = [(given.name, given)] if given.is_file() and is_image_set(given) else []
        if given.is_dir():
            files = sorted(each for each in given.rglob("*-ubyte*") if is_image_set(each))
            if files and not _has_captures(given):
                inside = [(each.relative_to(given).as_posix(), each) for each in files]
        found += inside
        others += [given] * (not inside)
    if found and others:
        raise ConfigError(
            f"{found[0][1]} is an image set, {others[0]} is not: convert them apart, what they "
            "become cannot lie in one dataset"
        )
    return found


def _has_captures(folder: pathlib.Path) -> bool:
    try:
        return bool(find_captures([folder]))
    except CaptureError:
        return False


def rules_of_images(rules: ReadingRules, labels: str | os.PathLike | None) -> ReadingRules:
    """Return the rules that a dataset of images keeps: those given, under layout ustc28.

    Raises:
        ConfigError: they ask for what only captures can give.
    """
    default = ReadingRules()
    for field in dataclasses.fields(rules):
        wish = getattr(rules, field.name)
        if field.name not in _FREE and wish != getattr(default, field.name):
            raise ConfigError(
                f"{field.name} {wish!r}: an image set holds images that are made already; leave "
                "it out, or convert the captures"
            )
    if rules.layout not in (default.layout, "ustc28"):
        raise ConfigError(f"layout {rules.layout!r}: image sets have layout 'ustc28'")
    if labels is not None:
        raise ConfigError("labels: image sets are labelled by the file beside them or by folder")
    return dataclasses.replace(rules, layout="ustc28")


def read_image_set(name: str, path: pathlib.Path, root: pathlib.Path) -> Iterator[Piece]:
    """Yield the sessions of an image set, some at a time.

    Labels are the numbers in the file beside it, as text of equal length; without one all images
    have the label that a capture of this name would have.

    Raises:
        CaptureError: the set or its labels cannot be read, or are not equal in number; what came
            before was yielded.
    """
    beside = labels_beside(path)
    numbers = None if beside is None else read_labels(beside)
    digits = 1 if numbers is None or not len(numbers) else len(str(numbers.max()))
    one, _ = label_of(path, root)
    begin = 0
    for images in read_images(path):
        end = begin + len(images)
        if numbers is not None and end > len(numbers):
            raise CaptureError(
                os.fspath(beside), f"it labels {len(numbers)} images, {path.name} holds more"
            )
        texts = [one] * len(images)
        if numbers is not None:
            texts = [f"{number:0{digits}}" for number in numbers[begin:end].tolist()]
        labels = np.empty(len(images), object)
        labels[:] = texts
        yield Piece(*stream_sessions(name, images, begin), labels)
        begin = end
    if numbers is not None and begin < len(numbers):
        raise CaptureError(
            os.fspath(beside), f"it labels {len(numbers)} images, {path.name} holds {begin}"
        )


def read_image_parts(
    name: str, path: pathlib.Path, root: pathlib.Path
) -> Generator[Part, None, Summary]:
    """Yield the parts of a dataset that an image set gives; return what became of it."""
    summary = Summary({"capture": name, **facts_of_file(path)})
    binary_label = label_of(path, root)[1]
    try:
        for table, tiles, labels in read_image_set(name, path, root):
            packets, reasons = np.zeros(len(labels), np.int64), np.full(len(labels), "", object)
            summary.entry.add(packets, reasons)
            for label in set(labels.tolist()):
                of = labels == label
                summary.per_class[label].add(packets[of], reasons[of])
            digests = content_digests(tiles, table["tiles"].to_numpy())
            for column, values in (
                ("label", labels),
                ("binary_label", [binary_label] * len(labels)),
                ("content_hash", hex_names(digests)),
            ):
                table = table.append_column(column, pa.array(values, pa.string()))
            flows = mix(table["session"].to_numpy().astype(np.uint64))
            yield Part(table, tiles, PACKET_SCHEMA.empty_table(), digests, flows)
    except CaptureError as error:
        summary.fault = str(error).removeprefix(capture_name(path)).lstrip(",: ")
    return summary


def label_of(path: pathlib.Path, root: pathlib.Path) -> tuple[str, str | None]:
    """Return the label and binary label that folder and name give to an image set."""
    plain = path.with_name(stem_of(path) + ".idx")
    return label_by_folder(plain, plain if root == path else root)


def stream_sessions(name: str, images: np.ndarray, begin: int = 0) -> tuple[pa.Table, np.ndarray]:
    """Return images as sessions: (table as of `session_table`, tiles uint8 [4 * n, 256]).

    Args:
        name: of the capture that they are said to be of.
        images: uint8 [n, 784].
        begin: number of the first.
    """
    count = len(images)
    tiles = np.zeros((count, STREAM_TILES * TILE), np.uint8)
    tiles[:, :STREAM] = images
    sessions = np.zeros(count, SESSION)
    sessions["session"] = np.arange(begin, begin + count)
    sessions["tiles"], sessions["family"] = STREAM_TILES, 4
    table = session_table(sessions, name, np.zeros(count, np.int64))
    for column, values in (
        ("protocol", pa.array(["unknown"] * count)),
        ("source", pa.array([f"image {begin + number}" for number in range(count)])),
        ("destination", pa.array([""] * count)),
        ("first_time", pa.nulls(count, TIME)),
        ("last_time", pa.nulls(count, TIME)),
        ("community_id", pa.nulls(count, pa.string())),
        ("end", pa.array(["unknown"] * count)),
    ):
        table = table.set_column(table.column_names.index(column), column, values)
    return table, tiles.reshape(-1, TILE)
