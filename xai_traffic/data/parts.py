"""Turn one capture into parts of a dataset: labelled sessions, their tiles, hashes and tables.

What a part holds depends on its capture alone, so captures can be read side by side. Duplicates
are still in it: they are known when all captures before are done.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections import Counter, defaultdict
from collections.abc import Callable, Generator

import numpy as np
import pyarrow as pa

from xai_traffic.capture.mixing import mix
from xai_traffic.capture.reader import capture_name
from xai_traffic.capture.records import ENDS
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import (
    BELOW_MINIMUM,
    NO_PAYLOAD,
    gather,
    packet_table,
    session_table,
)
from xai_traffic.data.account import NO_LABEL, SURPLUS, UNLABELLED, Entry
from xai_traffic.data.duplicates import content_digests, hex_names
from xai_traffic.data.file_facts import FileFacts
from xai_traffic.data.labels import LabelRule, apply_label_table
from xai_traffic.data.spool import Group, Spool
from xai_traffic.errors import CaptureError

_EVICTED = ENDS.index("evicted")


@dataclasses.dataclass(frozen=True)
class Job:
    """A capture to read.

    Args:
        name: its name in the dataset.
        path: where it lies.
        rules: how it is read.
        label: label and binary label of all its sessions; None where a table labels them.
        table: the label table.
        folder: for temporary files.
    """

    name: str
    path: pathlib.Path
    rules: ReadingRules
    label: tuple[str, str | None] | None
    table: list[LabelRule] | None
    folder: pathlib.Path


@dataclasses.dataclass(frozen=True, eq=False)
class Part:
    """Some sessions of a capture, in order, that the rules keep.

    Args:
        table: rows of sessions.parquet, but for `split`, `first_tile` counting from this part.
        tiles: uint8 [T, 256].
        packets: rows of packets.parquet.
        digests: content hashes, uint8 [N, 16].
        flows: uint64 [N], equal for sessions of the same protocol and endpoint pair.
    """

    table: pa.Table
    tiles: np.ndarray
    packets: pa.Table
    digests: np.ndarray
    flows: np.ndarray


@dataclasses.dataclass
class Summary:
    """What became of a capture.

    Args:
        facts: `capture`, `sha256` and `bytes`.
        entry: account of all its packets.
        per_class: the same by label.
        used_rules: indexes of the label table's rules that labelled a session.
        evicted: sessions that were ended to make room for others.
        fault: why it was not read to its end, None if it was.
        taken: sessions by label that no other rule dropped, to count up to `most_per_capture`.
    """

    facts: dict
    entry: Entry = dataclasses.field(default_factory=Entry)
    per_class: dict[str, Entry] = dataclasses.field(default_factory=lambda: defaultdict(Entry))
    used_rules: set[int] = dataclasses.field(default_factory=set)
    evicted: int = 0
    fault: str | None = None
    taken: Counter[str] = dataclasses.field(default_factory=Counter)


def read_parts(
    job: Job, told: Callable[[int], None] | None = None
) -> Generator[Part, None, Summary]:
    """Yield the parts of a capture; return what became of it.

    Args:
        job: the capture.
        told: called with the bytes read of it.
    """
    summary = Summary({"capture": job.name})
    of_capture = job.label[0] if job.label else NO_LABEL
    of_class = summary.per_class[of_capture]
    with FileFacts(job.path) as facts:
        try:
            spool = Spool(job.path, job.rules, job.folder, told)
            for group in spool.groups():
                part = _part(job, group, summary)
                if part is not None:
                    yield part
            summary.entry.drop_packets(spool.dropped)
            of_class.drop_packets(spool.dropped)
            summary.entry.check(job.name, spool.seen)
            fault = spool.fault
        except CaptureError as error:
            fault = str(error)
        summary.facts.update(facts.get())
    if fault:
        summary.fault = fault.removeprefix(capture_name(job.path)).lstrip(",: ")
    return summary


def _part(job: Job, group: Group, summary: Summary) -> Part | None:
    """Label sessions, book them, and return the kept ones, None if there are none."""
    sessions = group.sessions
    labels, binary = _labels(job, group, summary)
    reasons = np.full(len(sessions), "", object)
    if job.rules.layers == "payload":
        reasons[sessions["payload_bytes"] == 0] = NO_PAYLOAD
    reasons[sessions["packets"] < job.rules.min_packets] = BELOW_MINIMUM
    reasons[labels == NO_LABEL] = UNLABELLED
    if job.rules.most_per_capture:
        reasons[_surplus(labels, reasons, summary.taken, job.rules.most_per_capture)] = SURPLUS
    summary.entry.add(sessions["packets"], reasons)
    for label in set(labels.tolist()):
        of = labels == label
        summary.per_class[label].add(sessions["packets"][of], reasons[of])
    summary.evicted += int((sessions["end"] == _EVICTED).sum())
    kept = reasons == ""
    if not kept.any():
        return None
    held = gather(group.tiles, group.packets, sessions[kept], job.rules)
    counts = held.sessions["tiles"].astype(np.int64)
    digests = content_digests(held.tiles, counts)
    table = session_table(
        held.sessions,
        job.name,
        held.packet_rows,
        community_id_seed=job.rules.community_id_seed,
    )
    for column, values in (
        ("label", labels[kept]),
        ("binary_label", binary[kept]),
        ("content_hash", hex_names(digests)),
    ):
        table = table.append_column(column, pa.array(values, pa.string()))
    packets = packet_table(held.packets)
    return Part(table, held.tiles, packets, digests, flow_numbers(held.sessions))


def _surplus(labels: np.ndarray, reasons: np.ndarray, taken: Counter[str], most: int) -> np.ndarray:
    """Return which sessions are over the most of their label, bool [n]; count the others up.

    Duplicates count: which they are depends on other captures.
    """
    surplus = np.zeros(len(labels), bool)
    for label in set(labels[reasons == ""].tolist()):
        own = np.flatnonzero((labels == label) & (reasons == ""))
        surplus[own[max(0, most - taken[label]) :]] = True
        taken[label] += len(own)
    return surplus


def _labels(job: Job, group: Group, summary: Summary) -> tuple[np.ndarray, np.ndarray]:
    """Return label and binary label of each session, object arrays; NO_LABEL for none."""
    if job.label is not None:
        which = np.zeros(len(group.sessions), np.int64)
        pairs = [job.label]
    else:
        which = apply_label_table(job.table, job.name, group.sessions, group.first_wire())
        summary.used_rules.update(which.tolist())
        pairs = [(rule.label, rule.binary_label) for rule in job.table]
        pairs.append((NO_LABEL, None))  # where index -1 leads
    columns = np.empty((len(pairs), 2), object)
    columns[:] = pairs
    return columns[which, 0], columns[which, 1]


def flow_numbers(sessions: np.ndarray) -> np.ndarray:
    """Return uint64 [N], equal for sessions of the same protocol and endpoint pair.

    They are hashes: others share one with a chance of 2**-64, and then stay in one split.

    Args:
        sessions: SESSION [N].
    """
    ends = np.zeros(len(sessions), np.uint64)
    for side in ("source", "destination"):
        words = np.ascontiguousarray(sessions[side]).view(np.uint64).reshape(len(sessions), 2)
        end = mix(words[:, 0] ^ mix(words[:, 1] + np.uint64(1)))
        ends += mix(end ^ sessions[f"{side}_port"].astype(np.uint64))  # the same both ways round
    kind = sessions["protocol"].astype(np.uint64) << np.uint64(8)
    return mix(ends ^ mix(kind | sessions["family"].astype(np.uint64)))
