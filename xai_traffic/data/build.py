"""Make a dataset: labelled captures, or an unmasked dataset, to a folder of tiles and tables."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import platform
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from xai_traffic import __version__
from xai_traffic.capture.core import core_name
from xai_traffic.capture.filters import compile_filter
from xai_traffic.capture.images import STREAM_TILES
from xai_traffic.capture.masking import MASK_VERSION, mask_name
from xai_traffic.capture.reader import STANDARD_INPUT, capture_name, find_captures
from xai_traffic.capture.records import PACKET
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import (
    BELOW_MINIMUM,
    NO_PAYLOAD,
    packet_table,
    session_table,
)
from xai_traffic.data.account import (
    DUPLICATE,
    NO_LABEL,
    UNLABELLED,
    Entry,
    lost_classes,
    per_class_of,
    summarise,
)
from xai_traffic.data.derive import derive
from xai_traffic.data.duplicates import Seen, content_hashes, label_conflicts
from xai_traffic.data.folder import is_dataset, new_folder
from xai_traffic.data.image_sets import (
    find_image_sets,
    label_of,
    read_image_set,
    rules_of_images,
)
from xai_traffic.data.labels import (
    BINARY_CLASSES,
    LabelRule,
    apply_label_table,
    label_by_folder,
    read_label_table,
)
from xai_traffic.data.split import DEFAULT_SPLIT, SPLITS, SplitSpec, assign_split, parse_split
from xai_traffic.data.spool import Spool, facts_of_file, spool_capture
from xai_traffic.data.store import SESSION_SCHEMA, DatasetWriter, open_dataset
from xai_traffic.errors import CaptureError, ConfigError, DatasetError
from xai_traffic.terminal import log, printable, progress

__all__ = ["Conversion", "convert", "summarise"]

NO_PACKETS = np.zeros(0, PACKET)


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What `convert` made.

    Args:
        dataset: its folder.
        manifest: as `manifest.json` has it.
        failures: (capture, reason) of every capture that was not read to its end; what came
            before the fault is in the dataset.
    """

    dataset: pathlib.Path
    manifest: dict
    failures: list[tuple[str, str]]


