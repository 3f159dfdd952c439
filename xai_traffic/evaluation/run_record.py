"""All that stands written of a run: in its folder, and in the manifest of its dataset.

Nothing is judged and no model is built, so that it is read in no time, finished run or not.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import pathlib
from typing import Any

from xai_traffic.data.split import SPLITS
from xai_traffic.errors import RunError
from xai_traffic.evaluation.run_summary import RunSummary, read_json, summarise_run
from xai_traffic.training.calibration import CALIBRATION, FEATURES
from xai_traffic.training.exported import VARIABLES
from xai_traffic.training.overlap import training_manifest
from xai_traffic.training.run import CONFIG, READING

AUDIT, NOTES = "audit.json", "notes.md"
"""Of a run's folder: the audit of its dataset, and what its makers say of it in Markdown."""

KINDS = ("evaluation", "forged", "open-set", "explanations")
"""What is measured of a split, by the beginning of its file's name."""

JUDGES_BY = (VARIABLES, CONFIG, READING, CALIBRATION, FEATURES)
"""Files that verdicts depend on; parameters that were not exported are in `checkpoints/`."""


@dataclasses.dataclass(frozen=True, eq=False)
class RunRecord:
    """What is written of a run.

    Args:
        summary: config, reading rules, state and result.
        manifest: of its dataset; None where the dataset is not at hand, or is another one by now.
        calibration: what `calibration.json` holds, None where there is none.
        measured: by each of KINDS, what its files hold by split.
        audit: of its dataset, None where none was given.
        notes: of its makers, "" for none.
        files: (name, bytes, SHA-256) of each of JUDGES_BY that there is.
    """

    summary: RunSummary
    manifest: dict[str, Any] | None
    calibration: dict[str, Any] | None
    measured: dict[str, dict[str, dict[str, Any]]]
    audit: dict[str, Any] | None
    notes: str
    files: list[tuple[str, int, str]]

    @property
    def classes(self) -> list[str]:
        """Names of the run's classes."""
        return self.summary.reading["classes"]

    @property
    def mask(self) -> str:
        """What the run's reading rules hide."""
        return self.summary.reading["rules"]["mask"]

    @property
    def leaky(self) -> list[str]:
        """Why its numbers are not what their splits say; empty where they are."""
        told = [self.summary.reading["dataset"], self.calibration or {}]
        told += [own for kind in self.measured.values() for own in kind.values()]
        return list(dict.fromkeys(reason for own in told for reason in own.get("leaky", ())))

    @property
    def measured_elsewhere(self) -> bool:
        """Whether an evaluation is of another dataset than it was trained on."""
        measured = self.measured["evaluation"].values()
        return any(
            own.get("manifest_sha256", self.summary.data) != self.summary.data for own in measured
        )

    def stale(self, own: dict[str, Any]) -> str:
        """Say why a measurement is not of the run as it is now, "" where it is.

        Args:
            own: what one of `measured` holds.
        """
        if own["step"] != self.summary.best_step:
            return f"of step {own['step']}, and the run is at step {self.summary.best_step}"
        if own.get("manifest_sha256", self.summary.data) != self.summary.data:
            return "on another dataset than it was trained on"
        if self._of_another_calibration(own):
            return "made under another calibration than the run has now"
        return ""

    def _of_another_calibration(self, own: dict[str, Any]) -> bool:
        now = self.calibration
        if "confidence" in own:
            sets = own["confidence"].get("sets")
            promised = now and now["sets"]["coverage"]
            return own["confidence"]["temperature"] != (now and now["temperature"]) or (
                sets is not None and sets["promised"] != promised
            )
        if "unknown_dataset" in own and now and now["unknown"]["score"] in own["scores"]:
            then = own["scores"][now["unknown"]["score"]]["rule"]["threshold"]
            limits = [
                math.inf if one is None else one for one in (then, now["unknown"]["threshold"])
            ]
            return not math.isclose(*limits, rel_tol=1e-6)
        return False


def read_run_record(path: pathlib.Path) -> RunRecord:
    """Read all that is written of a run.

    Raises:
        RunError: the folder is no run, or a file of it is damaged.
    """
    summary = summarise_run(path)
    measured: dict[str, dict[str, dict[str, Any]]] = {}
    for kind in KINDS:
        found = {split: read_json(path / f"{kind}-{split}.json") for split in reversed(SPLITS)}
        measured[kind] = {split: own for split, own in found.items() if own is not None}
    notes = path / NOTES
    try:
        record = RunRecord(
            summary=summary,
            manifest=training_manifest(path, summary.reading["dataset"]),
            calibration=read_json(path / CALIBRATION),
            measured=measured,
            audit=read_json(path / AUDIT),
            notes=notes.read_text("utf-8").strip() if notes.exists() else "",
            files=[file_facts(path / name) for name in JUDGES_BY if (path / name).exists()],
        )
        _ = [record.stale(own) for kind in measured.values() for own in kind.values()]
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise RunError(f"{path} cannot be told: {type(error).__name__}: {error}") from error
    return record


def file_facts(path: pathlib.Path) -> tuple[str, int, str]:
    """Return name, bytes and SHA-256 of a file."""
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return path.name, path.stat().st_size, digest
