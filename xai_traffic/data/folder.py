"""Make a dataset folder whole or not at all, and never in place of something that is not ours."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib

from xai_traffic.errors import DatasetError
from xai_traffic.folder import whole_folder

FORMAT = "xai_traffic dataset"
MANIFEST, TILES, SESSIONS, PACKETS = (
    "manifest.json",
    "tiles.npy",
    "sessions.parquet",
    "packets.parquet",
)
FILES = {MANIFEST, TILES, SESSIONS, PACKETS}


def is_dataset(path: str | pathlib.Path) -> bool:
    """Tell whether a folder is a dataset of this program, of whatever version."""
    try:
        manifest = json.loads((pathlib.Path(path) / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def check_free(out: str | pathlib.Path, overwrite: bool) -> None:
    """Refuse a destination that exists, unless it may be overwritten and is nothing but a dataset.

    Raises:
        DatasetError: says what is in the way.
    """
    out = pathlib.Path(out)
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise DatasetError(f"{out} exists: choose another --out, or add --overwrite")
    if not out.is_dir() or out.is_symlink():
        raise DatasetError(f"{out} is not a folder: choose another --out")
    names = {entry.name for entry in out.iterdir()}
    if names and not is_dataset(out):
        raise DatasetError(f"{out} is not a dataset: it is not overwritten, choose another --out")
    if names - FILES:
        raise DatasetError(
            f"{out} holds more than a dataset ({', '.join(sorted(names - FILES)[:3])}): "
            "it is not overwritten, choose another --out"
        )


def new_folder(
    out: str | pathlib.Path, overwrite: bool
) -> contextlib.AbstractContextManager[pathlib.Path]:
    """Give a temporary folder to write a dataset into; see `xai_traffic.folder.whole_folder`.

    Raises:
        DatasetError: `out` is in the way (see `check_free`) or cannot be made.
    """
    return whole_folder(out, lambda: check_free(out, overwrite), DatasetError)
