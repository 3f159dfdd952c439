"""Datasets of the record that are made of others: masked, cut down, dealt anew."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xai_traffic.data.build import convert
from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.data.writer import DatasetWriter

PORTS_HIDDEN, HOSTS_HIDDEN = "ports", "addresses+ports"
"""Masks of the cells that are not about masks."""

Make = Callable[[pathlib.Path, pathlib.Path, int], Dataset]
Source = Callable[[pathlib.Path, pathlib.Path], Dataset]


def masked(plain: pathlib.Path, mask: str) -> Dataset:
    """Return a dataset with a mask on it, made where it does not stand."""
    if mask == "none":
        return open_dataset(plain)
    path = plain.with_name(f"{plain.name}-{mask}")
    if not path.exists():
        rules = dataclasses.replace(open_dataset(plain).rules, mask=mask)
        convert([plain], path, rules=rules)
    return open_dataset(path)


def payload_of(dataset: Dataset, source: Dataset, path: pathlib.Path) -> Dataset:
    """Return the sessions of a dataset by their payloads alone, in the same splits.

    Sessions without a payload are left out, and of equal ones of one label all but the first.

    Args:
        source: the same captures read with layers payload; its own split is of no account.
        path: where it stands, or is made.
    """
    if path.exists():
        return open_dataset(path)
    columns = (dataset.table[name].to_pylist() for name in ("capture", "session", "split"))
    split_of = {(capture, session): split for capture, session, split in zip(*columns, strict=True)}
    keys = zip(*(source.table[name].to_pylist() for name in ("capture", "session")), strict=True)
    split = np.array([split_of.get(key, "") for key in keys], object)
    return rewrite(source, path, np.flatnonzero(split != ""), split)


def rewrite(source: Dataset, path: pathlib.Path, rows: np.ndarray, split: np.ndarray) -> Dataset:
    """Write some sessions of a dataset with another split.

    Args:
        rows: int [n], sorted; labels that none of them has are no classes any more.
        split: object [N], of all sessions of the source.
    """
    table = source.table.take(rows)
    place = table.column_names.index("split")
    table = table.set_column(place, "split", pa.array(split[rows].tolist(), pa.string()))
    kept = np.zeros(len(source), bool)
    kept[rows] = True
    tiles = np.repeat(kept, source.tile_counts)
    manifest = {
        key: source.manifest[key] for key in ("rules", "mask_version", "seed", "labels", "split")
    }
    manifest["classes"] = sorted(pc.unique(table["label"]).to_pylist())
    return write_dataset(
        path, table, source.tiles[tiles], source.packets.filter(pa.array(tiles)), manifest
    )


def write_dataset(
    path, table: pa.Table, tiles, packets: pa.Table | None, manifest: dict
) -> Dataset:
    """Write a dataset whole, or leave nothing of it; where its tiles begin is counted anew.

    Args:
        path: the folder to make.
        table: rows of sessions.parquet.
        tiles: uint8 [T, 256], the sessions' one behind the other.
        packets: a row a tile; None for images.
        manifest: beside what the writer adds.
    """
    half = path.with_name(path.name + ".part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    counts = table["tiles"].to_numpy().astype(np.int64)
    place = table.column_names.index("first_tile")
    table = table.set_column(place, "first_tile", pa.array(np.cumsum(counts) - counts))
    with DatasetWriter(half) as writer:
        writer.append(tiles, packets if packets is not None else pa.table({}))
        writer.finish(table, manifest)
    half.rename(path)
    return open_dataset(path)


def write_labels(path: pathlib.Path, rows: list[tuple[str, str, str, str]]) -> None:
    """Write a label table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(("capture", "filter", "label", "binary_label"))
        table.writerows(rows)
