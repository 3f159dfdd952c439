"""Put a mask on an unmasked dataset; the captures are not needed and the split stays.

Sessions that a mask makes the same are duplicates as any others: of those of one label the first
is kept, training before validation before test, so that none straddles the split. Near duplicates
that it makes stay where they are: where they were looked for they are counted anew, and those in
two splits are a leak.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from xai_traffic.capture.layouts import TILE_LAYOUTS
from xai_traffic.capture.masking import MASK_VERSION, apply_mask, parse_mask
from xai_traffic.data.account import DUPLICATE_UNDER_MASK, Entry, per_class_of, split_sizes
from xai_traffic.data.duplicates import Seen, content_digests, hex_names, label_conflicts
from xai_traffic.data.folder import new_folder
from xai_traffic.data.leaks import Read, find_leaks, is_leaky
from xai_traffic.data.near_duplicates import NearDuplicates, NearSpec
from xai_traffic.data.split import PLACES, SPLITS
from xai_traffic.data.spool import consecutive
from xai_traffic.data.store import Dataset
from xai_traffic.data.writer import DatasetWriter
from xai_traffic.errors import DatasetError
from xai_traffic.terminal import progress

_PIECE = 16384
"""Tiles masked at a time."""


def derive(source: Dataset, out: str | os.PathLike, mask: str, *, overwrite: bool = False) -> dict:
    """Make a masked dataset of an unmasked one and return its manifest.

    Args:
        source: dataset of mask `none` whose tiles are packets as captured.
        out: the folder to make.
        mask: names joined by "+", not "none".
        overwrite: replace `out` if it is a dataset.

    Raises:
        DatasetError: the source cannot be masked, or `out` is in the way.
    """
    _check_source(source, mask, out)
    digests = np.concatenate(
        [
            content_digests(tiles, source.tile_counts[rows])
            for rows, tiles, _ in _masked(source, mask, "hash")
        ]
    )
    kept = _first_of_each(source.table, digests)
    counts = source.tile_counts[kept].astype(np.int64)
    table = source.table.filter(pa.array(kept))
    for name, values in (
        ("first_tile", pa.array(np.cumsum(counts) - counts, pa.int64())),
        ("content_hash", pa.array(hex_names(digests[kept]), pa.string())),
    ):
        table = table.set_column(table.column_names.index(name), name, values)
    manifest = _manifest(source, mask, kept, table, digests[kept])
    old = manifest.get("near_duplicates")
    near = NearDuplicates(NearSpec(old["action"], old["threshold"])) if old else None
    with new_folder(out, overwrite) as folder, DatasetWriter(folder) as writer:
        for rows, tiles, packets in _masked(source, mask, "mask"):
            chosen = np.repeat(kept[rows], source.tile_counts[rows])
            writer.append(tiles[chosen], packets.filter(pa.array(chosen)))
            if near is not None:
                near.add(
                    tiles[chosen],
                    source.tile_counts[rows][kept[rows]],
                    source.labels[rows][kept[rows]],
                    source.table["session"].to_numpy()[rows][kept[rows]],
                )
        clusters = near.find(writer.written_tiles()) if near is not None else None
        if clusters is not None:
            captures = [(row["capture"], row["kept"]["sessions"]) for row in manifest["captures"]]
            told = near.told(clusters, source.classes, captures)
            # What was set aside before the mask stays so: no more is.
            manifest["near_duplicates"] = {**told, "unused": old["unused"], "after_split": True}

        def found(read: Read) -> dict:
            several = None if clusters is None else clusters.of_several()
            left_out = manifest.get("split_facts", {}).get("left_out", ())
            leaks = find_leaks(read, manifest["split"], left_out, several)
            return {"leaks": leaks, "leaky": is_leaky(leaks)}

        return writer.finish(table, manifest, found)


def _check_source(source: Dataset, mask: str, out: str | os.PathLike) -> None:
    rules = source.rules
    if rules.mask != "none":
        raise DatasetError(
            f"{source.path} is masked already ({rules.mask}), and what a mask hid is gone: derive "
            "from the dataset without a mask, or convert the captures"
        )
    if rules.layout not in TILE_LAYOUTS:
        raise DatasetError(
            f"{source.path} has layout {rules.layout}, whose bytes cannot be told apart any more: "
            f"convert the captures with --layout {rules.layout} --mask {mask}"
        )
    if not parse_mask(mask):
        raise DatasetError(f"{source.path} is a dataset: name the --mask to put on it")
    if os.path.realpath(out) == os.path.realpath(source.path):
        raise DatasetError(f"{out} is the dataset to derive from: choose another --out")


def _masked(source: Dataset, mask: str, verb: str) -> Iterator[tuple[slice, np.ndarray, pa.Table]]:
    """Yield rows of the table in turn, with their tiles masked, and their packet rows."""
    parts = list(consecutive(source.tile_counts, _PIECE))
    ends = source.first_tiles + source.tile_counts
    for rows in progress(parts, verb):
        first, end = int(source.first_tiles[rows.start]), int(ends[rows.stop - 1])
        packets = source.packets.slice(first, end - first)
        yield rows, apply_mask(source.tiles[first:end], packets, mask), packets


def _first_of_each(table: pa.Table, digests: np.ndarray) -> np.ndarray:
    """Return bool [N], True for the first session of each image and label, in order of PLACES."""
    split = table["split"].to_numpy(zero_copy_only=False)
    order = np.argsort([PLACES.index(name) for name in split], kind="stable")
    labels = table["label"].to_numpy(zero_copy_only=False)
    kept = np.zeros(len(table), bool)
    kept[order] = Seen().keep(labels[order], digests[order])
    return kept


def _manifest(
    source: Dataset, mask: str, kept: np.ndarray, table: pa.Table, digests: np.ndarray
) -> dict:
    """Return the source's manifest brought up to date."""
    old = source.manifest
    gone = source.table.filter(pa.array(~kept))
    captures = [dict(row) for row in old["captures"]]
    entries = {row["capture"]: Entry.from_dict(row) for row in captures}
    per_class = {label: Entry.from_dict(row) for label, row in old["per_class"].items()}
    for name, of in (("capture", entries), ("label", per_class)):
        moved = gone.group_by(name).aggregate([("packets", "sum"), ("packets", "count")])
        for row in moved.to_pylist():
            entry = of[row[name]]
            entry.move(row["packets_sum"], row["packets_count"], DUPLICATE_UNDER_MASK)
            entry.check(row[name])
    for row in captures:
        row.update(entries[row["capture"]].to_dict())
    removed = Counter(zip(gone["split"].to_pylist(), gone["label"].to_pylist(), strict=True))
    counts = {split: {} for split in (*SPLITS, *sorted({*gone["split"].to_pylist()} - {*SPLITS}))}
    for (split, label), count in sorted(removed.items()):
        counts[split][label] = count
    return {
        **old,
        "rules": dataclasses.replace(source.rules, mask=mask).to_dict(),
        "mask_version": MASK_VERSION,
        "captures": captures,
        "per_class": per_class_of(per_class, split_sizes(table["label"], table["split"])),
        "label_conflicts": label_conflicts(source.classes, source.labels[kept], digests),
        "duplicates_under_mask": counts,
    }
