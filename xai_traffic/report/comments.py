"""The comment on a packet of an annotated capture: words for people, which programs read back.

One line, parts between " | ", of the method that the report follows:

    xai-traffic: verdict "beacon", probability 0.993412, run "vit", step 300 | session 12, packet 3
    | share 41.23 %, heat 4 of 4, by integrated_gradients
    | tcp.flags bytes 47-47 21.1 %; payload bytes 54-255 3.002 % | card WARN

Numbers of sessions and packets, label and probability are those of `explanations.jsonl`. Shares are
per cent of the session's |attribution|, four digits of them. Bytes are counted from 0 in the frame,
as Wireshark's byte pane counts them, both ends included. Names that are free text stand in JSON's
quotes and escapes. The heat is a step of the share, see `HEAT`, for colour rules.

A verdict "unknown" is followed by the class that is explained: verdict "unknown", nearest "dns".
Of a packet that the model does not read the third part says "not read: the model reads the first 16
packets of a session"; of a session that was judged and not explained it says "not explained".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from xai_traffic.capture.records import TILE
from xai_traffic.evaluation.answers import nearest_class
from xai_traffic.report.explained import Explained
from xai_traffic.training.run import Run

HEAT = (0.01, 0.03, 0.1, 0.3)
"""Shares from which on a packet has heat 1, 2, 3 and 4; below is 0."""

FIELDS = 4
"""Fields that a comment names, at most."""

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_COMMENT = re.compile(
    rf"xai-traffic: verdict (?P<label>{_QUOTED}), (?:nearest (?P<nearest>{_QUOTED}), )?"
    rf"probability (?P<probability>\S+), "
    rf"run (?P<run>{_QUOTED}), step (?P<step>\d+) "
    r"\| session (?P<session>\d+), packet (?P<packet>\d+) "
    r"\| (?:(?P<judged>not explained)|not read: the model reads the first (?P<read>\d+) packets?"
    r"|share (?P<share>\S+) %, heat (?P<heat>\d) of \d, by (?P<method>\w+) "
    r"\| (?P<fields>[^|]*) \| card (?P<card>[A-Z]+))"
)
_FIELD = re.compile(r"(\S+) bytes (\d+)-(\d+) (\S+) %")


class PacketComments(Mapping[int, str]):
    """The comments on the packets of one capture, by frame number, each made when it is asked for.

    Every packet that has a tile has a comment.

    Args:
        run: who judged.
        packets: packet table of the capture's sessions.
        verdicts: on them, see `evaluation.classify.verdicts`.
        explained: those of them that are explained.
    """

    def __init__(
        self,
        run: Run,
        packets: pa.Table,
        verdicts: Sequence[dict[str, Any]],
        explained: Sequence[Explained],
    ):
        frames = packets["frame"].to_numpy()
        self._order = np.argsort(frames, kind="stable")
        self._frames = frames[self._order]
        self._sessions = packets["session"].to_numpy()
        self._packets = packets["packet"].to_numpy()
        self._verdicts = {verdict["session"]: verdict for verdict in verdicts}
        self._explained = {one.verdict["session"]: one for one in explained}
        height, width = run.model.extent
        self._read = height * width // TILE
        self._judge = f"run {quoted(run.path.resolve().name)}, step {run.step}"

    def __len__(self) -> int:
        return len(self._frames)

    def __iter__(self) -> Iterator[int]:
        return map(int, self._frames)

    def __getitem__(self, frame: int) -> str:
        place = int(np.searchsorted(self._frames, frame))
        if place == len(self._frames) or self._frames[place] != frame:
            raise KeyError(frame)
        row = int(self._order[place])
        session, packet = int(self._sessions[row]), int(self._packets[row])
        verdict = self._verdicts[session]
        nearest = ""
        if verdict["label"] != nearest_class(verdict):
            nearest = f"nearest {quoted(nearest_class(verdict))}, "
        told = (
            f"xai-traffic: verdict {quoted(verdict['label'])}, {nearest}"
            f"probability {verdict['probability']}, {self._judge} "
            f"| session {session}, packet {packet} | "
        )
        if packet >= self._read:
            s = "s" * (self._read != 1)
            return f"{told}not read: the model reads the first {self._read} packet{s} of a session"
        explained = self._explained.get(session)
        return told + ("not explained" if explained is None else reasons(explained, packet))


def reasons(explained: Explained, packet: int) -> str:
    """Return share, heat, fields and card of a packet in words."""
    method = explained.leading
    share = float(explained.shares[method].packets()[packet])
    offset = int(explained.packets["start"][packet])
    fields = "; ".join(
        f"{field.name} bytes {offset + field.start}-{offset + field.end - 1} {_percent(part)} %"
        for field, part in explained.top_fields(packet, method)[:FIELDS]
    )
    return (
        f"share {_percent(share)} %, heat {heat(share)} of {len(HEAT)}, by {method} "
        f"| {fields or 'no field'} | card {explained.card(method).grade}"
    )


def heat(share: float) -> int:
    """Return the step of HEAT that a share reaches."""
    return sum(share >= least for least in HEAT)


def quoted(text: str) -> str:
    """Return text in JSON's quotes; what is not printable is escaped as well."""
    return "".join(
        character if character.isprintable() else json.dumps(character)[1:-1]
        for character in json.dumps(text, ensure_ascii=False)
    )


def parse_comment(text: str) -> dict[str, Any] | None:
    """Return what a comment says, by the names of `explanations.jsonl`; None where it is not ours.

    Args:
        text: a packet's comment, or several of them in a row; of ours the last counts.

    Returns:
        `label`, `nearest_label` where that is another, `probability`, `run`, `step`, `session`,
        `packet`; of a packet that is not read `read`, how many are; of one that is explained
        `method`, `share`, `heat`, `card` (its grade), `fields`: [{"field", "start", "end",
        "share"}], bytes [start, end) of the frame.
    """
    *_, found = (None, *_COMMENT.finditer(text))
    if not found:
        return None
    told: dict[str, Any] = {
        "label": json.loads(found["label"]),
        **({"nearest_label": json.loads(found["nearest"])} if found["nearest"] else {}),
        "probability": float(found["probability"]),
        "run": json.loads(found["run"]),
        **{name: int(found[name]) for name in ("step", "session", "packet")},
    }
    if found["read"]:
        told["read"] = int(found["read"])
    if found["share"]:
        told |= {
            "method": found["method"],
            "share": float(found["share"]) / 100,
            "heat": int(found["heat"]),
            "card": found["card"],
            "fields": [
                {
                    "field": name,
                    "start": int(first),
                    "end": int(last) + 1,
                    "share": float(share) / 100,
                }
                for name, first, last, share in _FIELD.findall(found["fields"])
            ],
        }
    return told


def _percent(share: float) -> str:
    return f"{100 * share:.4g}"
