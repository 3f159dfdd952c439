"""The cells of the record: which sessions, hidden how, split how; made of the captures by seed."""

from __future__ import annotations

import csv
import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.build import convert
from xai_traffic.data.duplicates import content_digests, hex_names
from xai_traffic.data.image_sets import stream_sessions
from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.data.writer import DatasetWriter

HERE = pathlib.Path(__file__).parent
MALWARE_LABELS = HERE / "malware_labels.csv"

MASKS = ("none", "addresses+ports", "addresses+ports+ids+window+options")
TRIO = ("Neris", "Virut", "Nsis-ay")
SEVERAL_HOSTS = (*TRIO, "Zeus", "SMB", "Weibo")
"""Classes of USTC-TFC2016 whose sessions are of more than one host."""

PORTS_HIDDEN, HOSTS_HIDDEN = "ports", "addresses+ports"
LEAST_TEST, LEAST_TRAIN = 20, 10
"""Sessions of a class that is asked for in another project's captures."""

ATTACKS = (
    "TLS/suricata__bug-5713-01__TLSv1-Extracted-MaliciousC2.pcap",
    "QUIC/zeek__quic__merlinc2_Zeek_example.pcapng",
    "SMB/zeek__smb__SMBGhost.pcap",
    "TLS/zeek__tls__heartbleed.pcap",
    "TLS/zeek__tls__heartbleed-success.pcap",
    "TLS/zeek__tls__heartbleed-encrypted.pcap",
    "TLS/zeek__tls__heartbleed-encrypted-success.pcap",
    "HTTP/zeek__http__smuggle-http-request.pcap",
)
"""Captures of protocols that are not benign."""

TESTED, MOST = 3, 200
"""One in so many families of malware is for the test, 3 for validation; most sessions of one."""

PAYLOAD_ONLY = {"augment.header_bytes": 4, "augment.header_dropout": 0.0}
"""A protocol is known by the first bytes of its payloads: these are never lost."""

LOSSY = {**PAYLOAD_ONLY, "augment.packet_dropout": 0.5}
"""For few captures: the course of their packets is easily learnt by heart."""

FEW = {"batch_size": 32, "epochs": 40, "optimizer.ema": 0.99}
"""For a thousand sessions."""

MANY = {"epochs": 6, "batch_size": 128}
"""For a hundred thousand."""

Make = Callable[[pathlib.Path, pathlib.Path, int], Dataset]
Source = Callable[[pathlib.Path, pathlib.Path], Dataset]


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
    """

    name: str
    title: str
    make: Make
    task: str = "multiclass"
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    payload: tuple[Source, Mapping[str, Any]] | None = None


def ustc(mask: str, split: str = "random:70/10/20", classes: tuple[str, ...] = (), **rules) -> Make:
    """Return what reads USTC-TFC2016's prefixes, or some of its classes, under a mask."""

    def make(captures: pathlib.Path, work: pathlib.Path, seed: int) -> Dataset:
        folder = captures / "ustc/session_prefix"
        inputs = [folder]
        if classes:
            inputs = [path for name in classes for path in folder.glob(f"*/{name}.pcap")]
        about = "-".join([str(len(classes) or "all"), *rules.values(), split.replace("/", "_")])
        plain = work / f"data/ustc-{about}-{seed}"
        if not plain.exists():
            read = ReadingRules(rule="five_tuple", **rules)
            convert(inputs, plain, rules=read, split=split, seed=seed)
        return masked(plain, mask)

    return make


