"""A report to share: addresses and host names are pseudonyms wherever it tells of them.

It works on verdicts and explained sessions before any writer sees them, so nothing that is written
can tell more: page, lines, and the grey of the pictures' pixels, which are bytes. Attributions,
fields, sizes and times stay. What else packets say stays too: paths, user names, cookies.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from xai_traffic.capture.fields import describe
from xai_traffic.capture.images import grid_images, tiles_of_images
from xai_traffic.capture.records import GRID, TILE
from xai_traffic.report.explained import Explained
from xai_traffic.report.field_values import bare_name
from xai_traffic.report.html import Judged
from xai_traffic.report.identities import ADDRESSES, redacted, redacted_text
from xai_traffic.report.pseudonyms import Pseudonyms
from xai_traffic.training.run import Run

_ENDS = ("source", "destination", "outer_source", "outer_destination")


def redact_verdict(verdict: dict[str, Any], pseudonyms: Pseudonyms) -> dict[str, Any]:
    """Return a verdict with pseudonyms for its addresses and in the name of its capture.

    Its Community ID, a hash of addresses that any list of them turns back, is None.
    """
    changed = {end: pseudonyms.address_text(verdict[end]) for end in _ENDS if verdict.get(end)}
    capture = redacted_text(verdict["capture"], pseudonyms)
    return {**verdict, **changed, "capture": capture, "community_id": None}


def redact_judged(judged: Judged, pseudonyms: Pseudonyms) -> Judged:
    """Return all verdicts and the names of their captures with pseudonyms, marked as such."""
    return dataclasses.replace(
        judged,
        verdicts=[redact_verdict(verdict, pseudonyms) for verdict in judged.verdicts],
        sources=[redacted_text(source, pseudonyms) for source in judged.sources],
        failures=[
            (redacted_text(name, pseudonyms), redacted_text(reason, pseudonyms))
            for name, reason in judged.failures
        ],
        redacted=True,
    )


def redact_run(run: Run, pseudonyms: Pseudonyms) -> Run:
    """Return a run as a report may name it: its path, and the filter of its reading rules."""
    rules = dataclasses.replace(run.rules, filter=redacted_text(run.rules.filter, pseudonyms))
    path = pathlib.Path(redacted_text(str(run.path), pseudonyms))
    return dataclasses.replace(run, path=path, rules=rules)


def redact_sessions(sessions: Sequence[Explained], pseudonyms: Pseudonyms) -> list[Explained]:
    """Return explained sessions whose verdicts, bytes, words and image name no host."""
    return [_session(explained, pseudonyms) for explained in sessions]


def _session(explained: Explained, pseudonyms: Pseudonyms) -> Explained:
    known = _addresses(explained)
    changed = explained.bytes.copy()
    for row, packet in enumerate(explained.packets):
        length = int(packet["length"])
        data = explained.bytes[row, :length].tobytes()
        own = redacted(data, explained.fields[row], known, pseudonyms)
        changed[row, :length] = np.frombuffer(own, np.uint8)
    # What the mask hid is 0, 1 or 2 in the image, and says nothing of hosts.
    tiles = tiles_of_images(explained.image[None])[0].reshape(GRID, TILE).copy()
    count = len(changed)
    tiles[:count] = np.where(explained.hidden, tiles[:count], changed)
    return dataclasses.replace(
        explained,
        verdict=redact_verdict(explained.verdict, pseudonyms),
        bytes=changed,
        image=grid_images(tiles)[0],
        words=[describe(tile, row) for tile, row in zip(changed, explained.packets, strict=True)],
    )


def _addresses(explained: Explained) -> list[bytes]:
    """Return a session's addresses in bytes, the longest first: payloads may repeat them."""
    found = {
        ipaddress.ip_address(explained.verdict[end]).packed
        for end in _ENDS
        if explained.verdict.get(end)
    }
    for row, fields in enumerate(explained.fields):
        for field in fields:
            if bare_name(field) in ADDRESSES and field.end - field.start in (4, 6, 16):
                found.add(explained.bytes[row, field.start : field.end].tobytes())
    # A masked dataset keeps 01 01.. and 02 02.. in place of addresses, which are everywhere.
    return sorted((raw for raw in found if len(set(raw)) > 1), key=lambda raw: (-len(raw), raw))
