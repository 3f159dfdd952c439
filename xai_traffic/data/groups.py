"""Group sessions for the split capture by capture, in memory that does not grow with sessions.

What of a capture stays together is known when the capture ends, and how many of each label that
is. What ties groups of several captures (a client, a 5-tuple, near duplicates) is a token that
they share, and is known when all captures are done. That is all the split is drawn from. Which
group a session is in waits in a file until the draw.
"""

from __future__ import annotations

import pathlib
import tempfile
from collections import Counter
from typing import NamedTuple

import numpy as np

from xai_traffic.data.deal import (
    Cells,
    Spans,
    by_first_appearance,
    cells_of,
    connected,
    count_splits,
    count_taught,
    deal,
    hash_points,
    place_points,
    ties,
)
from xai_traffic.data.duplicates import hex_names
from xai_traffic.data.split import PLACES, UNUSED, SplitSpec, split_warnings

_NAMED = 1 << 16
"""Digests that have a name at a time."""


class Together(NamedTuple):
    """Sessions of all captures that stay together or are set aside, see near_duplicates.py.

    Args:
        cluster: int64 [N], equal for sessions that stay together.
        unused: bool [N], those that no split gets.
        labels: int [N], numbers as `Groups.add` was told them.
    """

    cluster: np.ndarray
    unused: np.ndarray
    labels: np.ndarray


