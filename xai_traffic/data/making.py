"""Put a dataset together part by part: drop duplicates, write, split, and account for it all."""

from __future__ import annotations

import platform
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence

import numpy as np
import pyarrow as pa

from xai_traffic import __version__
from xai_traffic.capture.core import core_name
from xai_traffic.capture.masking import MASK_VERSION
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.account import DUPLICATE, Entry, lost_classes, per_class_of
from xai_traffic.data.column_hashes import hash_texts
from xai_traffic.data.duplicates import Seen
from xai_traffic.data.groups import Groups, Together
from xai_traffic.data.labels import BINARY_CLASSES
from xai_traffic.data.leaks import Read, find_leaks, is_leaky
from xai_traffic.data.near_duplicates import Clusters, NearDuplicates
from xai_traffic.data.parts import Part, Summary
from xai_traffic.data.repeats import Repeats
from xai_traffic.data.shard_notes import ShardNotes
from xai_traffic.data.writer import DatasetWriter
from xai_traffic.errors import DatasetError
from xai_traffic.terminal import log, printable


class Making:
    """A dataset in the making: what is kept so far, and the account of it.

    Args:
        rules: by which the parts were made.
        lines: of the label table's rules in its file; None where folders label.
        writer: takes what is kept.
        groups: takes what the split is drawn from.
        seen: tells duplicates. `Seen` takes 16 bytes of memory for each image of a label.
        notes: takes what a merge must know; given where the dataset is a shard.
        core: what read the captures; None is the one that this process has.
        lab: recipe of the lab that the captures are of (`lab.recipe`), as JSON values.
        near: finds near duplicates, where that is wished for.
    """

    def __init__(
        self,
        rules: ReadingRules,
        lines: Sequence[int] | None,
        writer: DatasetWriter,
        groups: Groups,
        seen: Seen | Repeats,
        notes: ShardNotes | None = None,
        core: str | None = None,
        lab: dict | None = None,
        near: NearDuplicates | None = None,
    ):
        self.rules, self.lines, self.writer = rules, lines, writer
        self.groups, self.seen, self.notes = groups, seen, notes
        self.core, self.lab, self.near = core or core_name(), lab, near
        self.failures: list[tuple[str, str]] = []
        self.captures: list[dict] = []
        self.warnings: list[str] = []
        self.per_class: dict[str, Entry] = defaultdict(Entry)
        self.binary: set[str] = set()
        self.labels: dict[str, int] = {}
        self.used_rules: set[int] = set()

    def add(self, parts: Generator[Part, None, Summary]) -> None:
        """Read a capture and write the sessions of it that are kept."""
        copies: Counter[tuple[str, str]] = Counter()
        kept: list[tuple[np.ndarray, ...]] = []
        while True:
            try:
                part = next(parts)
            except StopIteration as end:
                summary = end.value
                break
            copies.update(self._write(part, kept))
        if kept:
            columns = [np.concatenate(each) for each in zip(*kept, strict=True)]
            labels, flows, digests = columns[:3]
            self.groups.add(*columns)
            if self.notes is not None:
                self.notes.add(labels, flows, digests)
        self._book(summary, copies)

    def _write(self, part: Part, kept: list[tuple[np.ndarray, ...]]) -> Counter[tuple[str, str]]:
        """Write what is no duplicate; return the packets and sessions by label of what is one."""
        table, tiles, packets = part.table, part.tiles, part.packets
        labels = table["label"].to_numpy(zero_copy_only=False)
        counts = table["tiles"].to_numpy().astype(np.int64)
        fresh = self.seen.keep(labels, part.digests)
        copies: Counter[tuple[str, str]] = Counter()
        if not fresh.all():
            sizes = table["packets"].to_numpy()
            for label in set(labels[~fresh].tolist()):
                of = ~fresh & (labels == label)
                copies[label, "packets"] = int(sizes[of].sum())
                copies[label, "sessions"] = int(of.sum())
            tiles = tiles[np.repeat(fresh, counts)]
            packets = packets.filter(pa.array(np.repeat(fresh, table["packet_rows"].to_numpy())))
            table = table.filter(pa.array(fresh))
            counts, labels = counts[fresh], labels[fresh]
        first = pa.array(self.writer.tiles + np.cumsum(counts) - counts, pa.int64())
        table = table.set_column(table.column_names.index("first_tile"), "first_tile", first)
        self.binary.update(table["binary_label"].drop_null().unique().to_pylist())
        self.writer.append_sessions(table)
        self.writer.append(tiles, packets)
        ids = {label: self.labels.setdefault(label, len(self.labels)) for label in set(labels)}
        numbers = np.fromiter(map(ids.__getitem__, labels), np.int32, len(labels))
        if self.near is not None:
            self.near.add(tiles, counts, numbers, table["session"].to_numpy())
        kept.append((numbers, part.flows[fresh], part.digests[fresh], *self._keys(table)))
        return copies

    def _keys(self, table: pa.Table) -> tuple[np.ndarray, ...]:
        """Return hosts and times as `Groups.add` wants them, zeros where its key needs none."""
        hosts = np.zeros(len(table), np.uint64)
        times = np.zeros((len(table), 2), np.int64)
        if self.groups.spec.key == "host":
            hosts = hash_texts(table["source"])
        elif self.groups.spec.key == "time":
            for place, name in enumerate(("first_time", "last_time")):
                times[:, place] = table[name].cast(pa.int64()).to_numpy()
        return hosts, times

    def _book(self, summary: Summary, copies: Counter[tuple[str, str]]) -> None:
        """Account for a capture: packets and sessions in, kept, and dropped by reason."""
        name, entry = summary.facts["capture"], summary.entry
        for label, of_label in summary.per_class.items():
            for booked in (of_label, entry) if copies[label, "sessions"] else ():
                booked.move(copies[label, "packets"], copies[label, "sessions"], DUPLICATE)
            self.per_class[label].take(of_label)
        entry.check(name)
        self.used_rules |= summary.used_rules
        if summary.fault:
            self.failures.append((name, summary.fault))
        if summary.evicted:
            self.warnings.append(
                f"{name}: {summary.evicted:,} sessions WERE ENDED TO MAKE ROOM, for more than "
                f"{self.rules.max_open:,} were open at a time: raise max_open if memory allows"
            )
        self.captures.append(
            {
                **summary.facts,
                **entry.to_dict(),
                "evicted": summary.evicted,
                "fault": summary.fault,
            }
        )
        if self.notes is not None:
            self.notes.book(summary.per_class)

    def finish(self) -> dict:
        """Split what is kept, check the account and write tables and manifest.

        Raises:
            DatasetError: nothing is left, and this is no shard.
        """
        for label, entry in self.per_class.items():
            entry.check(f"class {label or '(no label)'}")
        if self.notes is None and not self.labels:
            self._tell_lost()
            raise DatasetError(self._nothing_left())
        if self.notes is None:
            self.groups.spec.check_left_out(sorted(self.labels))
        conflicts = self.seen.conflicts()
        clusters, near = self._find_clusters()
        self.seen = Seen()
        pa.default_memory_pool().release_unused()
        together = None
        if clusters is not None and self.near.spec.action != "keep":
            repeats = clusters.repeats()
            unused = repeats if self.near.spec.action == "drop" else np.zeros_like(repeats)
            together = Together(clusters.cluster, unused, clusters.labels)
        of_split, of_classes, facts = self.groups.deal(list(self.labels), together)
        warnings, classes = list(self.warnings), sorted(self.labels)
        if self.notes is None:  # what a shard has too little of others may have
            self._tell_lost()
            warnings += of_classes
            for index, line in enumerate(self.lines or ()):
                if index not in self.used_rules:
                    warnings.append(f"line {line} of the label table labels no session")
        for warning in warnings:
            log.warning("%s", printable(warning))
        manifest = {
            "rules": self.rules.to_dict(),
            "mask_version": MASK_VERSION,
            "core": self.core,
            "versions": versions(),
            "seed": self.groups.seed,
            "split": str(self.groups.spec),
            "labels": "folder" if self.lines is None else "table",
            "classes": classes,
            "binary_classes": [name for name in BINARY_CLASSES if name in self.binary],
            "captures": self.captures,
            "per_class": per_class_of(self.per_class, of_split),
            "lost_classes": lost_classes(self.per_class),
            "label_conflicts": conflicts,
            "warnings": warnings,
        }
        if facts:
            manifest["split_facts"] = facts
        if near is not None:
            manifest["near_duplicates"] = near
        if self.lab is not None:
            manifest["lab"] = self.lab
        if self.notes is not None:
            manifest["shard"] = {
                **self.notes.finish(self.writer.folder, list(self.labels)),
                "used_rules": sorted(self.used_rules),
            }
            return self.writer.finish_split(self.groups.take, manifest)  # no split to check yet

        def found(read: Read) -> dict:
            several = None if clusters is None else clusters.of_several()
            leaks = find_leaks(read, manifest["split"], facts.get("left_out", ()), several)
            return {"leaks": leaks, "leaky": is_leaky(leaks)}

        return self.writer.finish_split(self.groups.take, manifest, found)

    def _find_clusters(self) -> tuple[Clusters | None, dict | None]:
        """Return near duplicates and what the manifest says of them, where they are wished for."""
        if self.near is None:
            return None, None
        clusters = self.near.find(self.writer.written_tiles())
        captures = [(row["capture"], row["kept"]["sessions"]) for row in self.captures]
        return clusters, self.near.told(clusters, list(self.labels), captures)

    def _tell_lost(self) -> None:
        """Say of which classes nothing is kept."""
        for label, what in lost_classes(self.per_class).items():
            why = ", ".join(f"{reason}: {packets}" for reason, packets in what["dropped"].items())
            log.warning(
                "class %s IS LOST: nothing is kept of its %d sessions and %d packets (%s)",
                printable(label),
                what["sessions"],
                what["packets"],
                why or "nothing could be read",
            )

    def _nothing_left(self) -> str:
        reasons = sum((entry.dropped for entry in self.per_class.values()), start=Entry().dropped)
        why = [f"{packets} packets: {reason}" for reason, packets in sorted(reasons.items())]
        why += [f"{capture}: {fault}" for capture, fault in self.failures[:3]]
        why += [f"{len(self.failures) - 3} more captures with a fault"] * (len(self.failures) > 3)
        return f"no session is left to make a dataset of ({'; '.join(why) or 'no packets'})"


def versions() -> dict[str, str]:
    """Return the versions a dataset depends on, by package."""
    return {
        "python": platform.python_version(),
        "xai_traffic": __version__,
        "numpy": np.__version__,
        "pyarrow": pa.__version__,
    }