def convert(
    inputs: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    rules: ReadingRules,
    split: str | None = None,
    labels: str | os.PathLike | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Conversion:
    """Make a dataset of captures and folders of them, or a masked one of a dataset.

    Args:
        inputs: captures and folders; or one dataset that was not masked: then `rules.mask` is
            put on it, and its reading rules, labels and split stay; or image sets, see
            `image_sets.py`.
        out: the folder to make; it appears when everything is written, or not at all.
        rules: how captures are read.
        split: see `data/split.py`; None is DEFAULT_SPLIT.
        labels: label table, see `data/labels.py`; None labels by folder.
        seed: of the split.
        overwrite: replace `out` if it is a dataset.

    Raises:
        ConfigError: rules, split or labels are wrong.
        CaptureError: an input does not exist.
        DatasetError: `out` is in the way, or no session is left.
    """
    out = pathlib.Path(out)
    rules = dataclasses.replace(rules, mask=mask_name(rules.mask))
    compile_filter(rules.filter)
    datasets = [path for path in inputs if is_dataset(path)]
    if datasets and len(inputs) > 1:
        raise ConfigError(f"{datasets[0]} is a dataset: convert it alone, without other inputs")
    try:
        if datasets:
            source = open_dataset(datasets[0])
            _check_derived(source.manifest, rules, split, labels)
            return Conversion(out, derive(source, out, rules.mask, overwrite=overwrite), [])
        spec = parse_split(split or DEFAULT_SPLIT)
        image_sets = find_image_sets(inputs)
        if image_sets:
            rules = rules_of_images(rules, labels)
        table = read_label_table(labels) if labels is not None else None
        if table is None and STANDARD_INPUT in map(os.fspath, inputs):
            raise ConfigError("standard input lies in no folder that could label it: add --labels")
        with new_folder(out, overwrite) as folder:
            making = _Making(rules, table)
            found = image_sets or find_captures(inputs)
            spool_file = folder.parent / "spool"
            with DatasetWriter(folder) as writer:
                for name, path in progress(found, "convert", total=len(found)):
                    root = _root(path, inputs)
                    if image_sets:
                        making.add_images(name, path, root, writer)
                    else:
                        making.add(name, path, root, spool_file, writer)
                manifest = making.finish(writer, spec, seed)
        return Conversion(out, manifest, making.failures)
    except OSError as error:
        raise DatasetError(f"{out}: the dataset could not be written: {error}") from error


def _root(path: pathlib.Path, inputs: Sequence[str | os.PathLike]) -> pathlib.Path:
    """Return the input that a capture came from."""
    given = [pathlib.Path(each) for each in inputs]
    return next(each for each in given if each == path or each in path.parents)


def _check_derived(
    manifest: dict, rules: ReadingRules, split: str | None, labels: str | os.PathLike | None
) -> None:
    """Refuse wishes that a derived dataset cannot meet; what was left at its default is no wish."""
    theirs, default = manifest["rules"], ReadingRules()
    for field in dataclasses.fields(rules):
        wish = getattr(rules, field.name)
        if field.name != "mask" and wish not in (theirs[field.name], getattr(default, field.name)):
            raise ConfigError(
                f"{field.name} {wish!r}: the dataset was read with {theirs[field.name]!r}; only "
                "the mask can change, convert the captures for anything else"
            )
    if split and split != manifest["split"]:
        raise ConfigError(f"split {split!r}: a derived dataset keeps its split: leave it out")
    if labels is not None:
        raise ConfigError("labels: a derived dataset keeps its labels: convert the captures")


class _Making:
    """A dataset in the making: what is kept so far, and the account of it."""

    def __init__(self, rules: ReadingRules, table: list[LabelRule] | None):
        self.rules, self.label_table = rules, table
        self.failures: list[tuple[str, str]] = []
        self.captures: list[dict] = []
        self.per_class: dict[str, Entry] = defaultdict(Entry)
        self.seen = Seen()
        self.kept: list[pa.Table] = []
        self.used_rules: set[int] = set()

    def add(
        self,
        name: str,
        path: pathlib.Path,
        root: pathlib.Path,
        spool_file: pathlib.Path,
        writer: DatasetWriter,
    ) -> None:
        """Read a capture and write the sessions of it that are kept."""
        by_folder = label_by_folder(path, root) if self.label_table is None else (NO_LABEL, None)
        facts = {"capture": name, **facts_of_file(path)}
        entry, fault = Entry(), None
        try:
            spool = spool_capture(path, self.rules, spool_file)
            fault = spool.fault
        except CaptureError as error:
            spool, fault = None, str(error)
        of_capture = self.per_class[by_folder[0]]
        if spool is not None:
            entry.drop_packets(spool.dropped)
            of_capture.drop_packets(spool.dropped)
            labels, binary = self._labels(name, spool, by_folder)
            reasons = self._write(name, spool, labels, binary, writer)
            entry.add(spool.sessions["packets"], reasons)
            for label in np.unique(labels).tolist():
                of = labels == label
                self.per_class[label].add(spool.sessions["packets"][of], reasons[of])
            entry.check(name, spool.seen)
        if fault:
            fault = fault.removeprefix(capture_name(path)).lstrip(",: ")
            self.failures.append((name, fault))
        self.captures.append({**facts, **entry.to_dict(), "fault": fault})

    def _labels(
        self, name: str, spool: Spool, by_folder: tuple[str, str | None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return label and binary label of each session, object arrays; NO_LABEL for none."""
        if self.label_table is None:
            which = np.zeros(len(spool.sessions), np.int64)
            pairs = [by_folder]
        else:
            which = apply_label_table(self.label_table, name, spool.sessions, spool.first_wire())
            self.used_rules.update(which.tolist())
            pairs = [(rule.label, rule.binary_label) for rule in self.label_table]
            pairs.append((NO_LABEL, None))  # where index -1 leads
        columns = np.empty((len(pairs), 2), object)
        columns[:] = pairs
        return columns[which, 0], columns[which, 1]

    def _write(
        self,
        name: str,
        spool: Spool,
        labels: np.ndarray,
        binary: np.ndarray,
        writer: DatasetWriter,
    ) -> np.ndarray:
        """Write the kept sessions; return why each of the others is dropped, "" for the kept."""
        sessions = spool.sessions
        reasons = np.full(len(sessions), "", object)
        if self.rules.layers == "payload":
            reasons[sessions["payload_bytes"] == 0] = NO_PAYLOAD
        reasons[sessions["packets"] < self.rules.min_packets] = BELOW_MINIMUM
        reasons[labels == NO_LABEL] = UNLABELLED
        for rows, piece in spool.pieces(np.flatnonzero(reasons == "")):
            counts = piece.sessions["tiles"].astype(np.int64)
            hashes = content_hashes(piece.tiles, counts)
            fresh = self.seen.keep(labels[rows], hashes)
            reasons[rows[~fresh]] = DUPLICATE
            rows = rows[fresh]
            table = session_table(
                piece.sessions[fresh],
                name,
                piece.packet_rows[fresh],
                community_id_seed=self.rules.community_id_seed,
            )
            self._keep(table, labels[rows], binary[rows], np.asarray(hashes, object)[fresh], writer)
            writer.append(
                piece.tiles[np.repeat(fresh, counts)],
                packet_table(piece.packets[np.repeat(fresh, piece.packet_rows)]),
            )
        return reasons

    def _keep(
        self,
        table: pa.Table,
        labels: np.ndarray,
        binary: np.ndarray,
        hashes: np.ndarray,
        writer: DatasetWriter,
    ) -> None:
        """Keep the rows of sessions whose tiles the writer gets next."""
        counts = table["tiles"].to_numpy().astype(np.int64)
        first = pa.array(np.cumsum(counts) - counts + writer.tiles)
        table = table.set_column(table.column_names.index("first_tile"), "first_tile", first)
        for column, values in (
            ("label", labels),
            ("binary_label", binary),
            ("content_hash", hashes),
        ):
            table = table.append_column(column, pa.array(values, pa.string()))
        self.kept.append(table)

    def add_images(
        self, name: str, path: pathlib.Path, root: pathlib.Path, writer: DatasetWriter
    ) -> None:
        """Read an image set and write its images but duplicates; none has packets."""
        facts = {"capture": name, **facts_of_file(path)}
        entry, fault = Entry(), None
        binary_label = label_of(path, root)[1]
        try:
            for table, tiles, labels in read_image_set(name, path, root):
                hashes = content_hashes(tiles, table["tiles"].to_numpy())
                fresh = self.seen.keep(labels, hashes)
                reasons = np.where(fresh, "", DUPLICATE).astype(object)
                packets = np.zeros(len(labels), np.int64)
                entry.add(packets, reasons)
                for label in np.unique(labels).tolist():
                    of = labels == label
                    self.per_class[label].add(packets[of], reasons[of])
                binary = np.full(int(fresh.sum()), binary_label, object)
                hashes = np.asarray(hashes, object)[fresh]
                self._keep(table.filter(pa.array(fresh)), labels[fresh], binary, hashes, writer)
                writer.append(tiles[np.repeat(fresh, STREAM_TILES)], packet_table(NO_PACKETS))
        except CaptureError as error:
            fault = str(error).removeprefix(capture_name(path)).lstrip(",: ")
            self.failures.append((name, fault))
        self.captures.append({**facts, **entry.to_dict(), "fault": fault})

    def finish(self, writer: DatasetWriter, spec: SplitSpec, seed: int) -> dict:
        """Split what is kept, check the account and write tables and manifest."""
        for label, entry in self.per_class.items():
            entry.check(f"class {label or '(no label)'}")
        lost = lost_classes(self.per_class)
        for label, what in lost.items():
            why = ", ".join(f"{reason}: {packets}" for reason, packets in what["dropped"].items())
            log.warning(
                "class %s IS LOST: nothing is kept of its %d sessions and %d packets (%s)",
                printable(label),
                what["sessions"],
                what["packets"],
                why or "nothing could be read",
            )
        if not self.kept:
            raise DatasetError(self._nothing_left())
        table = pa.concat_tables(self.kept)
        split, warnings = assign_split(table, spec, seed)
        for index, rule in enumerate(self.label_table or ()):
            if index not in self.used_rules:
                warnings.append(f"line {rule.line} of the label table labels no session")
        for warning in warnings:
            log.warning("%s", printable(warning))
        names = np.asarray(SPLITS, object)[split]
        table = table.append_column("split", pa.array(names, pa.string()))
        columns = [table[name].to_pylist() for name in ("label", "content_hash")]
        binary = table["binary_label"].drop_null().unique().to_pylist()
        manifest = {
            "rules": self.rules.to_dict(),
            "mask_version": MASK_VERSION,
            "core": core_name(),
            "versions": versions(),
            "seed": seed,
            "split": str(spec),
            "labels": "folder" if self.label_table is None else "table",
            "classes": sorted(set(columns[0])),
            "binary_classes": [name for name in BINARY_CLASSES if name in binary],
            "captures": self.captures,
            "per_class": per_class_of(self.per_class, table),
            "lost_classes": lost,
            "label_conflicts": label_conflicts(*columns),
            "warnings": warnings,
        }
        return writer.finish(table.select(SESSION_SCHEMA.names), manifest)

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
