"""explanations.parquet: the lines of explanations.jsonl as a table, for many sessions.

One row a packet, of each session and method, in the order of the lines:

    capture, session, community_id, first_time, label, probability, truth, target   of the session
    method, completeness_error, grade                               of its explanation
    packet, frame, offset, direction, description, share, net       of the packet
    fields    its largest fields: list of {field, start, end, share}

Names and values are those of the lines, see `jsonl.py`; `grade` is the card's. Text from captures
is as it was captured: escape it wherever it is shown.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xai_traffic.capture.tables import TIME

GROUP = 65_536
"""Rows of a row group, about: so many are in memory at a time."""

_FIELD = pa.struct(
    [
        pa.field("field", pa.string()),
        pa.field("start", pa.int32()),
        pa.field("end", pa.int32()),
        pa.field("share", pa.float64()),
    ]
)
SCHEMA = pa.schema(
    [
        ("capture", pa.string()),
        ("session", pa.int64()),
        ("community_id", pa.string()),
        ("first_time", TIME),
        ("label", pa.string()),
        ("probability", pa.float64()),
        ("truth", pa.string()),
        ("target", pa.string()),
        ("method", pa.string()),
        ("completeness_error", pa.float64()),
        ("grade", pa.string()),
        ("packet", pa.int32()),
        ("frame", pa.int64()),
        ("offset", pa.int32()),
        ("direction", pa.string()),
        ("description", pa.string()),
        ("share", pa.float64()),
        ("net", pa.float64()),
        ("fields", pa.list_(_FIELD)),
    ]
)
_OF_SESSION = ("capture", "session", "community_id", "label", "probability", "truth", "target")


def write_parquet(lines: pathlib.Path, out: pathlib.Path) -> None:
    """Write the table of a file of lines, a row group at a time.

    Args:
        lines: `explanations.jsonl`.
        out: file to write.
    """
    with open(lines, encoding="ascii") as file, pq.ParquetWriter(out, SCHEMA) as writer:
        rows: list[dict[str, Any]] = []
        for line in file:
            rows += rows_of(json.loads(line))
            if len(rows) >= GROUP:
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, SCHEMA))


def rows_of(line: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a line."""
    session = {name: _text(line[name]) for name in _OF_SESSION}
    # Python's datetime ends at microseconds; the integer keeps the nanoseconds.
    session["first_time"] = int(np.datetime64(line["first_time"][:-1], "ns").astype(np.int64))
    for name, method in line["methods"].items():
        own = {
            **session,
            "method": name,
            "completeness_error": method["completeness_error"],
            "grade": method["card"]["grade"],
        }
        for packet in method["packets"]:
            yield {**own, **packet, "description": _text(packet["description"])}


def _text(value: Any) -> Any:
    """Return text as UTF-8 can hold it; anything else as it is."""
    if not isinstance(value, str):
        return value
    return value.encode("utf-8", "backslashreplace").decode()
