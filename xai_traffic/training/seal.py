"""The seal of a checkpoint: sizes and hashes of its files, by which damage is told.

Orbax finds files that are cut or missing; a bit that has changed in an array it reads as it is.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Container

from xai_traffic.whole import write_json

SEAL = "seal.json"
"""Name of the file, in the folder that it seals."""


def seal(folder: pathlib.Path) -> None:
    """Write down every file in the folders of a folder: {path: [bytes, SHA-256]}.

    Files beside them are orbax's own notes, which it may still complete.
    """
    files = {
        path.relative_to(folder).as_posix(): [path.stat().st_size, _sha256(path)]
        for path in sorted(folder.glob("*/**/*"))
        if path.is_file()
    }
    write_json(folder / SEAL, files)


def is_sealed(folder: pathlib.Path) -> bool:
    """Return whether a seal was written."""
    return (folder / SEAL).exists()


def damage_of(folder: pathlib.Path, parts: Container[str] | None = None) -> str | None:
    """Return what is wrong with a sealed folder, None where nothing is.

    Args:
        folder: one without a seal cannot be judged, and passes.
        parts: folders in it that matter; None for all.
    """
    if not is_sealed(folder):
        return None
    try:
        files = json.loads((folder / SEAL).read_text("utf-8"))
        for name, (size, digest) in files.items():
            if parts is not None and name.partition("/")[0] not in parts:
                continue
            path = folder / name
            if not path.exists():
                return f"{path} is missing"
            found = path.stat().st_size
            if found != size:
                return f"{path} has {found:,} bytes and was written with {size:,}"
            if _sha256(path) != digest:
                return f"{path} holds other bytes than were written"
    except (OSError, ValueError, TypeError, AttributeError) as error:
        return f"{folder}: {error}"
    return None


def _sha256(path: pathlib.Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
