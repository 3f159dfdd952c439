"""The cells of the record: which sessions, hidden how, split how; how networks are trained."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from record_datasets import HOSTS_HIDDEN, Make, Source
from record_protocols import (
    OF_ONE_CAPTURE,
    by_capture,
    by_source,
    families_left_out,
    labelled_payload,
)
from record_ustc import (
    MASKS,
    SEVERAL_HOSTS,
    TRIO,
    in_time,
    once,
    published_images,
    ustc,
    ustc_payload,
)

from xai_traffic.data.store import Dataset

PAYLOAD_ONLY = {"augment.header_bytes": 16, "augment.header_dropout": 0.0}
"""A protocol is known by the first bytes of its payloads: these are never lost."""

LOSSY = {**PAYLOAD_ONLY, "augment.packet_dropout": 0.5, "epochs": 60}
"""For few captures: the course of their packets is easily learnt by heart."""

FEW = {"batch_size": 32, "epochs": 40, "optimizer.ema": 0.99}
"""For a thousand sessions."""

MANY = {
    "epochs": 4,
    "batch_size": 128,
    "augment.byte_swap": 0.0,
    "augment.payload_dropout": 0.5,
}
"""For a hundred thousand."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A row of its own for some of a cell's test sessions, judged by the same classifiers.

    Args:
        name, title: as a cell's.
        kept: which of the dataset's test sessions, bool [n]. None of them has a copy in training.
    """

    name: str
    title: str
    kept: Callable[[Dataset], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row of the record.

    Args:
        name: as `--cells` takes it.
        title: for the reader.
        make: makes the dataset of a seed, or opens it, of the folder of captures and a folder to
            work in.
        task: multiclass or binary.
        changes: of the networks' configs, by dotted key.
        payload: of a network that reads the payload alone and is asked beside the others: what
            reads the captures so, and the changes of its config. None where there is none.
        part: a second row; None where there is none.
        same_test: every seed is tested on the same sessions, or nearly so.
    """

    name: str
    title: str
    make: Make
    task: str = "multiclass"
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    payload: tuple[Source, Mapping[str, Any]] | None = None
    part: Part | None = None
    same_test: bool = False


def cells_and_parts() -> list[Cell]:
    """Return all cells, each with its part behind it as a cell of its own."""
    found = []
    for cell in cells():
        found.append(cell)
        if cell.part is not None:
            part = cell.part
            found.append(dataclasses.replace(cell, name=part.name, title=part.title, part=None))
    return found


def cells() -> list[Cell]:
    """Return all cells, in the order of the record."""
    twenty, trio = "USTC-TFC2016, 20 classes", ", ".join(TRIO)
    few = {**FEW, **LOSSY}
    stream = {**PAYLOAD_ONLY, **MANY}
    return [
        *(
            Cell(
                f"ustc/{mask}",
                f"{twenty}, hidden: {mask}",
                ustc(mask),
                payload=(ustc_payload, PAYLOAD_ONLY),
            )
            for mask in MASKS
        ),
        Cell(
            "ustc/payload",
            f"{twenty}, payload alone",
            ustc("none", layers="payload"),
            changes=PAYLOAD_ONLY,
        ),
        *(
            Cell(
                f"trio/{mask}",
                f"{trio}, hidden: {mask}",
                ustc(mask, classes=TRIO),
                changes=FEW,
                payload=(ustc_payload, few),
            )
            for mask in MASKS
        ),
        Cell(
            "ustc/host",
            f"6 classes of several hosts, by host, hidden: {HOSTS_HIDDEN}",
            ustc(HOSTS_HIDDEN, "host:70/10/20", SEVERAL_HOSTS),
            changes=FEW,
            payload=(ustc_payload, few),
        ),
        Cell(
            "ustc/time",
            f"{twenty}, the last fifth of each, hidden: {HOSTS_HIDDEN}",
            in_time,
            payload=(ustc_payload, PAYLOAD_ONLY),
            same_test=True,
        ),
        Cell(
            "l7/published",
            "USTC payload images, as published",
            published_images,
            changes=stream,
            part=Part("l7/once", "the same, test images without a copy, each once", once),
            same_test=True,
        ),
        *(
            Cell(
                f"protocols/{name}",
                f"16 protocols by capture, {told} of one, ports hidden",
                by_capture(most),
                changes=FEW,
                payload=(labelled_payload, few),
            )
            for name, told, most in (
                ("capture", f"at most {OF_ONE_CAPTURE} sessions", OF_ONE_CAPTURE),
                ("every-session", "all sessions", 0),
            )
        ),
        *(
            Cell(
                f"protocols/{source}",
                f"protocols, trained on {source}'s captures alone, ports hidden",
                by_source(source),
                changes=FEW,
                payload=(labelled_payload, few),
                same_test=True,
            )
            for source in ("suricata", "zeek")
        ),
        Cell(
            "malicious",
            f"malicious or benign, families left out, hidden: {HOSTS_HIDDEN}",
            families_left_out,
            "binary",
            FEW,
            (labelled_payload, few),
        ),
    ]
