"""What a run said of every session of a split, kept so that others can be compared with it.

    RUN/verdicts-<split>.parquet    row (of the dataset), capture, session, unit, label, verdict,
                                    probability (of the verdict)

`unit` numbers what the split keeps together, see `split_units.py`. Names are as they were captured:
escape them wherever they are shown.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xai_traffic.data.store import Dataset
from xai_traffic.errors import RunError
from xai_traffic.evaluation.split_units import units_of
from xai_traffic.training.run import Run
from xai_traffic.whole import whole_file


@dataclasses.dataclass(frozen=True, eq=False)
class Verdicts:
    """What one classifier said of N sessions.

    Args:
        name: of the classifier.
        rows: of the dataset's table, int64 [N].
        units: int64 [N].
        labels, verdicts: names, object [N].
    """

    name: str
    rows: np.ndarray
    units: np.ndarray
    labels: np.ndarray
    verdicts: np.ndarray


def verdicts_path(run: pathlib.Path, split: str) -> pathlib.Path:
    """Return where the verdicts of a run on a split are."""
    return run / f"verdicts-{split}.parquet"


def write_verdicts(
    run: Run, dataset: Dataset, split: str, labels: np.ndarray, probabilities: np.ndarray
) -> pathlib.Path:
    """Write what a run said of a split.

    Args:
        labels: int [N], into the run's classes.
        probabilities: float [N, K].
    """
    rows, names = dataset.rows(split), np.asarray(run.classes, object)
    sessions = dataset.table.select(["capture", "session"]).take(rows)
    table = pa.table(
        {
            "row": pa.array(rows, pa.int64()),
            "capture": sessions["capture"],
            "session": sessions["session"],
            "unit": pa.array(units_of(dataset, rows), pa.int64()),
            "label": pa.array(names[labels].tolist(), pa.string()),
            "verdict": pa.array(names[probabilities.argmax(-1)].tolist(), pa.string()),
            "probability": pa.array(probabilities.max(-1), pa.float32()),
        }
    )
    path = verdicts_path(run.path, split)
    with whole_file(path) as new:
        pq.write_table(table, new)
    return path


def read_verdicts(run: pathlib.Path, split: str, name: str) -> Verdicts | None:
    """Return what a run said of a split, None where it was not evaluated on it.

    Args:
        run: its folder.
        name: of the classifier.

    Raises:
        RunError: the file is damaged.
    """
    path = verdicts_path(run, split)
    try:
        table = pq.read_table(path)
        columns = [table[each].to_numpy() for each in ("row", "unit", "label", "verdict")]
    except FileNotFoundError:
        return None
    except (OSError, KeyError, pa.ArrowException) as error:
        raise RunError(f"{path} cannot be read: {error}; evaluate the run again") from error
    return Verdicts(name, *columns)
