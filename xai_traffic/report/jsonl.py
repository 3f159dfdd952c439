"""explanations.jsonl: one line a session, for programs.

`explanations.schema.json` beside this file is the JSON Schema of a line. `schema_version`, "1.1",
stands in each: its first number rises where a key changes or goes, its second where one is added.

A line is the verdict as `xai-traffic classify` prints it (`capture`, `session`, endpoints, times,
`label`, `probability`, `probabilities`, `end`, `tunnel`, its endpoints); the same session as an
event by Suricata's names (`timestamp`, `event_type` "xai", `src_ip`, ..., `flow`: see `eve.py`), so
that what reads eve.json reads these lines; and beside them:

    ecs         the session by the names of the Elastic Common Schema, see `ecs.py`; a document by
                itself: `jq -c .ecs explanations.jsonl`
    annotated   the annotated capture that shows it, a path from this file's folder; null if none
    redacted    whether addresses and host names are pseudonyms, see `redact.py`
    truth       the session's label where the data has one, else null
    target      the class whose logit is explained, the nearest one where the verdict is "unknown"
    mask        what was hidden from the model
    read        how many packets, from the first on, the model reads
    methods     by name (`explain.METHODS`):
        completeness_error   logits by which the attributions miss the rise of the target's logit
                             from the baseline to the session; null where a method has none
        rise                 sum of the attributions in logits where a method is complete, else null
        padding              part of all |attribution| that fell upon padding, 0 to 1
        metrics              by name (`explain.METRICS`), a number or null where there is none
        card                 how far to believe it: `grade` (PASS, WARN, FAIL), `conclusion` in one
                             sentence, `checks`: [{"metric", "value", "grade", "says"}]
        fields               share of every protocol field over the whole session, largest first:
                             [{"field", "share"}]
        packets              in session order, one for each packet that has a tile (64 at most):
            packet       0-based in the session; tile of that number; no share from `read` on
            frame        1-based in the capture, Wireshark's number
            offset       byte of the frame at which its tile begins, 0 where all layers are kept
            direction    "client to server" (sent by the session's initiator) or "server to client"
            description  the packet in words
            share        part of the session's |attribution|, padding left out; sums to 1
            net          sum of its attributions: for the target where positive, against it where
                         negative; null for methods without a sign
            fields       its largest fields: [{"field", "start", "end", "share"}], bytes
                         [start, end) of the tile, share in the session as above

Shares are rounded to 9 digits. Text from captures stands in JSON's escapes: every character that is
not ASCII, and every control character.
"""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from xai_traffic.explain import PER_BYTE, Card, session_fields
from xai_traffic.report.ecs import ecs_document
from xai_traffic.report.eve import eve_fields
from xai_traffic.report.explained import Explained

SCHEMA_VERSION = "1.1"

SCHEMA = pathlib.Path(__file__).with_name("explanations.schema.json")
"""JSON Schema (2020-12) of a line."""

TOP_FIELDS = 8
"""Fields named for each packet."""

DIRECTIONS = ("client to server", "server to client")


def write_jsonl(
    path: pathlib.Path,
    sessions: Iterable[Explained],
    mask: str,
    annotated: Mapping[str, str] | None = None,
    redacted: bool = False,
) -> None:
    """Write one line for each explained session.

    Args:
        path: file to write.
        sessions: explained.
        mask: the run's.
        annotated: paths of annotated captures by the capture's name.
        redacted: whether the sessions hold pseudonyms.
    """
    with open(path, "w", encoding="ascii") as file:
        for explained in sessions:
            place = (annotated or {}).get(explained.verdict["capture"])
            line = line_of(explained, mask, place, redacted)
            file.write(json.dumps(line, allow_nan=False) + "\n")


def line_of(
    explained: Explained, mask: str, annotated: str | None = None, redacted: bool = False
) -> dict[str, Any]:
    """Return the line of one session as JSON values."""
    return {
        "schema_version": SCHEMA_VERSION,
        **eve_fields(explained.verdict, explained.packets),
        **explained.verdict,
        "ecs": ecs_document(explained.verdict, explained.packets),
        "annotated": annotated,
        "redacted": redacted,
        "truth": explained.truth,
        "target": explained.target,
        "mask": mask,
        "read": explained.read,
        "methods": {name: _method(explained, name) for name in explained.shares},
    }


def _card(card: Card) -> dict[str, Any]:
    return {
        "grade": card.grade,
        "conclusion": card.conclusion,
        "checks": [dataclasses.asdict(check) for check in card.checks],
    }


def _method(explained: Explained, name: str) -> dict[str, Any]:
    shares = explained.shares[name]
    signed = shares.signed.sum(1) if name in PER_BYTE else None
    complete = name in explained.completeness_error
    return {
        "completeness_error": explained.completeness_error.get(name),
        "rise": float(explained.attributions[name].sum(dtype=float)) if complete else None,
        "padding": round(shares.padding, 9),
        "metrics": {
            metric: value if math.isfinite(value) else None
            for metric, value in explained.metrics[name].items()
        },
        "card": _card(explained.card(name)),
        "fields": [
            {"field": field, "share": round(share, 9)}
            for field, share in session_fields(shares, explained.fields).items()
        ],
        "packets": [
            {
                "packet": int(row["packet"]),
                "frame": int(row["frame"]),
                "offset": int(row["start"]),
                "direction": DIRECTIONS[int(row["direction"])],
                "description": explained.words[number],
                "share": round(float(share), 9),
                "net": None if signed is None else float(signed[number]),
                "fields": [
                    {
                        "field": field.name,
                        "start": field.start,
                        "end": field.end,
                        "share": round(part, 9),
                    }
                    for field, part in explained.top_fields(number, name)[:TOP_FIELDS]
                ],
            }
            for number, (row, share) in enumerate(
                zip(explained.packets, shares.packets(), strict=True)
            )
        ],
    }
