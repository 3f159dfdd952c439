"""A dataset on disk: ragged tiles, two tables and a manifest.

tiles.npy         uint8 [T, 256]; the tiles of a session contiguous, in packet order
sessions.parquet  one row a session, in the order of the captures and of their sessions
packets.parquet   one row a packet of the tiles, in the same order, written before masking
manifest.json     how it was made, and an account of every packet that went in
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xai_traffic.capture.images import STREAM_TILES
from xai_traffic.capture.layouts import make_images, needs_lengths
from xai_traffic.capture.masking import MASK_VERSION
from xai_traffic.capture.records import GRID, TILE
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import PACKET_SCHEMA, TIME
from xai_traffic.data.folder import (
    AGAIN,
    FORMAT,
    MANIFEST,
    PACKETS,
    SCHEMA,
    SESSIONS,
    TILES,
    read_manifest,
)
from xai_traffic.data.labels import BINARY_CLASSES
from xai_traffic.data.leaks import Read, recount
from xai_traffic.data.split import PLACES, SPLITS
from xai_traffic.errors import ConfigError, DatasetError

_ROW_GROUP = 1 << 16
"""Rows of a table that are written together, at least."""

_WRITTEN = 1 << 20
"""Bytes written at a time: Linux may take several times as long for 16 MiB at once."""

_PACKED = ("session", "packet", "frame", "time_ns", "captured", "wire", "length")
_PACKETS_AS = {
    # Differences and repeats take little room as they are; compressing them again gains a tenth.
    "compression": "none",
    "column_encoding": dict.fromkeys(_PACKED, "DELTA_BINARY_PACKED"),
    "use_dictionary": [name for name in PACKET_SCHEMA.names if name not in _PACKED],
    "write_statistics": False,
}
"""How packets.parquet is written: it has a row for each tile, so this takes time."""

_UNLIKE = ("session", "first_time", "last_time", "community_id", "first_tile", "content_hash")
"""Columns of which hardly two rows are equal."""

_METADATA = {"xai_traffic.schema": str(SCHEMA)}
_PACKET_SCHEMA = PACKET_SCHEMA.with_metadata(_METADATA)
SESSION_SCHEMA = pa.schema(
    [
        ("session", pa.int64()),
        ("capture", pa.string()),
        ("protocol", pa.string()),
        ("source", pa.string()),
        ("source_port", pa.int32()),
        ("destination", pa.string()),
        ("destination_port", pa.int32()),
        ("first_time", TIME),
        ("last_time", TIME),
        ("packets", pa.int64()),
        ("bytes", pa.int64()),
        ("community_id", pa.string()),
        ("end", pa.string()),
        ("first_tile", pa.int64()),
        ("tiles", pa.int32()),
        ("packet_rows", pa.int32()),  # rows in packets.parquet; the number of tiles but for ustc28
        ("label", pa.string()),
        ("binary_label", pa.string()),
        ("split", pa.string()),
        ("content_hash", pa.string()),
        ("tunnel", pa.string()),  # null where the session lies in none, as the next two
        ("outer_source", pa.string()),
        ("outer_destination", pa.string()),
        ("depth", pa.uint8()),  # tunnels around its first packet
        ("icmp_type", pa.uint8()),  # of its first packet, null where it is not ICMP
        ("icmp_code", pa.uint8()),
    ],
    metadata=_METADATA,
)

_SESSIONS_AS = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": [name for name in SESSION_SCHEMA.names if name not in _UNLIKE],
}

_UNSPLIT = "sessions.arrow"
_UNSPLIT_SCHEMA = SESSION_SCHEMA.remove(SESSION_SCHEMA.get_field_index("split"))


Found = Callable[[Read], dict]
"""Tells what the manifest says of the sessions as they were written."""


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


class DatasetWriter:
    """Write tiles and packet rows session by session; tables and manifest come at the end.

    Use it as a context manager and call `finish` or `finish_split` last in it.
    """

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.tiles = self.packet_rows = 0
        self._waiting: list[pa.Table] = []
        self._unsplit: pa.ipc.RecordBatchStreamWriter | None = None

    def __enter__(self) -> DatasetWriter:
        self._stream = open(self.folder / TILES, "wb")  # noqa: SIM115
        self._header = self._write_header()
        self._packets = pq.ParquetWriter(self.folder / PACKETS, _PACKET_SCHEMA, **_PACKETS_AS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._packets.close()
        self._stream.close()
        if self._unsplit is not None:
            self._unsplit.close()
        (self.folder / _UNSPLIT).unlink(missing_ok=True)

    def _write_header(self) -> int:
        """Write the .npy header for the tiles so far; it has room for any number of them."""
        self._stream.seek(0)
        header = {"descr": "|u1", "fortran_order": False, "shape": (self.tiles, TILE)}
        np.lib.format.write_array_header_1_0(self._stream, header)
        return self._stream.tell()

    def append(self, tiles: np.ndarray, packets: pa.Table) -> None:
        """Append tiles uint8 [t, 256] and the packet rows of the same sessions."""
        octets = np.ascontiguousarray(tiles).reshape(-1)
        for start in range(0, len(octets), _WRITTEN):
            self._stream.write(octets[start : start + _WRITTEN])
        self.tiles += len(tiles)
        if len(packets):
            self._waiting.append(_in_form(packets, _PACKET_SCHEMA))
            self.packet_rows += len(packets)
        if sum(map(len, self._waiting)) >= _ROW_GROUP:
            self._flush()

    def append_sessions(self, sessions: pa.Table) -> None:
        """Append rows of sessions.parquet without `split`, which `finish_split` gives them."""
        sessions = _in_form(sessions, _UNSPLIT_SCHEMA)
        if self._unsplit is None:
            self._unsplit = pa.ipc.new_stream(str(self.folder / _UNSPLIT), _UNSPLIT_SCHEMA)
        self._unsplit.write_table(sessions)

    def _flush(self) -> None:
        if self._waiting:
            self._packets.write_table(pa.concat_tables(self._waiting))
            self._waiting = []

    def written_tiles(self) -> np.ndarray:
        """Return the tiles that were appended so far, uint8 [T, 256], mapped."""
        self._stream.flush()
        if not self.tiles:
            return np.zeros((0, TILE), np.uint8)
        return np.memmap(
            self.folder / TILES, np.uint8, "r", offset=self._header, shape=(self.tiles, TILE)
        )

    def finish_split(
        self, take: Callable[[int], np.ndarray], manifest: dict, found: Found | None = None
    ) -> dict:
        """Do as `finish` with the rows that were appended.

        Args:
            take: gives the split of so many rows in turn, int [n] into PLACES.
            manifest, found: see `finish`.
        """
        if self._unsplit is None:
            return self._finish(iter(()), manifest, found)
        self._unsplit.close()
        self._unsplit = None
        with pa.OSFile(str(self.folder / _UNSPLIT)) as file:
            return self._finish(_with_split(pa.ipc.open_stream(file), take), manifest, found)

    def finish(self, sessions: pa.Table, manifest: dict, found: Found | None = None) -> dict:
        """Write sessions.parquet and manifest.json; return the manifest as written.

        Args:
            sessions: its rows.
            manifest: what is known before.
            found: tells what the manifest says besides, of what gives columns of the sessions.

        Raises:
            DatasetError: the sessions' tiles are not the tiles that were appended.
        """
        return self._finish(iter([sessions]), manifest, found)

    def _finish(self, parts: Iterator[pa.Table], manifest: dict, found: Found | None) -> dict:
        self._flush()
        if self._write_header() != self._header:
            raise DatasetError(f"{TILES}: the header outgrew its room")
        sessions = tiles = rows = 0
        contiguous = True
        with pq.ParquetWriter(self.folder / SESSIONS, SESSION_SCHEMA, **_SESSIONS_AS) as writer:
            for part in parts:
                counts = part["tiles"].to_numpy().astype(np.int64)
                first = tiles + np.cumsum(counts) - counts
                contiguous &= np.array_equal(first, part["first_tile"].to_numpy())
                sessions += len(part)
                tiles += int(counts.sum())
                rows += int(part["packet_rows"].to_numpy().sum())
                writer.write_table(_in_form(part, SESSION_SCHEMA))
        if not contiguous or (tiles, rows) != (self.tiles, self.packet_rows):
            raise DatasetError(f"{SESSIONS} does not cover the tiles or the packets: not written")
        holds = {"sessions": sessions, "tiles": tiles, "packet_rows": rows}
        more = {} if found is None else found(functools.partial(_read, self.folder / SESSIONS))
        manifest = {"format": FORMAT, "schema": SCHEMA, **manifest, **more, "holds": holds}
        text = json.dumps(manifest, indent=2, ensure_ascii=True) + "\n"
        (self.folder / MANIFEST).write_text(text, "utf-8")
        return manifest


def _read(path: pathlib.Path, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield columns of a table file."""
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(_ROW_GROUP, columns=names)


def _in_form(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of a schema, in its order and types."""
    table = table.select(schema.names)
    same = table.schema.equals(schema)
    return table.replace_schema_metadata(schema.metadata) if same else table.cast(schema)


def _with_split(
    batches: Iterable[pa.RecordBatch], take: Callable[[int], np.ndarray]
) -> Iterator[pa.Table]:
    """Put batches together to row groups, and the split to their rows."""
    names = np.asarray(PLACES, object)
    waiting: list[pa.RecordBatch] = []
    for batch in itertools.chain(batches, [None]):
        waiting += [batch] * (batch is not None)
        count = sum(map(len, waiting))
        if count >= _ROW_GROUP or (batch is None and count):
            table = pa.Table.from_batches(waiting, _UNSPLIT_SCHEMA)
            yield table.append_column("split", pa.array(names[take(count)], pa.string()))
            waiting = []
