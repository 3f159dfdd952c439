"""The run that comes with the package, by the name that every command takes for it."""

from __future__ import annotations

import os
import pathlib

from xai_traffic.errors import RunError

DEFAULT = "default"
"""Its name; a folder so called, in the folder at hand, is meant before it."""

FOLDER = pathlib.Path(__file__).parents[1] / "default_model"


def run_folder(path: str | os.PathLike) -> pathlib.Path:
    """Return the folder of a run: what is named, or that of the run that comes with the package."""
    path = pathlib.Path(path)
    return FOLDER if path == pathlib.Path(DEFAULT) and not os.path.lexists(path) else path


def own_folder(path: str | os.PathLike) -> pathlib.Path:
    """Return the folder of a run that may be written to.

    Raises:
        RunError: it is the run that comes with the package.
    """
    folder = run_folder(path)
    if folder.resolve() == FOLDER.resolve():
        raise RunError(
            f"{DEFAULT!r} is the model that comes with xai_traffic, and is not written to: make a "
            f"copy that is yours with `xai-traffic export {DEFAULT} --out RUN`, and name that"
        )
    return folder
