"""What no classifier tells: test sessions that networks and trees misjudge alike, and why.

    python benchmarks/record_missed.py --captures CAPTURES --work DIR     six minutes on a core

Each asked cell is judged with seed 0 by four classifiers that have little in common: the ViT,
boosted trees on header fields and on bytes, and a forest on header fields. A session that at least
three of them misjudge is missed. Its first message is looked up in training: the first payload, by
its port and its first bytes. Where another class has it at least as often there as its own, what
the session says first speaks for the other; where its own never has it, it is new.

Prints two tables: how many there are, and what the most frequent of them say.
"""

from __future__ import annotations

import argparse
import pathlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from machine import machine, own_versions
from record_cells import Cell, cells
from record_scores import judge_by_network
from record_ustc import MASKS
from text_table import table

from xai_traffic.data.store import Dataset
from xai_traffic.evaluation.baseline_problem import Judged
from xai_traffic.evaluation.baselines import judge_baselines

ASKED = tuple(f"ustc/{mask}" for mask in MASKS)
TREES = (
    "random forest, header fields",
    "boosted trees, header fields",
    "boosted trees, tiles",
)
MOST = 3
"""Of four classifiers."""

BYTES, PADDING, DNS_PORT, DNS_HEADER = 14, 6, 53, 12
"""Of a first message; what Ethernet adds to a segment without one; RFC 1035, 4.1.1: an ID first."""

SHOWN = 12

Message = tuple[int, bytes]


class Missed(NamedTuple):
    """A session that is misjudged: its class, what it is taken for, what it says first.

    Args:
        own, other: names of classes; of several that it is taken for the most frequent.
        port, message: see `first_message`.
        of_own, of_other: training sessions of the two that say the same.
    """

    own: str
    other: str
    port: int
    message: bytes
    of_own: int
    of_other: int


def first_message(dataset: Dataset, row: int, port: int) -> Message:
    """Return port and first bytes of the first payload of a session; none where it has none."""
    first = dataset.first_tiles[row]
    tiles = range(first, first + dataset.tile_counts[row])
    starts, lengths = (dataset.packets[name].take(list(tiles)) for name in ("payload", "length"))
    for tile, start, length in zip(tiles, starts.to_pylist(), lengths.to_pylist(), strict=True):
        if length - start > PADDING:
            begin = start + (DNS_HEADER if port == DNS_PORT else 0)
            return port, dataset.tiles[tile, begin : min(begin + BYTES, length)].tobytes()
    return port, b""


def judged_by_four(cell: Cell, dataset: Dataset, work: pathlib.Path) -> list[Judged]:
    """Return what the ViT and three kinds of trees make of the test sessions."""
    folder = work / "runs" / f"missed-{cell.name.replace('/', '-')}"
    network = judge_by_network(cell, "vit", "multiclass,cpu", dataset, folder, 0)
    return [network, *judge_baselines(dataset, names=TREES)]


def missed(dataset: Dataset, judged: Sequence[Judged]) -> list[Missed]:
    """Return the test sessions that at least MOST classifiers misjudge, in their order."""
    labels = judged[0].labels
    said = np.stack([one.probabilities.argmax(-1) for one in judged])
    wrong = said != labels
    ports = dataset.table["destination_port"].to_pylist()
    known: dict[Message, Counter] = defaultdict(Counter)
    for row in dataset.rows("train").tolist():
        known[first_message(dataset, row, ports[row])][dataset.labels[row]] += 1
    found = []
    for place in np.flatnonzero(wrong.sum(0) >= MOST):
        row = dataset.rows("test")[place]
        own = labels[place]
        other = Counter(said[wrong[:, place], place].tolist()).most_common(1)[0][0]
        message = first_message(dataset, row, ports[row])
        counts = known[message]
        names = dataset.classes[own], dataset.classes[other]
        found.append(Missed(*names, *message, counts[own], counts[other]))
    return found


def shown(message: bytes) -> str:
    """Return the bytes of a message that are text, a dot for each other one."""
    text = "".join(chr(byte) if 32 <= byte < 127 and byte not in b"|`" else "." for byte in message)
    return f"`{text}`" if text else "no payload"


def listed(counts: Iterable[tuple[str, int]]) -> str:
    """Return names with their counts."""
    return ", ".join(f"{name} {count}" for name, count in counts)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--captures", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    options = parser.parse_args()
    summary, told = [], []
    for cell in (cell for cell in cells() if cell.name in ASKED):
        dataset = cell.make(options.captures, options.work, 0)
        judged = judged_by_four(cell, dataset, options.work)
        wrong = np.stack([one.probabilities.argmax(-1) != one.labels for one in judged])
        found = missed(dataset, judged)
        errors = zip((one.name for one in judged), wrong.sum(1), strict=True)
        for_other = sum(0 < one.of_own <= one.of_other for one in found)
        new = sum(not one.of_own for one in found)
        row = [cell.title, f"{wrong.shape[1]:,}"]
        row += [listed(errors)]
        classes = Counter(one.own for one in found).most_common()
        row += [str(wrong.all(0).sum()), f"{len(found)}: {listed(classes)}"]
        summary.append([*row, str(for_other), str(new)])
        rows = [
            [one.own, one.other, str(one.port), shown(one.message)]
            + [str(one.of_own), str(one.of_other), str(count)]
            for one, count in Counter(found).most_common(SHOWN)
        ]
        head = ["session of", "taken for", "port", "first message"]
        head += ["in training: its class", "the other", "missed"]
        told.append(f"{cell.title}\n\n{table(head, rows)}")
    head = ["cell", "test sessions", "errors", "of all four", "of at least three"]
    head += ["whose first message speaks for the other", "is new"]
    print("\n\n".join([table(head, summary), *told]))
    about, versions = machine(), own_versions("jax", "scikit-learn", "lightgbm", "numpy")
    print(f"\n{about['date']}, seed 0: {listed(versions.items())}")


if __name__ == "__main__":
    main()
