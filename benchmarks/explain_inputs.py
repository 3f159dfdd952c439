"""What both sides of the comparison with captum share: networks, weights and sessions, in files."""

from __future__ import annotations

import json
import pathlib

import numpy as np

TOLERANCE, FLOOR = 1e-3, 0.1
"""Completeness error that is asked for: relative, and the rise of a logit below which it is not."""

LADDER = (8, 16, 25, 50, 100, 200, 400, 800)
"""Steps that captum is tried with."""

STEPS = 50
BATCHES = (16, 32, 64, 128)
"""Examples in one call that captum is tried with."""

LEAST = 1e-3
"""What bytes become in the baseline, so that no packet vanishes on the way."""


def write(folder: pathlib.Path, name: str, about: dict, weights: dict, inputs: dict) -> None:
    """Write a model's parts into a folder."""
    np.savez(folder / f"{name}-weights.npz", **weights)
    np.savez(folder / f"{name}-inputs.npz", **inputs)
    (folder / f"{name}.json").write_text(json.dumps(about), "utf-8")


def read(folder: pathlib.Path, name: str) -> tuple[dict, dict, dict]:
    """Return what `write` was given; inputs are `images` [B, 128, 128] and `target` [B]."""
    about = json.loads((folder / f"{name}.json").read_text("utf-8"))
    files = (np.load(folder / f"{name}-{part}.npz") for part in ("weights", "inputs"))
    return about, *(dict(file) for file in files)


def median_error(error: np.ndarray, rise: np.ndarray) -> float:
    """Return the median of completeness errors as part of the logit's rise, FLOOR at least."""
    return float(np.median(np.abs(error) / np.maximum(np.abs(rise), FLOOR)))