def in_time(captures: pathlib.Path, work: pathlib.Path, seed: int) -> Dataset:
    """Return USTC-TFC2016 with the last fifth of each class as the test, HOSTS_HIDDEN.

    Classes were captured one after the other, so that one clock for all puts whole classes on one
    side; here each class has its own. Seeds draw the validation split alone.
    """
    path = work / f"data/ustc-in-time-{seed}"
    if not path.exists():
        source = ustc(HOSTS_HIDDEN)(captures, work, 0)
        begin = source.table["first_time"].cast("int64").to_numpy()
        split = np.full(len(source), "train", object)
        for label in range(len(source.classes)):
            own = np.flatnonzero(source.labels == label)
            own = own[np.argsort(begin[own], kind="stable")]
            split[own[-len(own) // 5 :]] = "test"
        drawn = np.random.Generator(np.random.Philox(seed)).random(len(split)) < 0.1
        split[(split == "train") & drawn] = "validation"
        rewrite(source, path, np.arange(len(source)), split)
    return open_dataset(path)


def masked(plain: pathlib.Path, mask: str) -> Dataset:
    """Return a dataset with a mask on it, made where it does not stand."""
    if mask == "none":
        return open_dataset(plain)
    path = plain.with_name(f"{plain.name}-{mask}")
    if not path.exists():
        rules = dataclasses.replace(open_dataset(plain).rules, mask=mask)
        convert([plain], path, rules=rules)
    return open_dataset(path)


def payload_of(dataset: Dataset, source: Dataset, path: pathlib.Path) -> Dataset:
    """Return the sessions of a dataset by their payloads alone, in the same splits.

    Sessions without a payload are left out, and of equal ones of one label all but the first.

    Args:
        source: the same captures read with layers payload; its own split is of no account.
        path: where it stands, or is made.
    """
    if path.exists():
        return open_dataset(path)
    columns = (dataset.table[name].to_pylist() for name in ("capture", "session", "split"))
    split_of = {(capture, session): split for capture, session, split in zip(*columns, strict=True)}
    keys = zip(*(source.table[name].to_pylist() for name in ("capture", "session")), strict=True)
    split = np.array([split_of.get(key, "") for key in keys], object)
    return rewrite(source, path, np.flatnonzero(split != ""), split)


def ustc_payload(captures: pathlib.Path, work: pathlib.Path) -> Dataset:
    """Return USTC-TFC2016's prefixes by their payloads."""
    return ustc("none", layers="payload")(captures, work, 0)


def labelled_payload(captures: pathlib.Path, work: pathlib.Path) -> Dataset:
    """Return the protocols and the malicious sessions by their payloads."""
    path = work / "data/labelled-payload"
    if not path.exists():
        labels = work / "labelled.csv"
        write_labels(labels, [*malware_rows(), *protocol_rows(captures)])
        inputs = [captures / "malware", captures / "protocols"]
        convert(inputs, path, rules=ReadingRules(layers="payload"), labels=labels)
    return open_dataset(path)


def published_images(deduplicated: bool) -> Make:
    """Return what reads the published payload images with their own test split.

    One in ten training images is for validation, by seed. Deduplicated, an image that training
    has under the same label is no test image, and no image is there twice.
    """

    def make(captures: pathlib.Path, work: pathlib.Path, seed: int) -> Dataset:
        path = work / f"data/l7-{'once' if deduplicated else 'published'}-{seed}"
        if path.exists():
            return open_dataset(path)
        sets = [np.load(captures / f"ustc/session_l7_28x28/{n}.npz") for n in ("train", "test")]
        classes = [str(name) for name in sets[0]["classes"]]
        images = np.concatenate([each["images"] for each in sets]).reshape(-1, 784)
        labels = np.concatenate([each["labels"] for each in sets]).astype(np.int64)
        split = np.repeat(np.array(["train", "test"]), [len(each["labels"]) for each in sets])
        drawn = np.random.Generator(np.random.Philox(seed)).random(len(split)) < 0.1
        split = np.where((split == "train") & drawn, "validation", split)
        if deduplicated:
            keys = np.concatenate([images, labels[:, None].astype(np.uint8)], axis=1)
            _, first = np.unique(keys, axis=0, return_index=True)
            kept = np.sort(first)
            images, labels, split = images[kept], labels[kept], split[kept]
        order = np.argsort(np.array(classes))
        place = np.argsort(order)
        return _write_images(path, images, place[labels], [classes[k] for k in order], split, seed)

    return make


def _write_images(path, images, labels, classes, split, seed: int) -> Dataset:
    table, tiles = stream_sessions("images", images)
    columns = {
        "label": [classes[label] for label in labels],
        "binary_label": pa.nulls(len(labels), pa.string()),
        "content_hash": hex_names(content_digests(tiles, table["tiles"].to_numpy())),
        "split": split.tolist(),
    }
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values, pa.string()))
    rules = ReadingRules(layout="ustc28", layers="payload").to_dict()
    return _write(path, table, tiles, None, {"rules": rules, "classes": classes, "seed": seed})


def _write(path, table: pa.Table, tiles, packets: pa.Table | None, manifest: dict) -> Dataset:
    half = path.with_name(path.name + ".part")
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir(parents=True)
    counts = table["tiles"].to_numpy().astype(np.int64)
    place = table.column_names.index("first_tile")
    table = table.set_column(place, "first_tile", pa.array(np.cumsum(counts) - counts))
    with DatasetWriter(half) as writer:
        writer.append(tiles, packets if packets is not None else pa.table({}))
        writer.finish(table, manifest)
    half.rename(path)
    return open_dataset(path)


def protocols(work: pathlib.Path, captures: pathlib.Path, seed: int, split: str) -> Dataset:
    """Return the 16 protocols, sessions on their ports only, with nothing hidden."""
    path = work / f"data/protocols-{split.replace('/', '_')}-{seed}"
    if not path.exists():
        labels = work / "protocols.csv"
        write_labels(labels, protocol_rows(captures))
        convert(
            [captures / "protocols"],
            path,
            rules=ReadingRules(),
            split=split,
            seed=seed,
            labels=labels,
        )
    return open_dataset(path)


