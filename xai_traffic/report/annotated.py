"""Annotated captures: copies whose packets say, in Wireshark, what the model made of them."""

from __future__ import annotations

import collections
import pathlib
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from xai_traffic.capture.annotate import annotate
from xai_traffic.capture.reader import STANDARD_INPUT
from xai_traffic.errors import CaptureError
from xai_traffic.report.colour_rules import write_colour_rules
from xai_traffic.report.comments import PacketComments
from xai_traffic.report.explained import Explained
from xai_traffic.terminal import log, printable
from xai_traffic.training.run import Run

ANNOTATED, ANNOTATED_FOLDER = "annotated.pcapng", "annotated"
COLOURS = "annotated.colorfilters"
_NAME_LENGTH = 80


class Judgement(NamedTuple):
    """One capture with the verdicts on its sessions.

    capture: its name in the verdicts; path: "-" for standard input; packets: packet table of its
    sessions; verdicts: on them, see `evaluation.classify.verdicts`.
    """

    capture: str
    path: pathlib.Path
    packets: pa.Table
    verdicts: Sequence[dict[str, Any]]


def write_annotated(
    run: Run, folder: pathlib.Path, judged: Sequence[Judgement], explained: Sequence[Explained]
) -> dict[str, str]:
    """Write an annotated copy of each capture, and Wireshark's colour rules for them.

    One capture makes `annotated.pcapng`, several make files in `annotated/` that carry the number
    and the name of their capture. What came by standard input is gone and cannot be copied.

    Args:
        run: judged.
        folder: to write into.
        judged: the captures.
        explained: those of their sessions that are explained.

    Returns:
        The path of each copy from the folder, with slashes, by the capture's name.
    """
    gone = [one for one in judged if str(one.path) == STANDARD_INPUT]
    if gone:
        log.info("standard input is read once: it is not annotated")
    kept = [one for one in judged if one not in gone]
    reasons = collections.defaultdict(list)
    for session in explained:
        reasons[session.verdict["capture"]].append(session)
    if len(judged) > 1 and kept:
        (folder / ANNOTATED_FOLDER).mkdir()
    places = {}
    for number, one in enumerate(judged, 1):
        if one not in kept:
            continue
        place = ANNOTATED if len(judged) == 1 else f"{ANNOTATED_FOLDER}/{_file_name(number, one)}"
        comments = PacketComments(run, one.packets, one.verdicts, reasons[one.capture])
        try:
            copied = annotate(one.path, folder / place, comments)
        except CaptureError as error:  # it was there a moment ago
            (folder / place).unlink(missing_ok=True)
            log.warning("%s: it is not annotated", printable(error))
            continue
        places[one.capture] = place
        if copied.untimed:
            log.info(
                "%s: %d packets without a time have time 0 in the annotated copy",
                printable(one.capture),
                copied.untimed,
            )
    if places:
        found = {verdict["label"] for one in kept for verdict in one.verdicts}
        write_colour_rules(folder / COLOURS, [name for name in run.classes if name in found])
    return places


def _file_name(number: int, judgement: Judgement) -> str:
    """Return a file name of plain characters that no other capture has."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", judgement.capture)[-_NAME_LENGTH:].strip("._-")
    return f"{number:03d}-{stem or 'capture'}.pcapng"
