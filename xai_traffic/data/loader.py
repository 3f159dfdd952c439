"""Batches of sessions in a reproducible order; one element is one batch.

The order of epoch e is a Philox permutation of (seed, e), so the whole position is two numbers,
(epoch, step). Every process sees the same order and takes its own slice of each global batch.
Tiles stay ragged until a batch is put together (`capture/assembly.py`); images are made of them on
the device (`ops/tiles.py`).

The memory of a batch is used again when nothing refers to it any more. Until then it may still be
read: JAX copies to accelerators in the background, and on a CPU may take an array as it lies.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xai_traffic.capture.assembly import BatchMemory
from xai_traffic.data.deal import philox_key
from xai_traffic.data.packing import Packing, pack, row_length, slots, usual_rows
from xai_traffic.data.spool import spans_of
from xai_traffic.data.store import Dataset
from xai_traffic.errors import ConfigError

RAM_BUDGET = 2 << 30
"""Bytes of tiles that a loader copies into memory; a split that is larger stays mapped."""

BATCHES = 4
"""Batches whose memory a loader keeps; those that are in use beyond them get memory of their own.
"""


class Loader:
    """Iterate over batches of one split, one epoch for each `iter()`.

    A batch is a dict:
        tiles    uint8 [B, G, 256], G = 64 (4 under layout ustc28), zero behind a session's tiles,
                 read only; its memory is used again when it and all views of it are gone.
                 In its place, under `by_place`:
        first    int32 [B], row of each session's first tile among those of `take_tiles`
        count    int32 [B], its tiles
        labels   int32 [B]
        weights  float32 [B], 1, or 0 for the padding of a last short batch
        rows     int64 [B], rows of the dataset, -1 for padding
        packing  `Packing` of the global batch's tokens, rows of this process; where `packets` asks

    Args:
        dataset: where the sessions are.
        rows: int64 [N], the dataset's rows to load.
        batch_size: sessions of a global batch, over all processes.
        seed: of the order; unused without `shuffle`.
        shuffle: draw a new order each epoch, else the order of `rows`.
        drop_last: leave out a last short batch, else fill it up with padding of weight 0.
        part, parts: which of how many equal slices of each global batch this process takes.
        labels: int32 [sessions of the dataset]; default the multiclass labels.
        ram_budget_bytes: the split's tiles are copied to memory when they fit in it.
        by_place: name tiles by their place among those of the split, for who has put these on the
            device (`take_tiles`).
        packets: packets that a model with packed tokens reads of a session; 0 for any other.
        row_multiple: packed rows of a global batch are a multiple of it.

    Raises:
        ConfigError: the batch does not divide among the processes, or there is nothing to load.
    """

    def __init__(
        self,
        dataset: Dataset,
        rows: np.ndarray,
        batch_size: int,
        seed: int = 0,
        *,
        shuffle: bool = True,
        drop_last: bool = False,
        part: int = 0,
        parts: int = 1,
        labels: np.ndarray | None = None,
        ram_budget_bytes: int = RAM_BUDGET,
        by_place: bool = False,
        packets: int = 0,
        row_multiple: int = 1,
    ):
        rows = np.asarray(rows, np.int64)
        if batch_size < 1 or batch_size % parts:
            raise ConfigError(
                f"batch_size {batch_size} does not divide into {parts} parts: choose a multiple"
            )
        if not 0 <= part < parts:
            raise ConfigError(f"part {part} of {parts} does not exist")
        if not len(rows):
            raise ConfigError("there are no sessions to load: the split is empty")
        self._steps = len(rows) // batch_size if drop_last else -(-len(rows) // batch_size)
        if not self._steps:
            raise ConfigError(
                f"batch_size {batch_size} is more than the {len(rows)} sessions of the split: "
                f"choose at most {len(rows)}"
            )
        self._rows = rows
        self._labels = np.asarray(dataset.labels if labels is None else labels, np.int32)[rows]
        self._counts = dataset.tile_counts[rows].astype(np.int64)
        self._first = dataset.first_tiles[rows].astype(np.int64)
        self._grid = dataset.grid
        self._tiles: np.ndarray = dataset.tiles
        if by_place or int(self._counts.sum()) * self._tiles.shape[1] <= ram_budget_bytes:
            self._tiles = self._tiles[spans_of(self._first, self._counts)]
            self._first = np.cumsum(self._counts) - self._counts
        self._by_place, self._packets = by_place, packets
        if packets:
            sizes = 1 + np.minimum(self._counts, packets)
            self._usual_rows = usual_rows(sizes, batch_size, row_length(packets), row_multiple)
        self._batch_size, self._seed, self._shuffle = batch_size, seed, shuffle
        self._share = share = batch_size // parts
        self._part = part
        self._epoch, self._step = 0, 0
        self._ring = Ring(share, self._grid)

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return self._steps

    @property
    def sessions(self) -> int:
        """Number of sessions in the split."""
        return len(self._rows)

    def take_tiles(self) -> np.ndarray:
        """Return the tiles of the split, uint8 [T, 256], and keep none of them; see `by_place`."""
        tiles, self._tiles = self._tiles, self._tiles[:0]
        return tiles

    def state(self) -> dict[str, int]:
        """Return the position: the batch that comes next.

        Behind the last batch of an epoch `step` is `len(self)` until the iteration has been left,
        so that what follows an epoch (validation) is known to be still due.
        """
        return {"epoch": self._epoch, "step": self._step}

    def restore(self, state: dict[str, int]) -> None:
        """Go to a position that `state` returned; the next iteration goes on there.

        Raises:
            ConfigError: there is no such position, as when the batch size was changed.
        """
        epoch, step = int(state["epoch"]), int(state["step"])
        if epoch < 0 or not 0 <= step <= self._steps:
            raise ConfigError(
                f"the loader cannot go to epoch {epoch}, step {step}: an epoch has {self._steps} "
                "steps here; keep the batch size and the dataset of the run"
            )
        self._epoch, self._step = epoch, step

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the rest of the current epoch, then move to the next one."""
        order = self.order(self._epoch)
        while self._step < self._steps:
            start = self._step * self._batch_size
            chosen = order[start : start + self._batch_size]
            self._step += 1
            yield self._batch(chosen)
        self._epoch, self._step = self._epoch + 1, 0

    def order(self, epoch: int) -> np.ndarray:
        """Return int64 [N], the places in `rows` in the order of an epoch."""
        if not self._shuffle:
            return np.arange(len(self._rows))
        generator = np.random.Generator(np.random.Philox(key=philox_key(self._seed, epoch)))
        return generator.permutation(len(self._rows))

    def _batch(self, everywhere: np.ndarray) -> dict[str, np.ndarray | Packing]:
        size, begin = self._share, self._part * self._share
        chosen = everywhere[begin : begin + size]
        real = len(chosen)
        labels, first, count = np.zeros((3, size), np.int32)
        weights = np.zeros(size, np.float32)
        rows = np.full(size, -1, np.int64)
        labels[:real], weights[:real], rows[:real] = self._labels[chosen], 1, self._rows[chosen]
        batch = {"labels": labels, "weights": weights, "rows": rows}
        if self._by_place:
            first[:real], count[:real] = self._first[chosen], self._counts[chosen]
            batch |= {"first": first, "count": count}
        else:
            memory = self._ring.take()
            batch["tiles"] = memory.fill(self._tiles, self._first[chosen], self._counts[chosen])
        if self._packets:
            batch["packing"] = self._packing(everywhere)
        return batch

    def _packing(self, chosen: np.ndarray) -> Packing:
        """Pack each process' share into rows of its own, as many for each, and return ours."""
        length = row_length(self._packets)
        sizes = np.ones(self._batch_size, np.int64)
        sizes[: len(chosen)] += np.minimum(self._counts[chosen], self._packets)
        shares = sizes.reshape(-1, self._share)
        packed = [pack(share, length) for share in shares]
        processes, ours = len(shares), self._part
        needed = max(int(row.max()) + 1 for row, _ in packed) * processes
        rows = next(rows for rows in self._usual_rows if rows >= needed) // processes
        session, place, head = slots(*packed[ours], shares[ours], rows, length)
        session[session >= 0] += ours * self._share
        return Packing(session, place, head + np.int32(ours * rows * length))


class Ring:
    """Hand out memory for batches, the same again as soon as nobody else refers to it.

    Args:
        size: sessions of a batch.
        grid: tiles of a whole session.
    """

    def __init__(self, size: int, grid: int):
        self._size, self._grid = size, grid
        self._kept: list[BatchMemory] = []
        self._next = 0

    def take(self) -> BatchMemory:
        """Return memory whose last batch is not in use."""
        for _ in self._kept:
            memory = self._kept[self._next]
            self._next = (self._next + 1) % len(self._kept)
            if not memory.in_use:
                return memory
        memory = BatchMemory(self._size, self._grid)
        if len(self._kept) < BATCHES:
            self._kept.append(memory)
        return memory
