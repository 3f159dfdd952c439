"""A dataset on disk: ragged tiles, two tables and a manifest; writer.py makes one.

tiles.npy         uint8 [T, 256]; the tiles of a session contiguous, in packet order
sessions.parquet  one row a session, in the order of the captures and of their sessions
packets.parquet   one row a packet of the tiles, in the same order, written before masking
manifest.json     how it was made, and an account of every packet that went in
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xai_traffic.capture.images import STREAM_TILES
from xai_traffic.capture.layouts import make_images, needs_lengths
from xai_traffic.capture.masking import MASK_VERSION
from xai_traffic.capture.records import GRID, TILE
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.folder import AGAIN, PACKETS, SESSIONS, TILES, read_manifest
from xai_traffic.data.labels import BINARY_CLASSES
from xai_traffic.data.leaks import recount
from xai_traffic.data.split import SPLITS
from xai_traffic.data.writer import SESSION_SCHEMA
from xai_traffic.errors import ConfigError, DatasetError


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset that was opened; tiles stay mapped and packets unread until they are asked for.

    Args:
        path: its folder.
        manifest: as `manifest.json` has it.
        table: sessions.parquet, one row a session.
    """

    path: pathlib.Path
    manifest: dict
    table: pa.Table

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self.table)

    @functools.cached_property
    def rules(self) -> ReadingRules:
        """How its captures were read."""
        return ReadingRules.from_dict(self.manifest["rules"])

    @functools.cached_property
    def tiles(self) -> np.ndarray:
        """All tiles, uint8 [T, 256], mapped, read only."""
        return np.load(self.path / TILES, mmap_mode="r")

    @functools.cached_property
    def packets(self) -> pa.Table:
        """packets.parquet, one row a packet; `packet_span` says which rows are a session's."""
        return pq.read_table(self.path / PACKETS)

    @property
    def grid(self) -> int:
        """Most tiles of a session: 64, or 4 under layout ustc28."""
        return STREAM_TILES if self.rules.layout == "ustc28" else GRID

    @functools.cached_property
    def tile_lengths(self) -> np.ndarray:
        """Bytes of each tile that are no padding, uint16 [T]; not known under layout ustc28."""
        return pq.read_table(self.path / PACKETS, columns=["length"])["length"].to_numpy()

    @functools.cached_property
    def first_tiles(self) -> np.ndarray:
        """First tile of each session, int64 [N]."""
        return self.table["first_tile"].to_numpy()

    @functools.cached_property
    def tile_counts(self) -> np.ndarray:
        """Tiles of each session, int32 [N]."""
        return self.table["tiles"].to_numpy()

    @functools.cached_property
    def _packet_ends(self) -> np.ndarray:
        return np.cumsum(self.table["packet_rows"].to_numpy(), dtype=np.int64)

    def packet_span(self, row: int) -> slice:
        """Return which rows of `packets` belong to the session in a row of `table`."""
        count = self.table["packet_rows"][int(row)].as_py()
        end = int(self._packet_ends[row])
        return slice(end - count, end)

    @functools.cached_property
    def leaks(self) -> dict:
        """What its splits share, of its sessions as they stand: see `leaks.recount`."""
        return recount(lambda names: self.table.select(names).to_batches(), self.manifest)

    def leaky(self, task: str) -> list[str]:
        """Return why a number of a task from it is no number of its split; empty if it is one."""
        return self.leaks["leaky"][task]

    @property
    def classes(self) -> list[str]:
        """Names of the multiclass labels, sorted: the meaning of `labels`."""
        return self.manifest["classes"]

    @property
    def labels(self) -> np.ndarray:
        """Multiclass labels, int32 [N] into `classes`."""
        return self.task_labels("multiclass")

    def task_classes(self, task: str) -> list[str]:
        """Return the class names of task `multiclass` or `binary`."""
        if task not in ("multiclass", "binary"):
            raise ConfigError(f"task {task!r} is unknown: choose multiclass or binary")
        return self.classes if task == "multiclass" else list(BINARY_CLASSES)

    def task_labels(self, task: str) -> np.ndarray:
        """Return int32 [N] into `task_classes(task)`.

        Raises:
            DatasetError: task binary, and some sessions are neither benign nor malware.
        """
        classes = self.task_classes(task)
        column = self.table["label" if task == "multiclass" else "binary_label"]
        if column.null_count:
            without = column.is_null()
            names = sorted(set(self.table["label"].filter(without).to_pylist()))
            raise DatasetError(
                f"{self.path}: {column.null_count} sessions are neither Benign nor Malware "
                f"({', '.join(names[:5])}{', ...' * (len(names) > 5)}): put their captures below "
                "folders of these names, or convert with --labels and a binary_label"
            )
        names = np.asarray(classes)
        return np.searchsorted(names, column.to_numpy(zero_copy_only=False)).astype(np.int32)

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of a split, int64, in the order of the table.

        Raises:
            ConfigError: there is no split of that name.
        """
        if split not in SPLITS:
            raise ConfigError(f"split {split!r} is unknown: choose one of {', '.join(SPLITS)}")
        return np.flatnonzero(self.table["split"].to_numpy(zero_copy_only=False) == split)

    def images(
        self, rows: np.ndarray | list[int], layout: str | None = None
    ) -> np.ndarray | list[np.ndarray]:
        """Return uint8 [n, 128, 128] of some sessions, or what `capture/layouts.py` says.

        Args:
            rows: int [n], rows of `table`.
            layout: another that these tiles can give; that of the rules by default.

        Raises:
            ConfigError: the tiles cannot give that layout.
        """
        rows, stored = np.asarray(rows, np.int64), self.rules.layout
        lengths = self.tile_lengths if needs_lengths(layout or stored) else None
        first, counts = self.first_tiles[rows], self.tile_counts[rows]
        return make_images(stored, self.tiles, first, counts, lengths, layout)


def open_dataset(path: str | os.PathLike) -> Dataset:
    """Open a dataset that `xai-traffic convert` made.

    Raises:
        DatasetError: it is missing, incomplete, or of another version.
    """
    path = pathlib.Path(path)
    manifest = read_manifest(path)
    try:
        dataset = Dataset(path, manifest, pq.read_table(path / SESSIONS))
        held = {
            "sessions": len(dataset),
            "tiles": len(dataset.tiles),
            "packet_rows": pq.read_metadata(path / PACKETS).num_rows,
        }
        rules = dataset.rules
    except (OSError, EOFError, ValueError, KeyError, pa.ArrowException, ConfigError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error
    lacking = set(SESSION_SCHEMA.names) - set(dataset.table.column_names)
    if lacking:
        raise DatasetError(f"{path}: {SESSIONS} lacks {', '.join(sorted(lacking))}: {AGAIN}")
    if dataset.tiles.shape[1:] != (TILE,) or held != manifest.get("holds"):
        raise DatasetError(f"{path}: its files do not fit its manifest: {AGAIN}")
    if rules.mask != "none" and manifest.get("mask_version") != MASK_VERSION:
        raise DatasetError(
            f"{path}: masked by version {manifest.get('mask_version')} of the masks, this is "
            f"version {MASK_VERSION}: {AGAIN}"
        )
    return dataset
