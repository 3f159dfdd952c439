"""Share a conversion out over tasks, and tell whether the shards they leave make a whole.

Every task is given the same captures and takes the share with its number: `--shard I/N`, I from
0. Shares are runs of the list, so that shards one behind the other are the dataset, and as equal
in bytes as runs can be. A shard is a dataset of its share, and its manifest has `shard`:

    index, of     which it is, and of how many
    list          of all captures: how many, their bytes, and SHA-256 of names, sizes and labels
    label_table   SHA-256 of the label table, null where folders label
    near_duplicates   what the merge does with them, null if they are not looked for
    lines, used_rules   of the label table's rules: lines in its file, and which labelled a session
    per_class     of each capture of this shard, its account by label
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from xai_traffic import __version__
from xai_traffic.capture.inputs import STANDARD_INPUT, Found, find_captures, listed_paths
from xai_traffic.capture.masking import MASK_VERSION, mask_name
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.folder import is_shard, read_manifest
from xai_traffic.data.labels import label_by_folder
from xai_traffic.data.spool import consecutive
from xai_traffic.errors import CaptureError, ConfigError, DatasetError

_OPENING = 1 << 20
"""Bytes that are read and written in the time that a capture takes however small it is."""


class Shard(NamedTuple):
    """One of the shards of a conversion: its number, from 0, and how many there are."""

    index: int
    of: int

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


def parse_shard(text: str) -> Shard:
    """Parse `I/N`.

    Raises:
        ConfigError: it is written otherwise, or there is no such shard.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    if not match:
        raise ConfigError(
            f"shard {text!r}: write I/N, the number of the shard from 0 and how many there are, "
            "such as 0/8; in a Slurm array $SLURM_ARRAY_TASK_ID/N with --array=0-(N-1)"
        )
    shard = Shard(*map(int, match.groups()))
    if shard.index >= shard.of:
        most = f"the last of {shard.of} is {shard.of - 1}/{shard.of}" if shard.of else "0 are none"
        raise ConfigError(
            f"shard {text!r}: shards are numbered from 0, {most}; in a Slurm array "
            f"--array=0-{max(shard.of, 1) - 1}"
        )
    return shard


