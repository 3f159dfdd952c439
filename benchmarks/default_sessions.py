"""Sessions of the model to start with: of captures whose licence allows it, split by capture."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from record_datasets import write_labels
from record_protocols import ATTACKS, MALWARE_LABELS, protocol_rows

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.account import Entry, per_class_of, split_sizes
from xai_traffic.data.build import convert
from xai_traffic.data.column_hashes import hash_texts
from xai_traffic.data.deal import by_first_appearance, cells_of, deal_cells
from xai_traffic.data.leaks import find_leaks, is_leaky
from xai_traffic.data.split import PLACES, UNUSED
from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.data.writer import DatasetWriter

RULES = ReadingRules(layers="payload")
"""Of every session only what programs said to each other: no header is seen, so none is learnt."""

SPLIT, SHARES = "capture:60/20/20", (60.0, 20.0, 20.0)
"""A fifth for validation: temperature and rules are made on it."""

MOST = 8
"""Sessions of one capture and label that are used: one capture has 93 of 133 of LDAP, and a model
of those knows that capture."""

LICENCES = {
    "OISF/suricata-verify": "MIT",
    "zeek/zeek": "BSD-3-Clause",
    "ntop/nDPI": "LGPL-3.0",
    "stratosphereips/StratosphereLinuxIPS": "GPL-2.0",
}
"""Sources of captures that state a licence, all of which allow use and redistribution."""

SILENT = (
    "mmguero-dev/Malcolm-PCAP",
    "elcabezzonn/Pcaps",
    "pan-unit42/wireshark-tutorial-Dridex-traffic",
)
"""Sources that state none: never trained on."""


def malware_sources(captures: pathlib.Path) -> dict[str, str]:
    """Return the repository of each capture of malware."""
    with open(captures / "malware/manifest.csv", newline="", encoding="utf-8") as stream:
        return {row["path"]: row["repo"] for row in csv.DictReader(stream)}


def malware_rows(captures: pathlib.Path, sources: Iterable[str]) -> list[tuple[str, str, str, str]]:
    """Return rows of a label table: malicious sessions in the captures of some sources."""
    of, wanted = malware_sources(captures), set(sources)
    with open(MALWARE_LABELS, newline="", encoding="utf-8") as stream:
        rows = [tuple(row.values()) for row in csv.DictReader(stream)]
    return [row for row in rows if of[row[0]] in wanted]


def protocol_sessions(captures: pathlib.Path) -> list[tuple[str, str, str, str]]:
    """Return rows of a label table: the 16 protocols, attacks left out."""
    return [row for row in protocol_rows(captures) if row[0] not in ATTACKS]


def make_sessions(
    captures: pathlib.Path, folder: pathlib.Path, *, families: bool, seed: int
) -> Dataset:
    """Return the dataset to train on, made where it does not stand.

    Args:
        captures: folder of the sets of captures.
        folder: to write into.
        families: whether malicious sessions of the licensed sources are classes too.
        seed: of the split.
    """
    path = folder / ("sessions-and-families" if families else "sessions")
    if path.exists():
        return open_dataset(path)
    rows, inputs = protocol_sessions(captures), [captures / "protocols"]
    if families:
        rows, inputs = rows + malware_rows(captures, LICENCES), [*inputs, captures / "malware"]
    labels, whole = folder / "labels.csv", folder / f"{path.name}-whole"
    write_labels(labels, rows)
    convert(
        inputs, whole, rules=RULES, split=SPLIT, seed=seed, labels=labels, overwrite=whole.exists()
    )
    return deal_again(open_dataset(whole), path, seed)


def deal_again(source: Dataset, path: pathlib.Path, seed: int) -> Dataset:
    """Write a dataset again with at most MOST sessions of a capture and label in its splits.

    What is over is in no split. Of classes of one capture all are used.
    """
    labels = source.labels.astype(np.int64)
    groups, _ = by_first_appearance(hash_texts(source.table["capture"]))
    rng = np.random.Generator(np.random.Philox(seed))
    used = np.zeros(len(source), bool)
    for label in range(len(source.classes)):
        own = np.flatnonzero(labels == label)
        several = len(np.unique(groups[own])) > 1
        for group in np.unique(groups[own]):
            mine = rng.permutation(own[groups[own] == group])
            used[mine[: MOST if several else None]] = True
    kept, _ = by_first_appearance(groups[used])
    dealt = deal_cells(cells_of(kept, labels[used]), source.classes, SHARES, seed)
    split = np.full(len(source), UNUSED, object)
    split[used] = np.array(PLACES, object)[dealt[kept]]
    table = source.table
    place = table.column_names.index("split")
    table = table.set_column(place, "split", pa.array(split.tolist(), pa.string()))
    sizes = split_sizes(table["label"], table["split"])
    accounts = {name: Entry.from_dict(own) for name, own in source.manifest["per_class"].items()}
    manifest = {key: value for key, value in source.manifest.items() if key not in _MADE_ANEW}
    manifest |= {
        "per_class": per_class_of(accounts, sizes),
        "split_facts": {"most_of_a_capture_and_label": MOST},
    }
    path.mkdir(parents=True)
    with DatasetWriter(path) as writer:
        writer.append(source.tiles, source.packets)

        def found(read) -> dict:
            leaks = find_leaks(read, SPLIT)
            return {"leaks": leaks, "leaky": is_leaky(leaks)}

        writer.finish(table, manifest, found)
    return open_dataset(path)


_MADE_ANEW = ("format", "schema", "holds", "leaks", "leaky", "warnings")
