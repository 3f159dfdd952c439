"""Write a dataset: tiles and packets session by session, then its tables and the manifest."""

from __future__ import annotations

import functools
import itertools
import json
import pathlib
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xai_traffic.capture.records import TILE
from xai_traffic.capture.sessions import PACKET_SCHEMA, TIME
from xai_traffic.data.folder import FORMAT, MANIFEST, PACKETS, SCHEMA, SESSIONS, TILES
from xai_traffic.data.leaks import Read
from xai_traffic.data.split import PLACES
from xai_traffic.errors import DatasetError

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
