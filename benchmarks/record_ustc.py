"""The cells of the record on USTC-TFC2016: prefixes of its captures, and payload images."""

from __future__ import annotations

import pathlib

import numpy as np
import pyarrow as pa
from record_datasets import HOSTS_HIDDEN, Make, masked, rewrite, write_dataset

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.build import convert
from xai_traffic.data.duplicates import content_digests, hex_names
from xai_traffic.data.image_sets import stream_sessions
from xai_traffic.data.store import Dataset, open_dataset

MASKS = ("none", "addresses+ports", "addresses+ports+ids+window+options")

TRIO = ("Neris", "Virut", "Nsis-ay")

SEVERAL_HOSTS = (*TRIO, "Zeus", "SMB", "Weibo")
"""Classes of USTC-TFC2016 whose sessions are of more than one host."""


def ustc(mask: str, split: str = "random:70/10/20", classes: tuple[str, ...] = (), **rules) -> Make:
    """Return what reads USTC-TFC2016's prefixes, or some of its classes, under a mask."""

    def make(captures: pathlib.Path, work: pathlib.Path, seed: int) -> Dataset:
        about = "-".join(["ustc", *rules.values(), split.replace("/", "_"), str(seed)])
        plain = work / "data" / about
        if not plain.exists():
            read = ReadingRules(rule="five_tuple", **rules)
            inputs = [captures / "ustc/session_prefix"]
            convert(inputs, plain, rules=read, split=split, seed=seed)
        whole = masked(plain, mask)
        if not classes:
            return whole
        path = whole.path.with_name(f"{whole.path.name}-{len(classes)}-classes")
        if not path.exists():
            own = np.isin(whole.table["label"].to_pylist(), classes)
            splits = np.asarray(whole.table["split"].to_pylist(), object)
            rewrite(whole, path, np.flatnonzero(own), splits)
        return open_dataset(path)

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


def ustc_payload(captures: pathlib.Path, work: pathlib.Path) -> Dataset:
    """Return USTC-TFC2016's prefixes by their payloads."""
    return ustc("none", layers="payload")(captures, work, 0)


def published_images(captures: pathlib.Path, work: pathlib.Path, seed: int) -> Dataset:
    """Return the published payload images with their own test split.

    One in ten training images is for validation, by seed.
    """
    path = work / f"data/l7-published-{seed}"
    if path.exists():
        return open_dataset(path)
    sets = [np.load(captures / f"ustc/session_l7_28x28/{name}.npz") for name in ("train", "test")]
    classes = [str(name) for name in sets[0]["classes"]]
    images = np.concatenate([each["images"] for each in sets]).reshape(-1, 784)
    labels = np.concatenate([each["labels"] for each in sets]).astype(np.int64)
    split = np.repeat(np.array(["train", "test"]), [len(each["labels"]) for each in sets])
    drawn = np.random.Generator(np.random.Philox(seed)).random(len(split)) < 0.1
    split = np.where((split == "train") & drawn, "validation", split)
    order = np.argsort(np.array(classes))
    place = np.argsort(order)
    return _write_images(path, images, place[labels], [classes[k] for k in order], split, seed)


def once(dataset: Dataset) -> np.ndarray:
    """Return which test images no other split has under the same label, each once; bool [n]."""
    names = np.array(dataset.table["content_hash"].to_pylist())
    both = np.char.add(names, dataset.labels.astype(str))
    rows = dataset.rows("test")
    _, first = np.unique(both[rows], return_index=True)
    kept = np.zeros(len(rows), bool)
    kept[first] = True
    return kept & ~np.isin(both[rows], np.delete(both, rows))


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
    return write_dataset(
        path, table, tiles, None, {"rules": rules, "classes": classes, "seed": seed}
    )
