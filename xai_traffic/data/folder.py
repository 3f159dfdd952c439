"""Make a dataset folder whole or not at all, and never in place of something that is not ours."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib

from xai_traffic.errors import DatasetError
from xai_traffic.whole import Destination

FORMAT = "xai_traffic dataset"
SCHEMA = 2
"""Raised whenever a file's columns or their meaning change."""

MANIFEST, TILES, SESSIONS, PACKETS = (
    "manifest.json",
    "tiles.npy",
    "sessions.parquet",
    "packets.parquet",
)
FILES = {MANIFEST, TILES, SESSIONS, PACKETS}
DIGESTS, FLOWS = "digests.npy", "flows.npy"
SHARD_FILES = {DIGESTS, FLOWS}
"""What a shard has besides, see `shard_notes.py`."""

AGAIN = "convert the captures again"
"""The remedy for a dataset that cannot be used."""


def is_dataset(path: str | os.PathLike) -> bool:
    """Tell whether a folder is a dataset of this program, of whatever version."""
    return _manifest_of(path) is not None


def is_shard(path: str | os.PathLike) -> bool:
    """Tell whether a folder is a shard of a dataset, of whatever version."""
    return "shard" in (_manifest_of(path) or {})


def manifest_sha256(manifest: dict) -> str:
    """Return what tells a dataset from another of the same path, in hexadecimal."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def read_manifest(path: pathlib.Path) -> dict:
    """Return a dataset's manifest.

    Raises:
        DatasetError: it is missing, incomplete, or of another version.
    """
    manifest = _manifest_of(path)
    if manifest is None:
        reason = "there is no such folder" if not path.exists() else "it is not a dataset"
        raise DatasetError(f"{path}: {reason}; make one with `xai-traffic convert ... --out`")
    if manifest.get("schema") != SCHEMA:
        raise DatasetError(
            f"{path}: made under version {manifest.get('schema')} of the dataset's schema, this "
            f"is version {SCHEMA}: {AGAIN}"
        )
    missing = sorted(name for name in FILES if not (path / name).is_file())
    if missing:
        raise DatasetError(f"{path}: incomplete, {' and '.join(missing)} missing: {AGAIN}")
    return manifest


def _manifest_of(path: str | os.PathLike) -> dict | None:
    try:
        manifest = json.loads((pathlib.Path(path) / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(manifest, dict) and manifest.get("format") == FORMAT
    return manifest if ours else None


def new_folder(
    out: str | pathlib.Path, overwrite: bool
) -> contextlib.AbstractContextManager[pathlib.Path]:
    """Give a temporary folder to write a dataset into, see `xai_traffic.whole.Destination`.

    Raises:
        DatasetError: `out` is in the way or cannot be made.
    """
    return Destination(out, overwrite, "a dataset", _foreign, DatasetError).whole_folder()


def _foreign(folder: pathlib.Path) -> set[str]:
    names = {entry.name for entry in folder.iterdir()}
    return names - FILES - SHARD_FILES if is_dataset(folder) else names
