"""Account for every packet: what went in, what was kept, what was dropped and why.

Kept per capture and per class, in packets and in sessions. Packets that a core drops belong to
no session; under a label table they have no label either and are booked under NO_LABEL.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from xai_traffic.data.split import SPLITS, UNUSED
from xai_traffic.errors import DatasetError

NO_LABEL = ""
UNLABELLED = "no label"
SURPLUS = "more than are taken of a capture"
DUPLICATE, DUPLICATE_UNDER_MASK = "duplicate", "duplicate under the mask"


@dataclasses.dataclass
class Entry:
    """The account of one capture or class."""

    packets: int = 0
    sessions: int = 0
    kept_packets: int = 0
    kept_sessions: int = 0
    dropped: Counter = dataclasses.field(default_factory=Counter)  # packets by reason
    dropped_sessions: Counter = dataclasses.field(default_factory=Counter)

    def drop_packets(self, dropped: dict[str, int]) -> None:
        """Book packets that never came into a session."""
        self.packets += sum(dropped.values())
        self.dropped.update(dropped)

    def add(self, packets: np.ndarray, reasons: np.ndarray) -> None:
        """Book sessions: packets int [N] and reason of the drop object [N], "" for the kept."""
        self.packets += int(packets.sum())
        self.sessions += len(packets)
        for reason in np.unique(reasons).tolist():
            chosen = reasons == reason
            count, size = int(chosen.sum()), int(packets[chosen].sum())
            if reason:
                self.dropped[reason] += size
                self.dropped_sessions[reason] += count
            else:
                self.kept_packets += size
                self.kept_sessions += count

    def move(self, packets: int, sessions: int, reason: str) -> None:
        """Book sessions that were kept as dropped."""
        self.kept_packets -= packets
        self.kept_sessions -= sessions
        self.dropped[reason] += packets
        self.dropped_sessions[reason] += sessions

    def take(self, other: Entry) -> None:
        """Book all that another entry has booked."""
        self.packets += other.packets
        self.sessions += other.sessions
        self.kept_packets += other.kept_packets
        self.kept_sessions += other.kept_sessions
        self.dropped.update(other.dropped)
        self.dropped_sessions.update(other.dropped_sessions)

    def check(self, name: str, seen: int | None = None) -> None:
        """Check that nothing is lost.

        Raises:
            DatasetError: packets in are not packets kept and dropped; a defect of this program.
        """
        packets = self.kept_packets + sum(self.dropped.values())
        sessions = self.kept_sessions + sum(self.dropped_sessions.values())
        if packets != self.packets or sessions != self.sessions or seen not in (None, packets):
            raise DatasetError(
                f"{name}: {self.packets if seen is None else seen} packets in "
                f"{self.sessions} sessions went in, {packets} in {sessions} are accounted for: "
                "this is a defect of the program, please report it with the capture"
            )

    def to_dict(self) -> dict:
        """Return the entry as JSON values, reasons sorted."""
        return {
            "packets": self.packets,
            "sessions": self.sessions,
            "kept": {"packets": self.kept_packets, "sessions": self.kept_sessions},
            "dropped": dict(sorted(self.dropped.items())),
            "dropped_sessions": dict(sorted(self.dropped_sessions.items())),
        }

    @classmethod
    def from_dict(cls, values: dict) -> Entry:
        """Return the entry of a manifest."""
        return cls(
            values["packets"],
            values["sessions"],
            values["kept"]["packets"],
            values["kept"]["sessions"],
            Counter(values["dropped"]),
            Counter(values["dropped_sessions"]),
        )


def lost_classes(per_class: dict[str, Entry]) -> dict[str, dict]:
    """Return the classes of which nothing was kept, with what became of them."""
    return {
        label: {
            "packets": entry.packets,
            "sessions": entry.sessions,
            "dropped": dict(sorted(entry.dropped.items())),
        }
        for label, entry in sorted(per_class.items())
        if label != NO_LABEL and not entry.kept_sessions
    }


def split_sizes(labels: pa.Array, splits: pa.Array) -> dict[tuple[str, str], int]:
    """Return the number of sessions of each label and split that occur together."""
    table = pa.table({"label": labels, "split": splits})
    groups = table.group_by(["label", "split"]).aggregate([([], "count_all")])
    return {(row["label"], row["split"]): row["count_all"] for row in groups.to_pylist()}


def per_class_of(per_class: dict[str, Entry], sizes: dict[tuple[str, str], int]) -> dict[str, dict]:
    """Return the manifest's account per class, with its duplicates and the sizes of its splits.

    Args:
        per_class: the accounts.
        sizes: see `split_sizes`.
    """
    splits = [*SPLITS, *[UNUSED] * any(sizes.get((label, UNUSED)) for label in per_class)]
    return {
        label: {
            **entry.to_dict(),
            "duplicates": sum(
                entry.dropped_sessions[reason] for reason in (DUPLICATE, DUPLICATE_UNDER_MASK)
            ),
            "splits": {split: sizes.get((label, split), 0) for split in splits},
        }
        for label, entry in sorted(per_class.items())
        if label != NO_LABEL or entry.packets
    }


Table = tuple[str, tuple[str, ...], list[tuple]]


def summarise(manifest: dict) -> list[Table]:
    """Return (title, columns, rows) tables of what was kept, dropped and found, for `show_table`.

    Tables without rows are left out.
    """
    per_class = manifest["per_class"]
    splits = list(next(iter(per_class.values()))["splits"]) if per_class else []
    kept = [
        (
            label or "(no label)",
            entry["packets"],
            entry["sessions"],
            entry["kept"]["sessions"],
            entry["duplicates"],
            *(entry["splits"][split] for split in splits),
        )
        for label, entry in per_class.items()
    ]
    if len(kept) > 1:
        columns = zip(*(row[1:] for row in kept), strict=True)
        kept.append(("all", *(sum(column) for column in columns)))
    tables = [
        ("Kept", ("class", "packets in", "sessions", "kept", "duplicates", *splits), kept),
        ("Dropped", ("class", "reason", "packets", "sessions"), _dropped(per_class)),
        (
            "Images under two labels",
            ("label", "other label", "images"),
            [(row["a"], row["b"], row["images"]) for row in manifest["label_conflicts"]],
        ),
        (
            "Captures with a fault",
            ("capture", "packets read", "fault"),
            [
                (row["capture"], row["packets"], row["fault"])
                for row in manifest["captures"]
                if row["fault"]
            ],
        ),
        *_near_duplicates(manifest.get("near_duplicates")),
        *_leaks(manifest.get("leaks"), manifest["split"]),
    ]
    return [table for table in tables if table[2]]


def _dropped(per_class: dict[str, dict]) -> Iterable[tuple]:
    return [
        (label or "(no label)", reason, packets, entry["dropped_sessions"].get(reason, 0))
        for label, entry in per_class.items()
        for reason, packets in entry["dropped"].items()
    ]


def _near_duplicates(found: dict | None) -> list[Table]:
    """Return the table of the largest clusters of near duplicates."""
    if found is None:
        return []
    title = (
        f"Near duplicates ({found['action']}, Jaccard >= {found['threshold']:g}): "
        f"{found['clusters']:,} clusters of {found['sessions']:,} sessions, "
        f"{found['clusters_of_several_labels']:,} of several labels, {found['unused']:,} sessions "
        "in no split; the largest"
    )
    rows = [
        (
            row["sessions"],
            ", ".join(f"{label} {count}" for label, count in list(row["labels"].items())[:5]),
            "; ".join(f"{each['capture']} {each['session']}" for each in row["examples"]),
        )
        for row in found["largest"]
    ]
    return [(title, ("sessions", "labels", "such as (capture, session)"), rows)]


def _leaks(leaks: dict | None, split: str) -> list[Table]:
    """Return the tables of what training and test share, and of why that is a leak."""
    if leaks is None or not leaks["sessions"]["test"]:
        shared = []
    else:
        number = leaks["sessions"]["test"]
        shared = [
            (kind.replace("_", " "), found["sessions"], f"{found['sessions'] / number:.1%}")
            for kind, found in leaks["shared"].items()
            if found is not None
        ]
    leaky = {} if leaks is None else leaks["leaky"]
    why = [(task, reason) for task, found in leaky.items() for reason in found]
    return [
        (f"Shared with train under {split}", ("what", "test sessions", "share"), shared),
        ("LEAKY: the numbers of this dataset are not what its split says", ("task", "why"), why),
    ]