def protocol_rows(captures: pathlib.Path) -> list[tuple[str, str, str, str]]:
    """Return rows of a label table: the sessions of each capture that its manifest speaks of."""
    rows = []
    with open(captures / "protocols/manifest.csv", newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            ports = [each.split("/") for each in row["ports"].split() if "/" in each]
            told = " or ".join(f"({protocol} and port {port})" for protocol, port in ports)
            rows.append((row["path"], told, row["label"], "Benign"))
    return rows


def malware_rows() -> list[tuple[str, str, str, str]]:
    """Return rows of a label table: the malicious sessions of each capture, family by family."""
    with open(MALWARE_LABELS, newline="", encoding="utf-8") as stream:
        return [tuple(row.values()) for row in csv.DictReader(stream)]


def write_labels(path: pathlib.Path, rows: list[tuple[str, str, str, str]]) -> None:
    """Write a label table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(("capture", "filter", "label", "binary_label"))
        table.writerows(rows)


def by_capture(captures: pathlib.Path, work: pathlib.Path, seed: int) -> Dataset:
    """Return the protocols split by capture, ports hidden."""
    split = "capture:70/10/20"
    return masked(protocols(work, captures, seed, split).path, PORTS_HIDDEN)


def by_source(train_on: str) -> Make:
    """Return what trains on one project's captures and tests on the other's, ports hidden."""

    def make(captures: pathlib.Path, work: pathlib.Path, seed: int) -> Dataset:
        path = work / f"data/protocols-from-{train_on}-{seed}"
        if not path.exists():
            plain = protocols(work, captures, seed, "capture:85/15/0")
            whole = masked(plain.path, PORTS_HIDDEN)
            split = np.asarray(whole.table["split"].to_pylist(), object)
            names = whole.table["capture"].to_pylist()
            away = np.array([not name.split("/")[-1].startswith(train_on) for name in names])
            split[away] = "test"
            test = np.bincount(whole.labels[away], minlength=len(whole.classes))
            train = np.bincount(whole.labels[split == "train"], minlength=len(whole.classes))
            asked = (test >= LEAST_TEST) & (train >= LEAST_TRAIN)
            rewrite(whole, path, np.flatnonzero(asked[whole.labels]), split)
        return open_dataset(path)

    return make


def families_left_out(captures: pathlib.Path, work: pathlib.Path, seed: int) -> Dataset:
    """Return malicious and benign sessions; each split has families that the others have not.

    Benign sessions are split by capture. Of a family at most MOST sessions are taken: one capture
    repeats one attempt 1,562 times.
    """
    path = work / f"data/malicious-{seed}"
    if not path.exists():
        labels = work / "malicious.csv"
        benign = [row for row in protocol_rows(captures) if row[0] not in ATTACKS]
        write_labels(labels, [*malware_rows(), *benign])
        whole = work / f"data/malicious-whole-{seed}"
        if not whole.exists():
            convert(
                [captures / "malware", captures / "protocols"],
                whole,
                rules=ReadingRules(),
                split="capture:70/10/20",
                seed=seed,
                labels=labels,
            )
        data = masked(whole, HOSTS_HIDDEN)
        split = np.asarray(data.table["split"].to_pylist(), object)
        malicious = data.task_labels("binary") == 1
        families = np.unique(data.labels[malicious])
        rng = np.random.Generator(np.random.Philox(seed))
        drawn = rng.permutation(families)
        parts = np.split(drawn, [len(families) // TESTED, len(families) // TESTED + 3])
        used = ~malicious & (split != "unused")
        for name, part in zip(("test", "validation", "train"), parts, strict=True):
            for family in part:
                own = np.flatnonzero(data.labels == family)
                used[rng.permutation(own)[:MOST]] = True
                split[own] = name
        rewrite(data, path, np.flatnonzero(used), split)
    return open_dataset(path)


def rewrite(source: Dataset, path: pathlib.Path, rows: np.ndarray, split: np.ndarray) -> Dataset:
    """Write some sessions of a dataset with another split.

    Args:
        rows: int [n], sorted; labels that none of them has are no classes any more.
        split: object [N], of all sessions of the source.
    """
    table = source.table.take(rows)
    place = table.column_names.index("split")
    table = table.set_column(place, "split", pa.array(split[rows].tolist(), pa.string()))
    kept = np.zeros(len(source), bool)
    kept[rows] = True
    tiles = np.repeat(kept, source.tile_counts)
    manifest = {
        key: source.manifest[key] for key in ("rules", "mask_version", "seed", "labels", "split")
    }
    manifest["classes"] = sorted(pc.unique(table["label"]).to_pylist())
    return _write(
        path, table, source.tiles[tiles], source.packets.filter(pa.array(tiles)), manifest
    )


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
        ),
        Cell(
            "l7/published",
            "USTC payload images, as published",
            published_images(False),
            changes=stream,
        ),
        Cell("l7/once", "USTC payload images, each once", published_images(True), changes=stream),
        Cell(
            "protocols/capture",
            "16 protocols by capture, ports hidden",
            by_capture,
            changes=FEW,
            payload=(labelled_payload, few),
        ),
        *(
            Cell(
                f"protocols/{source}",
                f"protocols, trained on {source}'s captures alone, ports hidden",
                by_source(source),
                changes=FEW,
                payload=(labelled_payload, few),
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
