"""What is known of how far a run's verdicts may be believed: `RUN/calibration.json`.

`xai-traffic calibrate` makes it from the validation split (see evaluation/calibrate.py), `load_run`
reads it. It is of one set of parameters and one dataset, and is refused by any other.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import zipfile
from typing import Any

import numpy as np
from scipy.special import softmax

from xai_traffic.errors import RunError

CALIBRATION, FEATURES = "calibration.json", "calibration.npz"
"""Files of a run's folder; the second stands where the unknown rule needs features."""

SCHEMA = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Calibration:
    """A calibration that was read or made.

    Args:
        record: as `calibration.json` has it; evaluation/calibrate.py tells the keys.
        features: what the unknown rule compares a session's features with, by name; may be empty.
    """

    record: dict[str, Any]
    features: dict[str, np.ndarray] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def temperature(self) -> float:
        """What logits are divided by before the softmax."""
        return self.record["temperature"]

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return calibrated probabilities float32 [N, K] of logits float32 [N, K]."""
        return tempered(logits, self.temperature).astype(np.float32)

    def check(self, params_sha256: str, manifest_sha256: str | None, where: pathlib.Path) -> None:
        """Refuse a calibration of other parameters or another dataset.

        Raises:
            RunError: says which of the two it is, and the remedy.
        """
        theirs = self.record["params_sha256"], self.record["manifest_sha256"]
        for what, own, its in zip(
            ("parameters", "dataset"), (params_sha256, manifest_sha256), theirs, strict=True
        ):
            if own != its:
                raise RunError(
                    f"{where / CALIBRATION} was made for another {what} ({str(its)[:8]}) than the "
                    f"run has now ({str(own)[:8]}): run `xai-traffic calibrate {where}` again, or "
                    "remove the file"
                )


def tempered(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return softmax(logits / temperature), float64 [N, K]: the order of the classes is kept."""
    return softmax(np.asarray(logits, np.float64) / temperature, axis=-1)


def read_calibration(folder: pathlib.Path) -> Calibration | None:
    """Return the calibration of a run's folder, None where there is none.

    Raises:
        RunError: it cannot be read, or was written by another version.
    """
    path = folder / CALIBRATION
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text("utf-8"))
        if record["schema"] != SCHEMA:
            raise ValueError(f"schema {record['schema']}, this version reads {SCHEMA}")
        if not 0 < float(record["temperature"]) < np.inf:
            raise ValueError(f"temperature {record['temperature']}")
        for key in ("params_sha256", "manifest_sha256", "classes", "learnt"):
            _ = record[key]
        _check_rules(record)
        features = {}
        if record["unknown"]["features"]:
            stream = open(folder / FEATURES, "rb")  # noqa: SIM115 - numpy leaves it open if damaged
            with stream, np.load(stream, allow_pickle=False) as held:
                features = dict(held)
        if sorted(features) != record["unknown"]["features"]:
            raise ValueError(f"{FEATURES} is of another calibration")
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise RunError(
            f"{path} cannot be read: {reason}. Run `xai-traffic calibrate {folder}` again"
        ) from error
    return Calibration(record, features)


def _check_rules(record: dict[str, Any]) -> None:
    """Raise ValueError, TypeError or KeyError unless the rules can be followed."""
    thresholds, unknown = record["sets"]["thresholds"], record["unknown"]
    if not isinstance(unknown["on"], bool):
        raise ValueError(f"the unknown rule is on: {unknown['on']!r}")
    for name, value in [*thresholds.items(), ("unknown", unknown["threshold"])]:
        fits = isinstance(value, int | float) and np.isfinite(value)
        if not fits and (name, value) != ("unknown", None):
            raise ValueError(f"threshold {value!r} of {name}")
