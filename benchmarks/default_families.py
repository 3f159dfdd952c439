"""What a model to start with would find that knows families of malware as well."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
from default_sessions import RULES, SILENT, SPLIT, malware_rows, protocol_sessions
from default_unseen import part_of_captures
from record_datasets import write_labels

from xai_traffic.data.build import convert
from xai_traffic.data.store import open_dataset
from xai_traffic.evaluation.evaluate import judge_split
from xai_traffic.evaluation.split_units import units_of
from xai_traffic.training.run import load_run


def alarms(path: pathlib.Path, captures: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
    """Count what a run whose classes are protocols and families calls one of the families.

    Args:
        path: folder of the run.
        captures: folder of the sets of captures.
        folder: to write into.

    Returns:
        `families`, which it knows; and of `benign` test sessions, of the `malicious` sessions of
        sources that it did not learn from, and of its `own` families among these: how many
        `sessions`, how many `called` malicious, and the `part` with its interval by capture.
    """
    run = load_run(path)
    benign = {row[2] for row in protocol_sessions(captures)}
    malicious = np.array([name not in benign for name in run.classes])
    test = open_dataset(run.config.data.path)
    labels, logits, _ = judge_split(run, "test", test)
    said = malicious[logits.argmax(-1)]
    elsewhere = folder / "malicious-elsewhere"
    if not elsewhere.exists():
        table = folder / "malicious-elsewhere.csv"
        write_labels(table, malware_rows(captures, SILENT))
        convert([captures / "malware"], elsewhere, rules=RULES, split=SPLIT, labels=table)
    other = open_dataset(elsewhere)
    found = malicious[run.logits(other.images(np.arange(len(other)))).argmax(-1)]
    own = np.isin(other.table["label"].to_pylist(), run.classes)
    units = units_of(other, np.arange(len(other)))
    harmless = ~malicious[labels]
    return {
        "families": [name for name in run.classes if name not in benign],
        "benign": _called(said[harmless], units_of(test, test.rows("test"))[harmless]),
        "malicious": _called(found, units),
        "own": _called(found[own], units[own]),
    }


def _called(flags: np.ndarray, units: np.ndarray) -> dict[str, Any]:
    return {
        "sessions": len(flags),
        "called": int(flags.sum()),
        "part": part_of_captures(flags, units),
    }