def share_of(sizes: Sequence[int], shard: Shard) -> slice:
    """Return which captures are a shard's: of all ways to cut the list, the biggest is smallest.

    Args:
        sizes: bytes of all captures, in order.
        shard: which share; there may be more of them than captures, then the last are empty.
    """
    weights = np.asarray(sizes, np.int64) + _OPENING
    least = max(int(weights.max(initial=0)), -(-int(weights.sum()) // shard.of))
    most = int(weights.sum())
    while least < most:
        middle = (least + most) // 2
        if sum(1 for _ in consecutive(weights, middle)) <= shard.of:
            most = middle
        else:
            least = middle + 1
    shares = list(consecutive(weights, most))
    end = slice(len(weights), len(weights))
    return (shares + [end] * (shard.of - len(shares)))[shard.index]


def plan_shard(
    shard: Shard,
    found: Sequence[Found],
    sizes: Sequence[int],
    *,
    rules: ReadingRules,
    split: str,
    near: str | None = None,
    seed: int,
    labels: str | os.PathLike | None,
    lines: Sequence[int] | None,
) -> dict:
    """Return what is known of a shard's manifest before its captures are read.

    Args:
        shard: which.
        found: all captures of the conversion.
        sizes: their bytes.
        rules: how they are read.
        split: as its specification is written.
        near: what is done with near duplicates, as it is written; None if they are not looked for.
        seed: of the split.
        labels: the label table's file; None labels by folder.
        lines: of its rules.

    Raises:
        ConfigError: a capture is standard input, which only one task could read.
    """
    if any(os.fspath(each.path) == STANDARD_INPUT for each in found):
        raise ConfigError("standard input cannot be shared out: name captures, or a --list of them")
    digest, table = hashlib.sha256(), None
    if labels is not None:
        table = hashlib.sha256(pathlib.Path(labels).read_bytes()).hexdigest()
    for each, size in zip(found, sizes, strict=True):
        label = label_by_folder(each.path, each.root) if labels is None else None
        digest.update(json.dumps([each.name, size, label]).encode() + b"\n")
    listed = {"captures": len(found), "bytes": sum(sizes), "sha256": digest.hexdigest()}
    return {
        "rules": rules.to_dict(),
        "mask_version": MASK_VERSION,
        "versions": {"xai_traffic": __version__},
        "seed": seed,
        "split": split,
        "shard": {
            **shard._asdict(),
            "list": listed,
            "label_table": table,
            "lines": lines,
            "near_duplicates": near,
        },
    }


def conversion_of(manifest: dict) -> dict[str, object]:
    """Return what all shards of a conversion have in common, by what to call it in a message."""
    shard, rules = manifest["shard"], manifest["rules"]
    listed, table = shard["list"], shard["label_table"]
    return {
        "version of xai_traffic": manifest["versions"]["xai_traffic"],
        "version of the masks": manifest["mask_version"],
        **{f"reading rule {name}": value for name, value in rules.items()},
        "number of shards": shard["of"],
        "label table": f"SHA-256 {table[:16]}" if table else "none",
        "list of captures": f"{listed['captures']:,} captures of {listed['bytes']:,} bytes "
        f"(SHA-256 {listed['sha256'][:16]})",
        "split": manifest["split"],
        "near duplicates": shard.get("near_duplicates") or "not looked for",
        "seed": manifest["seed"],
    }


def _difference(one: dict, other: dict) -> tuple[str, object, object] | None:
    """Return the first thing that two conversions differ in, and what it is in each."""
    one, other = conversion_of(one), conversion_of(other)
    for what in dict.fromkeys([*one, *other]):
        if one.get(what) != other.get(what):
            return what, one.get(what), other.get(what)
    return None


def finished(out: pathlib.Path, plan: dict) -> dict | None:
    """Return the manifest of a shard that is done already; None where nothing is at `out`.

    Raises:
        DatasetError: another shard, or a shard of another conversion, is there.
    """
    if not is_shard(out):
        return None
    manifest = read_manifest(out)
    number, planned = (
        f"{each['shard']['index']}/{each['shard']['of']}" for each in (manifest, plan)
    )
    what = _difference(manifest, plan)
    if what is None and number == planned:
        return manifest
    what, held, wanted = what or ("number", number, planned)
    raise DatasetError(
        f"{out} is a shard of which the {what} is {held}, not {wanted}: choose another --out, or "
        "add --overwrite"
    )


def find_shards(
    inputs: Sequence[str | os.PathLike], lists: Sequence[str | os.PathLike] = ()
) -> list[pathlib.Path]:
    """Return the shards among the inputs; none if they are captures or datasets.

    A folder stands for the shards right in it if it holds no capture.

    Raises:
        ConfigError: something else is beside shards.
        CaptureError: a list cannot be read.
    """
    # Standard input can be read only once, and may name captures.
    files = [file for file in lists if os.fspath(file) != STANDARD_INPUT]
    found: list[pathlib.Path] = []
    others: list[str | os.PathLike] = []
    for given in [*inputs, *(path for file in files for path in listed_paths(file))]:
        inside = [pathlib.Path(given)] if is_shard(given) else _shards_in(pathlib.Path(given))
        found += inside
        others += [given] * (not inside)
    if found and others:
        raise ConfigError(
            f"{found[0]} is a shard of a dataset, {others[0]} is not: merge the shards of one "
            "conversion without other inputs"
        )
    return found


def _shards_in(folder: pathlib.Path) -> list[pathlib.Path]:
    try:
        found = sorted(each for each in folder.iterdir() if is_shard(each))
    except OSError:  # no folder, or one that is read later and says why
        return []
    if found:
        try:
            find_captures([folder])
        except CaptureError:
            return found
    return []


def in_order(paths: Iterable[pathlib.Path]) -> list[tuple[pathlib.Path, dict]]:
    """Return shards with their manifests by number, if they are all of one conversion.

    Raises:
        DatasetError: one is missing, there twice, incomplete, or of another conversion.
        ConfigError: one was made by another version of the reading rules.
    """
    shards = [(path, read_manifest(path)) for path in paths]
    first, like = shards[0]
    ReadingRules.from_dict(like["rules"])
    for path, manifest in shards:
        what = _difference(manifest, like)
        if what:
            raise DatasetError(
                f"{path} and {first} are shards of different conversions: the {what[0]} is "
                f"{what[1]} there and {what[2]} here; convert either again as the other shards "
                "were, or leave it out"
            )
    if like["mask_version"] != MASK_VERSION and mask_name(like["rules"]["mask"]) != "none":
        raise DatasetError(
            f"{first}: masked by version {like['mask_version']} of the masks, this is version "
            f"{MASK_VERSION}: convert the captures again"
        )
    of = like["shard"]["of"]
    by_number: dict[int, tuple[pathlib.Path, dict]] = {}
    for path, manifest in shards:
        number = manifest["shard"]["index"]
        if number in by_number:
            raise DatasetError(
                f"{by_number[number][0]} and {path} are both shard {number}/{of}: leave one out"
            )
        by_number[number] = path, manifest
    missing = [number for number in range(of) if number not in by_number]
    if missing:
        named = ", ".join(map(str, missing[:20])) + ", ..." * (len(missing) > 20)
        raise DatasetError(
            f"{len(missing)} of {of} shards missing: {named}; convert them (--shard "
            f"{missing[0]}/{of}, in a Slurm array --array={','.join(map(str, missing[:20]))}), "
            "then merge all"
        )
    return [by_number[number] for number in range(of)]
