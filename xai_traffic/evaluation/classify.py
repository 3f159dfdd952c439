"""A verdict on every session of a capture."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from xai_traffic.capture.sessions import Sessions, read_capture_by
from xai_traffic.data.store import Dataset
from xai_traffic.errors import XaiTrafficError
from xai_traffic.terminal import progress
from xai_traffic.training.run import Run

BATCH = 256
"""Sessions whose images are made at once."""


def classify(run: Run, capture: str | os.PathLike, name: str | None = None) -> Iterator[dict]:
    """Yield one verdict for each session of a capture, in session order, as JSON values.

    The capture is read by the run's own rules. See `verdicts` for the keys.

    Args:
        run: judges.
        capture: path, "-" for standard input.
        name: what the verdicts call the capture, its path by default.

    Raises:
        CaptureError: nothing of the capture can be read.
        XaiTrafficError: behind the last verdict: the rest of the capture could not be read.
    """
    sessions = read_capture_by(capture, run.rules, name)
    for rows, probabilities in judge(run, sessions, np.arange(len(sessions))):
        yield from verdicts(run, sessions, rows, probabilities)
    if sessions.fault:
        raise XaiTrafficError(sessions.fault)


def judge(
    run: Run, data: Sessions | Dataset, rows: np.ndarray, description: str | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (some of the rows, their probabilities float32 [n, K]) until all rows are judged.

    Args:
        run: judges.
        data: read by the run's rules.
        rows: int64 [N], rows of `data.table`.
        description: shown with the progress; None shows none.
    """
    starts = range(0, len(rows), BATCH)
    for start in progress(starts, description) if description else starts:
        part = rows[start : start + BATCH]
        yield part, run.predict(data.images(part))


def verdicts(
    run: Run, sessions: Sessions | Dataset, rows: np.ndarray, probabilities: np.ndarray
) -> Iterator[dict]:
    """Yield `capture`, `session`, endpoints, times (RFC 3339), counts, `label`, `probability`...

    Args:
        run: names the classes.
        sessions: where the rows come from.
        rows: int64 [n], rows of `sessions.table`.
        probabilities: float32 [n, K].
    """
    table = sessions.table.take(rows)
    for name in ("first_time", "last_time"):
        # Python's datetime ends at microseconds; the integers keep the nanoseconds.
        table = table.set_column(
            table.schema.get_field_index(name), name, table[name].cast("int64")
        )
    for row, probability in zip(
        table.to_pylist(), np.asarray(probabilities, np.float64), strict=True
    ):
        best = int(probability.argmax())
        yield {
            **{name: row[name] for name in _IDENTITY},
            "first_time": rfc3339(row["first_time"]),
            "last_time": rfc3339(row["last_time"]),
            "packets": row["packets"],
            "bytes": row["bytes"],
            "community_id": row["community_id"],
            "label": run.classes[best],
            "probability": round(float(probability[best]), 6),
            "probabilities": {
                name: round(float(p), 6) for name, p in zip(run.classes, probability, strict=True)
            },
        }


_IDENTITY = (
    "capture",
    "session",
    "protocol",
    "source",
    "source_port",
    "destination",
    "destination_port",
)


def rfc3339(nanoseconds: int) -> str:
    """Return a time as RFC 3339 in UTC with nanoseconds, `1970-01-01T00:00:00.000000000Z`."""
    return np.datetime_as_string(np.datetime64(int(nanoseconds), "ns"), unit="ns") + "Z"
