"""Ways to read a field: whose value, and how much of it.

A whole sequence number or address is a value that hardly a second session has; its first byte may
tell the class all the same. So a field is read whole and by its first 16, 8, 4, 3, 2 or 1 bytes,
from either side, and the reading that tells most on the validation split is the field's. The test
split has no part in that choice.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np

from xai_traffic.evaluation.field_values import SIDES, TTL_PROTOCOL, FieldValues
from xai_traffic.evaluation.majority_rule import score_rule
from xai_traffic.evaluation.session_values import STEPS, TIME

PREFIXES = (16, 8, 4, 3, 2, 1)
"""Bytes from the front that a longer field is read by."""

SHOWN = 24
"""Bytes shown of a value."""

ABSENT = 0
"""The code of sessions that do not have the field."""


@dataclasses.dataclass(frozen=True, eq=False)
class View:
    """One reading of a field in N sessions.

    Args:
        field: name.
        side: `initiator`, `responder`, or `session` for what is not of one of them.
        part: `whole`, `first 2 bytes`, or `year`, `month`, `day`, `hour` of a time.
        codes: int32 [N], ABSENT where there is none.
        values: what codes 1, 2, ... stand for.
    """

    field: str
    side: str
    part: str
    codes: np.ndarray
    values: list[bytes]

    def presence(self) -> np.ndarray:
        """Return int32 [N], 1 where a session has the field."""
        return (self.codes != ABSENT).astype(np.int32)


def views_of(values: FieldValues, name: str) -> Iterator[View]:
    """Yield all readings of a protocol field."""
    for number, side in enumerate(SIDES):
        own = values.values.get((name, number))
        if own:
            yield from _by_length(name, side, own, values.sessions)


def views_of_session(name: str, own: Mapping[int, bytes], sessions: int) -> Iterator[View]:
    """Yield all readings of a value of `session_values`."""
    if name == TIME:
        for size, step in sorted(STEPS.items(), reverse=True):
            part = {session: value[:size] for session, value in own.items()}
            yield _view(name, "session", step, part, sessions)
    else:
        yield _view(name, "session", "whole", own, sessions)


def best_view(
    views: list[View], labels: np.ndarray, train: np.ndarray, choose: np.ndarray, classes: int
) -> View:
    """Return the reading whose rule, learnt in training, tells most of the sessions to choose by.

    Args:
        labels: int [N].
        train, choose: int, sessions; where `choose` is empty the training split is halved for it.
        classes: K.
    """
    if len(views) == 1:
        return views[0]
    if not len(choose):
        train, choose = train[::2], train[1::2]
        if not len(choose):
            return views[0]
    scores = [
        score_rule(view.codes, labels, train, choose, classes).balanced_accuracy for view in views
    ]
    return views[int(np.argmax(scores))]


def shown_value(view: View, value: bytes) -> str:
    """Return a value in words: addresses as usual, readable text, small numbers, else hex.

    As captured, so hostile, and cut at SHOWN bytes.
    """
    name, more = view.field.partition("#")[0], "..." * (len(value) > SHOWN)
    cut = value[:SHOWN]
    if name.startswith("eth.") and "type" not in name:
        return cut.hex(":")
    if name in ("ip.src", "ip.dst"):
        return ".".join(map(str, cut)) + ".*" * (len(cut) < 4)
    words = view.side == "session" or name.startswith("http.")
    text = cut.rstrip(b"\r\n") if words or len(cut) > 4 else cut
    if (words or len(text) >= 4) and all(32 <= byte < 127 for byte in text):
        return text.decode("latin-1") + more
    if view.field == TTL_PROTOCOL:
        return " + ".join(map(str, cut))
    if len(cut) <= 2 and view.part == "whole":
        return str(int.from_bytes(cut, "big"))
    return cut.hex(" ") + more


def _by_length(name: str, side: str, own: Mapping[int, bytes], sessions: int) -> Iterator[View]:
    whole = _view(name, side, "whole", own, sessions)
    yield whole
    longest, last = max(map(len, whole.values)), len(whole.values)
    for size in (size for size in PREFIXES if size < longest):
        codes: dict[bytes, int] = {}
        table = [ABSENT]
        table += [codes.setdefault(value[:size], len(codes) + 1) for value in whole.values]
        if len(codes) < last:  # what tells no two values more apart is no other reading
            last = len(codes)
            part = "first byte" if size == 1 else f"first {size} bytes"
            yield View(name, side, part, np.array(table, np.int32)[whole.codes], list(codes))


def _view(name: str, side: str, part: str, own: Mapping[int, bytes], sessions: int) -> View:
    codes: dict[bytes, int] = {}
    column = np.full(sessions, ABSENT, np.int32)
    for session, value in own.items():
        column[session] = codes.setdefault(value, len(codes) + 1)
    return View(name, side, part, column, list(codes))