class Groups:
    """The groups of a dataset in the making.

    Memory: under `random` 16 bytes for each 5-tuple of a capture and twice that in the draw, under
    `capture` as much for each capture, under `hash` nothing; under `session`, `host` and `time` 16
    bytes more for each 5-tuple; beside what one capture takes. Sessions that `deal` is told to
    keep together are all in memory: 40 bytes each.

    Args:
        spec: what to split by.
        seed: of the draw.
        folder: where the file goes.
        tied: whether `deal` will be told what else stays together.
    """

    def __init__(self, spec: SplitSpec, seed: int, folder: pathlib.Path, *, tied: bool = False):
        self.spec, self.seed = spec, seed
        self._at_once = spec.key == "hash" and not tied
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `close`
        self._cells: list[tuple[np.ndarray, ...]] = []
        self._tokens: list[tuple[np.ndarray, np.ndarray]] = []  # groups, and what each has
        self._ties: list[tuple[np.ndarray, np.ndarray]] = []  # of groups to groups
        self._facts: list[np.ndarray] = []  # of groups: points, or spans
        self._count = 0
        self._of_split: Counter[tuple[int, int]] = Counter()  # sessions by label and place
        self._of_label: Counter[int] = Counter()  # groups
        self._of_group = np.zeros(0, np.int8)
        self._unused: np.ndarray | None = None
        self._taken = 0

    def add(
        self,
        labels: np.ndarray,
        flows: np.ndarray,
        digests: np.ndarray,
        hosts: np.ndarray | None = None,
        times: np.ndarray | None = None,
    ) -> None:
        """Take the sessions of one capture that are kept.

        Args:
            labels: int [n], numbers that `deal` is told the names of.
            flows: uint64 [n], equal for sessions of one 5-tuple.
            digests: content hashes, uint8 [n, 16].
            hosts: uint64 [n], of the clients, 0 for none; under the key host.
            times: int64 [n, 2], ns, of first and last packets; under the key time.
        """
        if not len(labels):
            return
        if self.spec.key == "capture":
            flows = np.zeros_like(flows)
        groups, first = by_first_appearance(flows)
        cells = cells_of(groups, labels)
        if self._at_once:
            # Such a group is dealt at once, and its split is all that must be known of it.
            of_group = place_points(self._points(digests[first]), self.spec)
            for label, row in enumerate(count_splits(cells, of_group, int(labels.max()) + 1)):
                self._of_split.update({(label, split): n for split, n in enumerate(row.tolist())})
            self._of_label.update(cells.label.tolist())
            of_group[groups].astype(np.int64).tofile(self._file)
            return
        (groups + self._count).tofile(self._file)
        narrow = cells.label.astype(np.int32), cells.size.astype(np.int32)
        self._cells.append((cells.group + self._count, *narrow))
        if self.spec.key == "session":
            self._tokens.append((np.arange(len(first)) + self._count, flows[first]))
        elif self.spec.key == "host":
            known = hosts != 0
            pairs = np.unique(np.stack([groups[known].astype(np.uint64), hosts[known]]), axis=1)
            self._tokens.append((pairs[0].astype(np.int64) + self._count, pairs[1]))
        elif self.spec.key == "hash":
            self._facts.append(self._points(digests[first])[None])
        elif self.spec.key == "time":
            spans = times[first]
            np.minimum.at(spans[:, 0], groups, times[:, 0])
            np.maximum.at(spans[:, 1], groups, times[:, 1])
            self._facts.append(spans.T)
        self._count += len(first)

    def _points(self, digests: np.ndarray) -> np.ndarray:
        """Do as `hash_points`, some groups at a time: names of digests take much memory."""
        points = np.empty(len(digests))
        for start in range(0, len(digests), _NAMED):
            part = slice(start, start + _NAMED)
            points[part] = hash_points(hex_names(digests[part]), self.seed)
        return points

    def deal(
        self, names: list[str], together: Together | None = None
    ) -> tuple[dict[tuple[str, str], int], list[str], dict]:
        """Draw the split, which `take` then gives.

        Args:
            names: of the labels.
            together: what else stays together, if `tied`.

        Returns:
            sessions by label and place, warnings for the user, and what `deal.deal` says of it.
        """
        classes = sorted(names)
        place = np.array([classes.index(name) for name in names], np.int64)
        told: dict = {}
        taught = None
        if self._at_once:
            self._of_group = np.arange(len(PLACES), dtype=np.int8)
            counts = np.zeros((len(classes), len(PLACES)), np.int64)
            for (label, split), number in self._of_split.items():
                counts[place[label], split] = number
            groups = [self._of_label[names.index(name)] for name in classes]
        else:
            cells = self._all_cells(place) if together is None else self._used(together, place)
            cells, placed, told = self._deal(cells, classes)
            counts = count_splits(cells, placed, len(classes))
            taught = count_taught(cells, placed, len(classes))
            if together is not None:
                labels = place[together.labels[together.unused]]
                counts[:, PLACES.index(UNUSED)] += np.bincount(labels, minlength=len(classes))
                self._unused = together.unused
            groups = np.bincount(cells.label, minlength=len(classes))
        of_split = {
            (name, split): number
            for name, row in zip(classes, counts.tolist(), strict=True)
            for split, number in zip(PLACES, row, strict=True)
        }
        self._file.seek(0)
        return of_split, split_warnings(counts, groups, taught, classes, self.spec), told

    def _used(self, together: Together, place: np.ndarray) -> Cells:
        """Tie groups that share a cluster; return the cells of the sessions that are used."""
        self._file.seek(0)
        used = ~together.unused
        groups = np.frombuffer(self._file.read(), np.int64)[used]
        self._ties.append(ties(groups, together.cluster[used]))
        return cells_of(groups, place[together.labels[used]])

    def _deal(self, cells: Cells, classes: list[str]) -> tuple[Cells, np.ndarray, dict]:
        """Draw the split of the groups in `cells`, those that are tied together as one.

        Returns:
            the cells that were dealt, where each of their groups goes, into PLACES int8, and what
            the manifest must say.
        """
        if self._tokens:
            pairs = (np.concatenate(each) for each in zip(*self._tokens, strict=True))
            self._ties.append(ties(*pairs))
            self._tokens = []
        facts = np.concatenate(self._facts, axis=1) if self._facts else None
        self._facts = []
        self._of_group = np.full(self._count, PLACES.index(UNUSED), np.int8)
        if not len(cells.group):
            return cells, self._of_group, {}
        root, lead, dealt = None, np.arange(self._count), cells
        if self._ties:
            root = connected(
                *(np.concatenate(e) for e in zip(*self._ties, strict=True)), self._count
            )
            self._ties = []
            # The lowest member leads, so groups stay in the order of their first sessions.
            lead, number = np.unique(root[cells.group], return_inverse=True)
            dealt = _added_up(number, cells)
        points = spans = None
        if self.spec.key == "hash":
            points = facts[0][lead]
        elif self.spec.key == "time":
            begin, end = facts
            if root is not None:
                used = np.unique(cells.group)
                begin, end = begin.copy(), end.copy()
                np.minimum.at(begin, root[used], facts[0][used])
                np.maximum.at(end, root[used], facts[1][used])
            spans = Spans(begin[lead], end[lead])
        placed, told = deal(dealt, classes, self.spec, self.seed, points=points, spans=spans)
        self._of_group[lead] = placed
        if root is not None:
            self._of_group = self._of_group[root]
        return dealt, placed, told

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
        """Return the split of the next sessions in the order of `add`, into PLACES int8 [count]."""
        data = self._file.read(count * 8)
        places = self._of_group[np.frombuffer(data, np.int64)]
        first, self._taken = self._taken, self._taken + count
        if self._unused is not None:
            places = places.copy()
            places[self._unused[first : self._taken]] = PLACES.index(UNUSED)
        return places

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


def _added_up(number: np.ndarray, cells: Cells) -> Cells:
    """Return cells whose groups have other numbers, those of one number and label as one."""
    width = int(cells.label.max()) + 1
    key, place = np.unique(number * width + cells.label, return_inverse=True)
    return Cells(*np.divmod(key, width), np.bincount(place, cells.size).astype(np.int64))
