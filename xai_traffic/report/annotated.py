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
    run: Run,
    folder: pathlib.Path,
    judged: Sequence[Judgement],
    explained: Sequence[Explained],
    several: bool,
) -> dict[str, str]:
    """Write an annotated copy of each capture, and Wireshark's colour rules for them.

    What came by standard input is gone and cannot be copied.

    Args:
        run: judged.
        folder: to write into.
        judged: the captures.
        explained: those of their sessions that are explained.
        several: make files in `annotated/`, named by number and name of their capture, instead of
            the one file `annotated.pcapng`.

    Returns:
        The path of each copy from the folder, with slashes, by the capture's name.
    """
    reasons = collections.defaultdict(list)
    for session in explained:
        reasons[session.verdict["capture"]].append(session)
    if several:
        (folder / ANNOTATED_FOLDER).mkdir()
    places: dict[str, str] = {}
    found: set[str] = set()
    for number, one in enumerate(judged, 1):
        if str(one.path) == STANDARD_INPUT:
            log.info("standard input is read once: it is not annotated")
            continue
        place = f"{ANNOTATED_FOLDER}/{_file_name(number, one)}" if several else ANNOTATED
        comments = PacketComments(run, one.packets, one.verdicts, reasons[one.capture])
        try:
            copied = annotate(one.path, folder / place, comments)
        except CaptureError as error:  # it could be read a moment ago
            (folder / place).unlink(missing_ok=True)
            log.warning("%s; it is not annotated", printable(error))
            continue
        places[one.capture] = place
        found |= {verdict["label"] for verdict in one.verdicts}
        if copied.untimed:
            log.info(
                "%s: %d packets without a time have time 0 in the annotated copy",
                printable(one.capture),
                copied.untimed,
            )
    if places:
        write_colour_rules(folder / COLOURS, [name for name in run.classes if name in found])
    elif several:
        (folder / ANNOTATED_FOLDER).rmdir()
    return places


def _file_name(number: int, judgement: Judgement) -> str:
    """Return a file name of plain characters that no other capture has."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", judgement.capture)[-_NAME_LENGTH:].strip("._-")
    return f"{number:03d}-{stem or 'capture'}.pcapng"
