"""The store of compiled programs on disk, which makes a second start quick."""

from __future__ import annotations

import os
import pathlib

import jax


def cache_folder(setting: str) -> pathlib.Path | None:
    """Return the folder that `config.compilation_cache` names: auto, off, or a path."""
    if setting == "off":
        return None
    if setting != "auto":
        return pathlib.Path(setting).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "xai_traffic" / "compiled"


def use_compilation_cache(setting: str = "auto") -> None:
    """Keep compiled programs on disk, unless JAX was told a place by its own settings."""
    folder = cache_folder(setting)
    if folder is None or jax.config.jax_compilation_cache_dir:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder.absolute()))
