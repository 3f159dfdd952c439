"""Make a dataset: labelled captures, or an unmasked dataset, to a folder of tiles and tables."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import platform
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence

import numpy as np
import pyarrow as pa

from xai_traffic import __version__
from xai_traffic.capture.core import core_name
from xai_traffic.capture.filters import compile_filter
from xai_traffic.capture.inputs import STANDARD_INPUT, Found, find_inputs
from xai_traffic.capture.masking import MASK_VERSION, mask_name
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import packet_table
from xai_traffic.data.account import DUPLICATE, Entry, lost_classes, per_class_of, summarise
from xai_traffic.data.derive import derive
from xai_traffic.data.duplicates import Seen, hex_names, label_conflicts
from xai_traffic.data.folder import is_dataset, new_folder
from xai_traffic.data.image_sets import (
    find_image_sets,
    read_image_parts,
    rules_of_images,
)
from xai_traffic.data.labels import (
    BINARY_CLASSES,
    LabelRule,
    label_by_folder,
    read_label_table,
)
from xai_traffic.data.parts import Job, Part, Summary, mix
from xai_traffic.data.split import DEFAULT_SPLIT, SPLITS, SplitSpec, assign_groups, parse_split
from xai_traffic.data.store import DatasetWriter, open_dataset
from xai_traffic.data.workers import read_captures
from xai_traffic.errors import ConfigError, DatasetError
from xai_traffic.terminal import byte_progress, log, printable

__all__ = ["Conversion", "convert", "summarise"]


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
    workers: int = 1,
    lists: Sequence[str | os.PathLike] = (),
) -> Conversion:
    """Make a dataset of captures and folders of them, or a masked one of a dataset.

    Args:
        inputs: captures, folders and patterns, see `find_inputs`; or one dataset that was not
            masked: then `rules.mask` is put on it, and its reading rules, labels and split stay;
            or image sets, see `image_sets.py`.
        out: the folder to make; it appears when everything is written, or not at all.
        rules: how captures are read.
        split: see `data/split.py`; None is DEFAULT_SPLIT.
        labels: label table, see `data/labels.py`; None labels by folder.
        seed: of the split.
        overwrite: replace `out` if it is a dataset.
        workers: captures read side by side, each by a process; the dataset is the same. A script
            that asks for more than 1 needs `if __name__ == "__main__":`, as `multiprocessing` says.
        lists: files that name more captures, see `find_inputs`.

    Raises:
        ConfigError: rules, split or labels are wrong.
        CaptureError: an input does not exist.
        DatasetError: `out` is in the way, or no session is left.
    """
    out = pathlib.Path(out)
    rules = dataclasses.replace(rules, mask=mask_name(rules.mask))
    compile_filter(rules.filter)
    datasets = [path for path in inputs if is_dataset(path)]
    if datasets and (len(inputs) > 1 or lists):
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
        found = [
            Found(name, path, _root(path, inputs)) for name, path in image_sets
        ] or find_inputs(inputs, lists=lists)
        if table is None and any(os.fspath(each.path) == STANDARD_INPUT for each in found):
            raise ConfigError("standard input lies in no folder that could label it: add --labels")
        with (
            new_folder(out, overwrite) as folder,
            DatasetWriter(folder) as writer,
            byte_progress(sum(map(_size, found)), "convert") as told,
        ):
            making = _Making(rules, table, writer)
            if image_sets:
                readings = (read_image_parts(*each) for each in found)
            else:
                jobs = [_job(each, rules, table, folder.parent) for each in found]
                readings = read_captures(jobs, workers, told)
            with contextlib.closing(readings):  # it ends the workers, whatever happens here
                for parts in readings:
                    with contextlib.closing(parts):
                        making.add(parts)
            manifest = making.finish(spec, seed)
        return Conversion(out, manifest, making.failures)
    except OSError as error:
        raise DatasetError(f"{out}: the dataset could not be written: {error}") from error


def _root(path: pathlib.Path, inputs: Sequence[str | os.PathLike]) -> pathlib.Path:
    """Return the input that an image set came from."""
    given = [pathlib.Path(each) for each in inputs]
    return next(each for each in given if each == path or each in path.parents)


def _job(
    found: Found, rules: ReadingRules, table: list[LabelRule] | None, folder: pathlib.Path
) -> Job:
    label = label_by_folder(found.path, found.root) if table is None else None
    return Job(found.name, found.path, rules, label, table, folder)


def _size(found: Found) -> int:
    try:
        return found.path.stat().st_size
    except OSError:  # reading it says why
        return 0


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
    """A dataset in the making: what is kept so far, and the account of it.

    Of a session it keeps 32 bytes in memory, and 16 of each image that a label has had.
    """

    def __init__(self, rules: ReadingRules, table: list[LabelRule] | None, writer: DatasetWriter):
        self.rules, self.label_table, self.writer = rules, table, writer
        self.failures: list[tuple[str, str]] = []
        self.captures: list[dict] = []
        self.warnings: list[str] = []
        self.per_class: dict[str, Entry] = defaultdict(Entry)
        self.binary: set[str] = set()
        self.seen = Seen()
        self.labels: dict[str, int] = {}
        self.kept: list[tuple[np.ndarray, ...]] = []  # label, capture, flow, digest of sessions
        self.used_rules: set[int] = set()

    def add(self, parts: Generator[Part, None, Summary]) -> None:
        """Read a capture and write the sessions of it that are kept."""
        copies: Counter[tuple[str, str]] = Counter()
        while True:
            try:
                part = next(parts)
            except StopIteration as end:
                summary = end.value
                break
            copies.update(self._write(part))
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

    def _write(self, part: Part) -> Counter[tuple[str, str]]:
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
            packets = packets[np.repeat(fresh, table["packet_rows"].to_numpy())]
            table = table.filter(pa.array(fresh))
            counts, labels = counts[fresh], labels[fresh]
        first = pa.array(self.writer.tiles + np.cumsum(counts) - counts, pa.int64())
        table = table.set_column(table.column_names.index("first_tile"), "first_tile", first)
        self.binary.update(table["binary_label"].drop_null().unique().to_pylist())
        self.writer.append_sessions(table)
        self.writer.append(tiles, packet_table(packets))
        ids = {label: self.labels.setdefault(label, len(self.labels)) for label in set(labels)}
        self.kept.append(
            (
                np.fromiter(map(ids.__getitem__, labels), np.int32, len(labels)),
                np.full(len(labels), len(self.captures), np.int32),
                part.flows[fresh],
                part.digests[fresh],
            )
        )
        return copies

    def finish(self, spec: SplitSpec, seed: int) -> dict:
        """Split what is kept, check the account and write tables and manifest."""
        for label, entry in self.per_class.items():
            entry.check(f"class {label or '(no label)'}")
        lost = self._lost()
        if not self.writer.tiles and not any(len(part[0]) for part in self.kept):
            raise DatasetError(self._nothing_left())
        labels, captures, flows, digests = (
            np.concatenate(part) for part in zip(*self.kept, strict=True)
        )
        self.kept, self.seen = [], Seen()
        pa.default_memory_pool().release_unused()
        classes = sorted(self.labels)
        places = np.array([classes.index(name) for name in self.labels], np.int64)
        labels = places[labels]
        groups = captures if spec.key == "capture" else mix(flows ^ mix(captures.astype(np.uint64)))
        split, warnings = assign_groups(
            np.asarray(classes, object),
            labels,
            groups,
            lambda rows: hex_names(digests[rows]),
            spec,
            seed,
        )
        warnings = self.warnings + warnings
        for index, rule in enumerate(self.label_table or ()):
            if index not in self.used_rules:
                warnings.append(f"line {rule.line} of the label table labels no session")
        for warning in warnings:
            log.warning("%s", printable(warning))
        cells, sizes = np.unique(labels * len(SPLITS) + split, return_counts=True)
        of_split = {
            (classes[cell // len(SPLITS)], SPLITS[cell % len(SPLITS)]): size
            for cell, size in zip(cells.tolist(), sizes.tolist(), strict=True)
        }
        manifest = {
            "rules": self.rules.to_dict(),
            "mask_version": MASK_VERSION,
            "core": core_name(),
            "versions": versions(),
            "seed": seed,
            "split": str(spec),
            "labels": "folder" if self.label_table is None else "table",
            "classes": classes,
            "binary_classes": [name for name in BINARY_CLASSES if name in self.binary],
            "captures": self.captures,
            "per_class": per_class_of(self.per_class, of_split),
            "lost_classes": lost,
            "label_conflicts": label_conflicts(classes, labels, digests),
            "warnings": warnings,
        }
        return self.writer.finish_split(split, manifest)

    def _lost(self) -> dict[str, dict]:
        """Return the classes of which nothing is kept, and say so."""
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
        return lost

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
