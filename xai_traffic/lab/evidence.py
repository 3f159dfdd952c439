"""The list of planted evidence, `evidence.jsonl`: one JSON object a line."""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Iterable

from xai_traffic.errors import ConfigError
from xai_traffic.lab.packets import Packet

EVIDENCE = "evidence.jsonl"
_NUMBERS = ("session", "packet", "frame", "start", "end")
_TEXTS = ("capture", "field", "family", "plant", "bytes")


def evidence(family: str, capture: str, frames: Iterable[tuple[int, int, Packet]]) -> list[dict]:
    """Return one line for each plant in a capture, in order of frames.

    A line holds `capture` (path in the folder), `session` (0-based by first packet), `packet`
    (0-based in the session), `frame` (1-based in the capture), `start` and `end` (byte range in
    the packet), `field` (Wireshark's name, `frame` for a whole packet), `family`, `plant` (its
    name) and `bytes` (in hexadecimal).

    Args:
        family: label of the sessions.
        capture: path in the folder.
        frames: (session, packet in it, packet) in the capture's order.
    """
    return [
        {
            "capture": capture,
            "session": session,
            "packet": index,
            "frame": number,
            "start": mark.start,
            "end": mark.end,
            "field": mark.field,
            "family": family,
            "plant": mark.name,
            "bytes": packet.data[mark.start : mark.end].hex(),
        }
        for number, (session, index, packet) in enumerate(frames, 1)
        for mark in packet.marks
    ]


def evidence_text(lines: Iterable[dict]) -> str:
    """Return the content of `evidence.jsonl`."""
    return "".join(json.dumps(line) + "\n" for line in lines)


def read_evidence(folder: str | os.PathLike[str]) -> dict[tuple[str, int], list[dict]]:
    """Read the list of a lab.

    Returns:
        The lines of each session that has evidence, by (capture, session), in order of frames.

    Raises:
        ConfigError: the list is missing, or a line of it is damaged.
    """
    path = pathlib.Path(folder) / EVIDENCE
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({error}): name a folder that `xai-traffic lab` made"
        ) from error
    found: dict[tuple[str, int], list[dict]] = {}
    for number, text in enumerate(content.splitlines(), 1):
        line = _line(text)
        if line is None:
            raise ConfigError(f"{path}, line {number}: no evidence, make the lab anew")
        found.setdefault((line["capture"], line["session"]), []).append(line)
    return found


def _line(text: str) -> dict | None:
    """Return a line's object, None if it is not all that a line must be."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    if not isinstance(line, dict):
        return None
    whole = all(type(line.get(name)) is int and line[name] >= 0 for name in _NUMBERS)
    said = all(isinstance(line.get(name), str) for name in _TEXTS)
    return line if whole and said and line["start"] < line["end"] else None
