"""Group sessions for the split capture by capture, in memory that does not grow with sessions.

A group lies within one capture, so when the capture ends it is known which of its sessions stay
together and how many of each label they are. That is all the split is drawn from. Which group a
session is in waits in a file until the draw.
"""

from __future__ import annotations

import pathlib
import tempfile
from collections import Counter

import numpy as np

from xai_traffic.data.duplicates import hex_names
from xai_traffic.data.split import (
    SPLITS,
    Cells,
    SplitSpec,
    by_first_appearance,
    cells_of,
    count_splits,
    deal_by_hash,
    deal_cells,
    split_warnings,
)

_NAMED = 1 << 16
"""Digests that have a name at a time."""


class Groups:
    """The groups of a dataset in the making.

    Memory: under `random` 16 bytes for each 5-tuple of a capture and twice that in the draw, under
    `capture` as much for each capture, under `hash` nothing; beside what one capture takes.

    Args:
        spec: what to split by.
        seed: of the draw.
        folder: where the file goes.
    """

    def __init__(self, spec: SplitSpec, seed: int, folder: pathlib.Path):
        self.spec, self.seed = spec, seed
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `close`
        self._cells: list[tuple[np.ndarray, ...]] = []
        self._count = 0
        self._of_split: Counter[tuple[int, int]] = Counter()  # sessions by label and split
        self._of_label: Counter[int] = Counter()  # groups
        self._of_group = np.zeros(0, np.int8)

    def add(self, labels: np.ndarray, flows: np.ndarray, digests: np.ndarray) -> None:
        """Take the sessions of one capture that are kept.

        Args:
            labels: int [n], numbers that `deal` is told the names of.
            flows: uint64 [n], equal for sessions of one 5-tuple.
            digests: content hashes, uint8 [n, 16].
        """
        if not len(labels):
            return
        if self.spec.key == "capture":
            flows = np.zeros_like(flows)
        groups, first = by_first_appearance(flows)
        cells = cells_of(groups, labels)
        if self.spec.key == "hash":
            # Such a group is dealt at once, and its split is all that must be known of it.
            of_group = self._by_hash(digests[first])
            for label, row in enumerate(count_splits(cells, of_group, int(labels.max()) + 1)):
                self._of_split.update({(label, split): n for split, n in enumerate(row.tolist())})
            self._of_label.update(cells.label.tolist())
            of_group[groups].astype(np.int64).tofile(self._file)
            return
        (groups + self._count).tofile(self._file)
        narrow = cells.label.astype(np.int32), cells.size.astype(np.int32)
        self._cells.append((cells.group + self._count, *narrow))
        self._count += len(first)

    def _by_hash(self, digests: np.ndarray) -> np.ndarray:
        """Do as `deal_by_hash`, some groups at a time: names of digests take much memory."""
        of_group = np.empty(len(digests), np.int8)
        for start in range(0, len(digests), _NAMED):
            part = slice(start, start + _NAMED)
            of_group[part] = deal_by_hash(hex_names(digests[part]), self.spec, self.seed)
        return of_group

    def deal(self, names: list[str]) -> tuple[dict[tuple[str, str], int], list[str]]:
        """Draw the split, which `take` then gives.

        Args:
            names: of the labels.

        Returns:
            sessions by label and split, and warnings for the user.
        """
        classes = sorted(names)
        place = np.array([classes.index(name) for name in names], np.int64)
        if self.spec.key == "hash":
            self._of_group = np.arange(len(SPLITS), dtype=np.int8)
            counts = np.zeros((len(classes), len(SPLITS)), np.int64)
            for (label, split), number in self._of_split.items():
                counts[place[label], split] = number
            groups = [self._of_label[names.index(name)] for name in classes]
        else:
            cells = self._all_cells(place)
            if len(cells.group):
                self._of_group = deal_cells(cells, classes, self.spec, self.seed)
            counts = count_splits(cells, self._of_group, len(classes))
            groups = np.bincount(cells.label, minlength=len(classes))
        of_split = {
            (name, split): number
            for name, row in zip(classes, counts.tolist(), strict=True)
            for split, number in zip(SPLITS, row, strict=True)
        }
        self._file.seek(0)
        return of_split, split_warnings(counts, groups, classes, self.spec)

    def _all_cells(self, place: np.ndarray) -> Cells:
        """Put the captures' cells together, labels by their place among the classes."""
        if not self._cells:
            return Cells(*np.zeros((3, 0), np.int64))
        group, label, size = (np.concatenate(each) for each in zip(*self._cells, strict=True))
        self._cells = []
        label = place[label]
        if (group[1:] == group[:-1]).any():  # the labels of one group in the order of the classes
            order = np.lexsort((label, group))
            group, label, size = group[order], label[order], size[order]
        return Cells(group, label, size)

    def take(self, count: int) -> np.ndarray:
        """Return the split of the next sessions in the order of `add`, into SPLITS int8 [count]."""
        data = self._file.read(count * 8)
        return self._of_group[np.frombuffer(data, np.int64)]

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
