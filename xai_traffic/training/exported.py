"""The parameters of a run that is handed on: one file that any version reads, without orbax.

It stands in the place of `checkpoints/` and holds what verdicts are made of and nothing else, no
optimiser's state and no loader's. The hash of its arrays is in `result.json`, and is checked.
"""

from __future__ import annotations

import pathlib
import zipfile
from typing import Any

import jax
import numpy as np

from xai_traffic.errors import RunError
from xai_traffic.training.state import params_sha256

VARIABLES = "variables.npz"
"""Name of the file in the run's folder: arrays by their path, such as `params/head/kernel`."""


def write_variables(folder: pathlib.Path, variables: dict[str, Any]) -> pathlib.Path:
    """Write variables, float32 trees of dicts, and return the path; the same bytes for the same."""
    arrays = {
        _name(place): np.asarray(leaf)
        for place, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
    path = folder / VARIABLES
    np.savez(path, **dict(sorted(arrays.items())))
    return path


def read_variables(folder: pathlib.Path, like: dict[str, Any], sha256: str) -> dict[str, Any]:
    """Read variables.

    Args:
        folder: of the run.
        like: shapes and dtypes of the model's variables.
        sha256: of the arrays, see `params_sha256`.

    Raises:
        RunError: the file is damaged, or of another model.
    """
    path = folder / VARIABLES
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as held:
            arrays = dict(held)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} cannot be read: {error}") from error
    wanted = {
        _name(place): (leaf.shape, leaf.dtype)
        for place, leaf in jax.tree_util.tree_leaves_with_path(like)
    }
    if {name: (array.shape, array.dtype) for name, array in arrays.items()} != wanted:
        raise RunError(f"{path} is of another model than {folder / 'config.json'} describes")
    variables = jax.tree_util.tree_map_with_path(lambda place, _: arrays[_name(place)], like)
    if params_sha256(variables) != sha256:
        raise RunError(f"{path} is damaged: it holds other numbers than were exported")
    return jax.tree.map(jax.numpy.asarray, variables)


def _name(place: tuple[Any, ...]) -> str:
    return "/".join(str(key.key) for key in place)
