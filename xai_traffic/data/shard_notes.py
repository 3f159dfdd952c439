"""What a shard leaves beside a dataset's files, for the merge to go by.

digests.npy  uint64 [3, N], ascending by the first two rows: both words of a session's content
             hash; its class and its row in sessions.parquet, in one word
flows.npy    uint64 [N], equal for the sessions of one 5-tuple of a capture
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np

from xai_traffic.data.account import Entry
from xai_traffic.data.duplicates import words
from xai_traffic.data.folder import DIGESTS, FLOWS
from xai_traffic.errors import DatasetError

_ROW_BITS = 40


class ShardNotes:
    """Notes of a shard in the making; in memory 28 bytes a session that is kept.

    Args:
        facts: which shard it is, see `shards.plan_shard`.
    """

    def __init__(self, facts: dict):
        self._facts = facts
        self._per_class: list[dict[str, dict]] = []
        none = np.zeros(0, np.int32), np.zeros(0, np.uint64), np.zeros((0, 16), np.uint8)
        self._kept: list[tuple[np.ndarray, ...]] = [none]

    def add(self, labels: np.ndarray, flows: np.ndarray, digests: np.ndarray) -> None:
        """Take the sessions of one capture that are kept; see `Groups.add`."""
        self._kept.append((labels, flows, digests))

    def book(self, per_class: dict[str, Entry]) -> None:
        """Take the account of one capture by label."""
        self._per_class.append({label: entry.to_dict() for label, entry in per_class.items()})

    def finish(self, folder: pathlib.Path, names: Sequence[str]) -> dict:
        """Write the files; return what the manifest must say.

        Args:
            folder: of the shard.
            names: of the labels that `add` was given; their places when sorted are the classes.
        """
        labels, flows, digests = (np.concatenate(each) for each in zip(*self._kept, strict=True))
        self._kept = []
        np.save(folder / FLOWS, flows)
        classes = sorted(names)
        place = np.array([classes.index(name) for name in names], np.uint64)
        high, low = words(digests)
        order = np.lexsort((low, high))
        which = place[labels] << np.uint64(_ROW_BITS) | np.arange(len(labels), dtype=np.uint64)
        np.save(folder / DIGESTS, np.stack([high[order], low[order], which[order]]))
        return {**self._facts, "per_class": self._per_class}


def read_flows(shard: pathlib.Path, sessions: int) -> np.ndarray:
    """Return flows.npy, mapped.

    Raises:
        DatasetError: it does not have so many sessions.
    """
    return _mapped(shard / FLOWS, (sessions,))


class SortedDigests:
    """The digests of a shard, read range by range.

    Args:
        shard: its folder.
        sessions: how many it has.
        bounds: uint64 [P], where ranges of the first word begin, ascending, the first 0.

    Raises:
        DatasetError: the file is not there or does not fit.
    """

    def __init__(self, shard: pathlib.Path, sessions: int, bounds: np.ndarray):
        self._path, self._shape = shard / DIGESTS, (3, sessions)
        begins = np.searchsorted(_mapped(self._path, self._shape)[0], bounds)
        self._ends = np.append(begins, sessions).tolist()

    def read(self, number: int) -> tuple[np.ndarray, ...]:
        """Return both words uint64 [n], class and row int64 [n] of the digests in a range."""
        span = slice(*self._ends[number : number + 2])
        # Mapped anew each time: a mapping keeps what was read of it in this process's memory.
        high, low, which = np.array(_mapped(self._path, self._shape)[:, span])
        mask = np.uint64((1 << _ROW_BITS) - 1)
        return (
            high,
            low,
            (which >> np.uint64(_ROW_BITS)).astype(np.int64),
            (which & mask).astype(np.int64),
        )


def _mapped(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        mapped = np.load(path, mmap_mode="r")
    except (OSError, EOFError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read ({error}): convert this shard again") from error
    if mapped.dtype != np.uint64 or mapped.shape != shape:
        raise DatasetError(f"{path} does not fit its manifest: convert this shard again")
    return mapped
