"""How high a score can be: sessions of several classes that differ in ciphertext alone.

    python benchmarks/record_ceilings.py --captures CAPTURES --work DIR

Ciphertext tells nothing of its class. Sessions that are alike in all that is in the clear are put
together: every byte before a packet's payload, as the mask left it; of application data of TLS the
head of the record; nothing of a payload that looks random; of any other payload all. Copies are
left out: ciphertext that training has is known by heart. A rule that leaves ciphertext alone can do
no better than to answer with the most frequent class of each such group, and here it even knows
which that is in the test.
Whether the other bytes tell anything is asked of boosted trees: their area under the ROC curve on
the two classes that are mixed most, the mean of ten folds with its interval (Nadeau and Bengio),
where 0.5 is a coin. An image that stands under both classes is in one fold.
"""

from __future__ import annotations

import argparse
import pathlib
from collections import Counter, defaultdict

import numpy as np
from lightgbm import LGBMClassifier
from machine import machine, own_versions
from record_cells import cells
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from text_table import table

from xai_traffic.data.store import Dataset
from xai_traffic.evaluation.seed_intervals import over_seeds

ASKED = ("ustc/addresses+ports+ids+window+options", "ustc/payload", "l7/published")
APPLICATION_DATA, RECORD_HEAD = b"\x17\x03", 5
"""A record of TLS or SSL 3.0: type, version, length (RFC 8446, 5.1)."""

LEAST, DISTINCT = 64, 0.6
"""A payload looks random from so many bytes on, if so many of 256 values that chance would show."""

TILES, PAIRS, FOLDS = 8, 3, 10


def in_the_clear(payload: bytes) -> bytes:
    """Return the bytes of a payload that are no ciphertext."""
    if payload.startswith(APPLICATION_DATA):
        return payload[:RECORD_HEAD]
    if len(payload) < LEAST:
        return payload
    expected = 256 * (1 - (255 / 256) ** len(payload))
    # Text has few values, a table of numbers some of them very often.
    looks_random = len(set(payload)) > DISTINCT * expected
    often = Counter(payload).most_common(1)[0][1] > max(4, len(payload) / 20)
    return b"" if looks_random and not often else payload


def clear_parts(dataset: Dataset) -> list[bytes]:
    """Return of each session all that is in the clear, and the captured lengths of packets."""
    stream = dataset.rules.layout == "ustc28"
    starts = None if stream else dataset.packets["payload"].to_numpy()
    lengths = None if stream else dataset.packets["length"].to_numpy()
    found = []
    for first, count in zip(dataset.first_tiles, dataset.tile_counts, strict=True):
        if stream:
            packets = [(dataset.tiles[first : first + count].tobytes().rstrip(b"\0"), 0)]
        else:
            packets = [
                (dataset.tiles[k, : lengths[k]].tobytes(), min(starts[k], lengths[k]))
                for k in range(first, first + min(count, TILES))
            ]
        parts = [
            len(data).to_bytes(2, "big") + data[:start] + in_the_clear(data[start:])
            for data, start in packets
        ]
        found.append(b"|".join(parts))
    return found


def ceiling(dataset: Dataset, kept: np.ndarray | None) -> list[str]:
    """Return a row of the table.

    Args:
        kept: which test sessions have no copy, bool [n]; None where none has one.
    """
    parts, labels = clear_parts(dataset), dataset.labels
    names = np.array(dataset.table["content_hash"].to_pylist())
    _, first = np.unique(np.char.add(names, labels.astype(str)), return_index=True)
    groups: dict[bytes, list[int]] = defaultdict(list)
    for row in np.sort(first).tolist():
        groups[parts[row]].append(row)
    rows = dataset.rows("test")
    test = set(rows.tolist() if kept is None else rows[kept].tolist())
    errors = mixed = 0
    pairs: Counter[tuple[int, int]] = Counter()
    members = defaultdict(list)
    for rows in groups.values():
        own = Counter(labels[row] for row in rows if row in test)
        if len({labels[row] for row in rows}) > 1:
            mixed += sum(own.values())
        errors += sum(own.values()) - max(own.values(), default=0)
        common = Counter(labels[row] for row in rows).most_common(2)
        if len(common) > 1:
            pair = tuple(sorted(label for label, _ in common))
            pairs[pair] += common[1][1]
            members[pair] += [row for row in rows if labels[row] in pair]
    told = []
    for pair, rarer in pairs.most_common(PAIRS):
        if rarer < 2 * FOLDS:
            break
        rows = np.array(members[pair])
        names = " and ".join(dataset.classes[label] for label in pair)
        told.append(f"{names}, {len(rows):,} sessions: {area(dataset, rows, labels[rows])}")
    return [
        f"{len(test):,}",
        f"{mixed:,}",
        f"{errors:,}",
        f"{100 * (1 - errors / len(test)):.1f}",
        "; ".join(told),
    ]


def area(dataset: Dataset, rows: np.ndarray, labels: np.ndarray) -> str:
    """Return how well boosted trees tell two classes by the bytes of some sessions, in folds."""
    counts = np.minimum(dataset.tile_counts[rows], TILES)
    bytes_ = np.zeros((len(rows), TILES, dataset.tiles.shape[1]), np.uint8)
    for place, (first, count) in enumerate(zip(dataset.first_tiles[rows], counts, strict=True)):
        bytes_[place, :count] = dataset.tiles[first : first + count]
    features = bytes_.reshape(len(rows), -1)
    features = features[:, (features != features[:1]).any(0)]
    truth = labels == labels.max()
    images = np.unique(features, axis=0, return_inverse=True)[1].reshape(-1)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    areas = []
    for train, test in folds.split(features, truth, images):
        trees = LGBMClassifier(colsample_bytree=0.3, random_state=0, n_jobs=1, verbose=-1)
        scores = trees.fit(features[train], truth[train]).predict_proba(features[test])[:, 1]
        areas.append(roc_auc_score(truth[test], scores))
    found = over_seeds(areas, FOLDS - 1, 1)
    return "{mean:.3f} ({low:.3f}, {high:.3f})".format(**found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--captures", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    options = parser.parse_args()
    rows = []
    for cell in cells():
        if cell.name in ASKED:
            dataset = cell.make(options.captures, options.work, 0)
            kept = None if cell.part is None else cell.part.kept(dataset)
            title = cell.title if cell.part is None else f"{cell.title}, without copies"
            rows.append([title, *ceiling(dataset, kept)])
    head = [
        "cell",
        "test sessions",
        "alike in the clear with another class",
        "errors at least",
        "accuracy at most, %",
        "area under the ROC curve on what else they have",
    ]
    print(table(head, rows))
    about = machine()
    versions = own_versions("scikit-learn", "lightgbm", "numpy")
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"\n{about['date']}, seed 0: {told}")


if __name__ == "__main__":
    main()
