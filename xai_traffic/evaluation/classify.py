"""A verdict on every session of a capture, while it is read."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from xai_traffic.capture.layouts import model_layout
from xai_traffic.capture.sessions import Sessions
from xai_traffic.capture.streaming import QUIET_AFTER, SessionStream
from xai_traffic.data.store import Dataset
from xai_traffic.errors import XaiTrafficError
from xai_traffic.evaluation.answers import answers, asks_unknown, needs_features
from xai_traffic.terminal import progress
from xai_traffic.training.run import Run

BATCH = 1024
"""Sessions whose images are made at once."""


def classify(
    run: Run,
    capture: str | os.PathLike,
    name: str | None = None,
    *,
    live: bool | None = None,
    quiet_after: float = QUIET_AFTER,
    stop: Callable[[], bool] = lambda: False,
    unknown: bool | None = None,
) -> Iterator[dict]:
    """Yield one verdict for each session of a capture, as JSON values, in the order of their ends.

    The capture is read by the run's own rules, and a session is judged when it ends: by the session
    rule, or with the capture. One of a live stream is also judged when it has all its tiles or was
    quiet for a while, and not again. See `verdicts` for the keys.

    Args:
        run: judges.
        capture: path, "-" for standard input.
        name: what the verdicts call the capture, its path by default.
        live, quiet_after, stop: see `SessionStream`.
        unknown: whether a session that looks like nothing that was learnt is called "unknown"; None
            leaves that to the run's calibration. See `answers` for the keys that it brings.

    Raises:
        CaptureError: nothing of the capture can be read.
        RunError: unknown sessions are asked for, and the run is not calibrated.
        XaiTrafficError: behind the last verdict: the rest of the capture could not be read.
    """
    unknown = asks_unknown(run, unknown)
    features = needs_features(run, unknown)
    stream = SessionStream(capture, run.rules, name, live=live, quiet_after=quiet_after, stop=stop)
    with contextlib.closing(stream):
        if stream.live:
            # While the stream's thread reads: compiling takes seconds.
            run.warm_up(features=features)
        for sessions in stream:
            yield from verdicts_on(run, sessions, np.arange(len(sessions)), unknown)
    if stream.fault:
        raise XaiTrafficError(stream.fault)
    if stream.stopped and not stream.live:
        raise XaiTrafficError(f"{stream.name}: stopped, the rest of it was not read")


def verdicts_on(
    run: Run,
    data: Sessions | Dataset,
    rows: np.ndarray,
    unknown: bool | None = None,
    description: str | None = None,
) -> Iterator[dict]:
    """Yield `verdicts` on rows, with all that a calibrated run has to say (see `answers`).

    Args:
        run, data, rows, description: as for `judge`.
        unknown: as for `classify`.

    Raises:
        RunError: unknown sessions are asked for, and the run is not calibrated.
    """
    unknown = asks_unknown(run, unknown)
    if run.calibration is None:
        for part, probabilities in judge(run, data, rows, description):
            yield from verdicts(run, data, part, probabilities)
        return
    features = needs_features(run, unknown)
    for part, logits, found in judge_further(run, data, rows, description, features=features):
        said = answers(run, logits, found, unknown)
        yield from verdicts(run, data, part, run.probabilities(logits), said)


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
    layout = model_layout(data.rules.layout)
    for part in _batches(rows, description):
        yield part, run.predict(data.images(part, layout))


def judge_further(
    run: Run,
    data: Sessions | Dataset,
    rows: np.ndarray,
    description: str | None = None,
    *,
    features: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
    """Yield as `judge` does (rows, logits float32 [n, K], and features float32 [n, D] or None)."""
    layout = model_layout(data.rules.layout)
    for part in _batches(rows, description):
        images = data.images(part, layout)
        judged = run.logits_and_features(images) if features else (run.logits(images), None)
        yield part, *judged


def _batches(rows: np.ndarray, description: str | None) -> Iterator[np.ndarray]:
    starts = range(0, len(rows), BATCH)
    for start in progress(starts, description) if description else starts:
        yield rows[start : start + BATCH]


def verdicts(
    run: Run,
    sessions: Sessions | Dataset,
    rows: np.ndarray,
    probabilities: np.ndarray,
    more: Iterable[dict] | None = None,
) -> Iterator[dict]:
    """Yield `capture`, `session`, endpoints, times (RFC 3339), counts, `label`, `probability`...

    `end` says why the session ended or, of a live stream, why it was judged before its end (one of
    `records.ENDS`); `tunnel`, `outer_source` and `outer_destination` what its first packet lay in,
    None if it was no tunnel.

    Args:
        run: names the classes.
        sessions: where the rows come from.
        rows: int64 [n], rows of `sessions.table`.
        probabilities: float32 [n, K].
        more: for each row, what else is said (see `answers`); its `label` counts.
    """
    more = itertools.repeat({}) if more is None else more
    table = sessions.table.take(rows)
    for name in ("first_time", "last_time"):
        # Python's datetime ends at microseconds; the integers keep the nanoseconds.
        table = table.set_column(
            table.schema.get_field_index(name), name, table[name].cast("int64")
        )
    judged = zip(table.to_pylist(), np.asarray(probabilities, np.float64), strict=True)
    for (row, probability), said in zip(judged, more, strict=False):
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
            **{name: row[name] for name in _CIRCUMSTANCES},
            **said,
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
_CIRCUMSTANCES = ("end", "tunnel", "outer_source", "outer_destination")


def rfc3339(nanoseconds: int) -> str:
    """Return a time as RFC 3339 in UTC with nanoseconds, `1970-01-01T00:00:00.000000000Z`."""
    return np.datetime_as_string(np.datetime64(int(nanoseconds), "ns"), unit="ns") + "Z"
