"""What training and test have in common, and when a dataset is called LEAKY.

Counted are the test sessions that share with a training session:

    image               the same image (masked tiles), and a label
    binary_image        the same image, and a binary label: of classes a binary task does not tell
    other_image         the same image under another label, which no model can tell apart
    near_duplicate      a cluster of near duplicates, and a label; null where none were looked for
    binary_near_duplicate   the same with a binary label
    capture_five_tuple  the 5-tuple, within one capture
    five_tuple          the 5-tuple, in any captures
    client              the initiator's address
    server              the responder's address
    capture             the capture
    time                an instant at which both last

A random split shares clients, servers, captures and time, as it must; so these are shown, and what
they are worth is a matter of the question asked. A dataset is LEAKY where a number from it cannot
mean what its protocol says, for some key is in two splits, be they test, validation or train:

    any task      image, near_duplicate, capture_five_tuple, or what the split's key promises
                  (see split.py): session a five_tuple, host a client, capture a capture, time an
                  instant or an order, family a class that is left out
    task binary   binary_image and binary_near_duplicate too

An image under labels of different binary labels is no leak but a conflict: it can only cost. What
is in no split (`unused`) shares nothing.

The facts are taken from sessions.parquet as it stands, when a dataset is made and again when a
training or an evaluation opens it: who edits a split by hand is told what became of it. Near
duplicates are not looked for again; where the split was edited since, they count as a leak.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xai_traffic.capture.mixing import mix
from xai_traffic.data.column_hashes import hash_five_tuples, hash_names, hash_texts
from xai_traffic.data.split import PLACES, SPLITS, SplitSpec, parse_split
from xai_traffic.errors import ConfigError

Read = Callable[[list[str]], Iterable[pa.RecordBatch]]
"""Gives some columns of sessions.parquet, batch by batch."""

TASKS = ("multiclass", "binary")
TUPLE = ["protocol", "source", "source_port", "destination", "destination_port"]
TOLD = {
    "image": "images with one label",
    "binary_image": "images with one binary label",
    "other_image": "images under different labels",
    "near_duplicate": "clusters of near duplicates with one label",
    "binary_near_duplicate": "clusters of near duplicates with one binary label",
    "capture_five_tuple": "5-tuples of one capture",
    "five_tuple": "5-tuples",
    "client": "clients",
    "server": "servers",
    "capture": "captures",
    "time": "sessions at one time",
}
"""What the keys of each kind are called."""

_ALWAYS = ("image", "near_duplicate", "capture_five_tuple")
_BINARY = ("binary_image", "binary_near_duplicate")
_NEAR = ("near_duplicate", "binary_near_duplicate")
_PROMISED = {"session": "five_tuple", "host": "client", "capture": "capture", "time": "time"}


def find_leaks(
    read: Read,
    split: str | None,
    left_out: Sequence[str] = (),
    clusters: np.ndarray | None = None,
    near: dict[str, dict] | None = None,
) -> dict:
    """Count what splits share and tell whether they leak.

    Args:
        read: gives columns of the sessions.
        split: as the manifest has it, whose promise is held against the sessions.
        left_out: the classes that must be in the test alone.
        clusters: near duplicates, int64 [N], equal within a cluster, -1 for none; None where none
            were looked for.
        near: what is known of them instead, by kind.

    Returns:
        dict `sessions` by split; `shared`, of each kind `sessions` (of the test) and `keys` (in
        two splits or more); `leaky`, of each task why it is, empty where it is not; and
        `split_sha256` of the split column.
    """
    place = _column(read, ["split"], _places).astype(np.int8)
    used = place < len(SPLITS)
    label = _column(read, ["label"], lambda batch: hash_texts(batch["label"]))
    binary = _column(read, ["binary_label"], lambda batch: hash_texts(batch["binary_label"]))
    sizes = np.bincount(place, minlength=len(PLACES)).tolist()
    shared: dict[str, dict | None] = {}

    def count(kind: str, keys: np.ndarray, of: np.ndarray = used) -> None:
        shared[kind] = _shared(keys[of], place[of])

    image = _column(read, ["content_hash"], lambda batch: hash_names(batch["content_hash"]))
    count("image", mix(image ^ mix(label)))
    count("binary_image", mix(image ^ mix(binary)), used & (binary != 0))
    shared["other_image"] = _other_labels(image[used], label[used], place[used])
    shared.update(near or dict.fromkeys(_NEAR))
    if clusters is not None:
        some, words = used & (clusters >= 0), clusters.astype(np.uint64)
        count("near_duplicate", mix(words ^ mix(label)), some)
        count("binary_near_duplicate", mix(words ^ mix(binary)), some & (binary != 0))
    addressed = _column(read, ["destination"], _addressed).astype(bool) & used
    tuples = _column(read, TUPLE, hash_five_tuples)
    capture = _column(read, ["capture"], lambda batch: hash_texts(batch["capture"]))
    count("capture_five_tuple", mix(tuples ^ mix(capture)), addressed)
    count("five_tuple", tuples, addressed)
    del tuples, image
    for kind, column in (("client", "source"), ("server", "destination")):
        address = _column(read, [column], lambda batch, column=column: hash_texts(batch[column]))
        count(kind, address, addressed & (address != 0))
    count("capture", capture)
    names = ["first_time", "last_time"]
    timed = _column(read, names, lambda batch: _valid(batch, names)).astype(bool) & used
    first, last = (
        _column(read, [name], lambda batch, name=name: _nanoseconds(batch[name]))[timed]
        for name in names
    )
    shared["time"] = _at_one_time(first, last, place[timed])
    leaky = _leaky(shared, split)
    for task in TASKS if split is not None else ():
        leaky[task] += _broken_order(split, first, last, place[timed])
        leaky[task] += _left_out_elsewhere(left_out, label, place)
    if not binary[used].any():
        leaky["binary"] = []
    return {
        "sessions": dict(zip(PLACES, sizes, strict=True)),
        "shared": shared,
        "leaky": leaky,
        "split_sha256": _sha256(place),
    }


def is_leaky(leaks: dict) -> bool:
    """Tell whether a dataset is LEAKY for any task, of what `find_leaks` returned."""
    return any(leaks["leaky"].values())


def recount(read: Read, manifest: dict) -> dict:
    """Return the leaks of a dataset that was opened, whatever its manifest says of them.

    Args:
        read: gives columns of the sessions.
        manifest: of the dataset.

    Returns:
        what `find_leaks` does, and `edited`: whether the split is another than was made.
    """
    told, near = manifest.get("leaks"), None
    split, left_out = manifest.get("split"), manifest.get("split_facts", {}).get("left_out", ())
    edited = told is not None and told["split_sha256"] != _sha256(_column(read, ["split"], _places))
    looked = told is not None and manifest.get("near_duplicates") is not None
    if looked and not edited:
        near = {kind: told["shared"][kind] for kind in _NEAR}
    found = find_leaks(read, split, left_out, near=near)
    for task in TASKS if looked and edited else ():
        found["leaky"][task].append(
            "the split was edited after near duplicates were looked for: convert again"
        )
    return {**found, "edited": edited}


def _sha256(place: np.ndarray) -> str:
    return hashlib.sha256(place.astype(np.int8).tobytes()).hexdigest()


def _leaky(shared: dict, split: str | None) -> dict[str, list[str]]:
    """Return for each task which keys are in two splits that must not be."""
    kinds = [*_ALWAYS]
    promised = _PROMISED.get(_key_of(split))
    kinds += [promised] if promised is not None else []
    leaky = {}
    for task in TASKS:
        mine = [*kinds, *(_BINARY if task == "binary" else ())]
        leaky[task] = [
            f"{found['keys']:,} {TOLD[kind]} in two splits, {found['sessions']:,} test sessions "
            "share one with train"
            for kind in mine
            if (found := shared[kind]) is not None and found["keys"]
        ]
    return leaky


def _key_of(split: str | None) -> str:
    try:
        return "" if split is None else parse_split(split).key
    except ConfigError:  # of another version
        return ""


def _broken_order(split: str, first: np.ndarray, last: np.ndarray, place: np.ndarray) -> list[str]:
    """Say where a split by time has training sessions that end after the test begins."""
    try:
        spec: SplitSpec = parse_split(split)
    except ConfigError:
        return []
    if spec.key != "time" or spec.fold is not None:
        return []
    outlast = np.zeros(len(place), bool)
    for later in range(1, len(SPLITS)):
        ours = place == later
        if ours.any():
            outlast |= (place < later) & (last >= first[ours].min())
    late = int(outlast.sum())
    return [f"{late:,} sessions end after a later split begins"] if late else []


def _left_out_elsewhere(left_out: Sequence[str], label: np.ndarray, place: np.ndarray) -> list[str]:
    words = hash_texts(pa.array(list(left_out), pa.string()))
    found = int((np.isin(label, words) & (place < SPLITS.index("test"))).sum())
    return (
        [f"{found:,} sessions of classes that are left out are in train or validation"]
        if found
        else []
    )


def _column(
    read: Read, names: list[str], take: Callable[[pa.RecordBatch], np.ndarray]
) -> np.ndarray:
    """Return what `take` makes of some columns, one batch in memory at a time."""
    parts: Iterator[np.ndarray] = (take(batch) for batch in read(names) if len(batch))
    found = list(parts)
    return np.concatenate(found) if found else np.zeros(0, np.uint64)


def _places(batch: pa.RecordBatch) -> np.ndarray:
    """Return the place of each session in PLACES; what is named otherwise is in no split."""
    encoded = batch["split"].dictionary_encode()
    names = encoded.dictionary.to_pylist()
    numbers = [PLACES.index(name) if name in PLACES else len(SPLITS) for name in names]
    where = encoded.indices.fill_null(len(names)).to_numpy(zero_copy_only=False)
    return np.array([*numbers, len(SPLITS)], np.int8)[where]


def _addressed(batch: pa.RecordBatch) -> np.ndarray:
    """Return which sessions have addresses; those of image sets have none."""
    return pc.fill_null(pc.not_equal(batch["destination"], ""), False).to_numpy(
        zero_copy_only=False
    )


def _valid(batch: pa.RecordBatch, names: list[str]) -> np.ndarray:
    return np.logical_and.reduce(
        [batch[name].is_valid().to_numpy(zero_copy_only=False) for name in names]
    )


def _nanoseconds(column: pa.Array) -> np.ndarray:
    return column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)


def _shared(keys: np.ndarray, place: np.ndarray) -> dict:
    """Return how many test sessions have the key of a training session, and keys in two splits."""
    if not len(keys):
        return {"sessions": 0, "keys": 0}
    order = np.argsort(keys)
    keys, place = keys[order], place[order]
    begins = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    bits = np.bitwise_or.reduceat((1 << place).astype(np.uint8), begins)
    several = (bits & (bits - 1)) != 0
    tests = np.add.reduceat((place == SPLITS.index("test")).astype(np.int64), begins)
    return {"sessions": int(tests[(bits & 1) != 0].sum()), "keys": int(several.sum())}


def _other_labels(image: np.ndarray, label: np.ndarray, place: np.ndarray) -> dict:
    """Do as `_shared`, of images that are in two splits under different labels."""
    both = _shared(image, place)
    if not both["keys"]:
        return both
    order = np.lexsort((label, image))
    image, label, place = image[order], label[order], place[order]
    begins = np.flatnonzero(np.append(True, image[1:] != image[:-1]))
    number = np.cumsum(np.append(False, image[1:] != image[:-1]))
    conflict = label[begins][number] != np.append(label[begins[1:] - 1], label[-1])[number]
    return _shared(image[conflict], place[conflict])


def _at_one_time(first: np.ndarray, last: np.ndarray, place: np.ndarray) -> dict:
    """Return how many test sessions last while a training session does; keys are all sessions
    that last while one of another split does."""
    order = np.argsort(first, kind="stable")
    first, last, place = first[order], last[order], place[order]
    lowest, highest = np.iinfo(np.int64).min, np.iinfo(np.int64).max
    meets = np.zeros((len(SPLITS), len(first)), bool)
    for split in range(len(SPLITS)):
        ours = place == split
        # Of this split: the latest end of those before, and the first begin of those after.
        before = np.maximum.accumulate(np.where(ours, last, lowest))
        after = np.minimum.accumulate(np.where(ours, first, highest)[::-1])[::-1]
        meets[split] = ~ours & ((before >= first) | (after <= last))
    test = place == SPLITS.index("test")
    return {"sessions": int((test & meets[0]).sum()), "keys": int(meets.any(0).sum())}
