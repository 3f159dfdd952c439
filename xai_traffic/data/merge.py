"""Merge the shards of a conversion to the dataset that one process would have made.

The shards are read back as the parts that their captures gave, and go the way of parts. Their
duplicates are already gone but for those that an earlier shard has; all else is known.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pathlib
from collections.abc import Generator, Iterator, Sequence
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xai_traffic.capture.records import TILE
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.account import Entry
from xai_traffic.data.folder import PACKETS, SESSIONS, TILES, new_folder
from xai_traffic.data.groups import Groups
from xai_traffic.data.making import Making
from xai_traffic.data.near_duplicates import NearDuplicates, parse_near
from xai_traffic.data.parts import Part, Summary
from xai_traffic.data.repeats import find_repeats
from xai_traffic.data.shard_notes import read_flows
from xai_traffic.data.shards import in_order
from xai_traffic.data.split import parse_split
from xai_traffic.data.spool import consecutive
from xai_traffic.data.workers import ahead
from xai_traffic.data.writer import DatasetWriter
from xai_traffic.errors import DatasetError
from xai_traffic.terminal import byte_progress

_ROWS = 1 << 16
"""Tiles, or sessions, that are read at a time."""


def merge(
    paths: Sequence[pathlib.Path], out: str | os.PathLike, *, overwrite: bool = False
) -> tuple[dict, list[tuple[str, str]]]:
    """Merge shards to a dataset; return its manifest and the captures with a fault.

    Args:
        paths: all shards of one conversion, in any order.
        out: the folder to make.
        overwrite: replace `out` if it is a dataset.

    Raises:
        DatasetError: the shards do not belong together, one is missing or damaged, `out` is in
            the way, or no session is left.
    """
    if any(os.path.realpath(out) == os.path.realpath(path) for path in paths):
        raise DatasetError(f"{out} is one of the shards to merge: choose another --out")
    shards = in_order(paths)
    like = shards[0][1]
    sizes = [manifest["holds"]["tiles"] * TILE for _, manifest in shards]
    wish = like["shard"].get("near_duplicates")
    near = None if wish is None else NearDuplicates(parse_near(wish))
    names = sorted({name for _, manifest in shards for name in manifest["classes"]})
    with (
        new_folder(out, overwrite) as folder,
        DatasetWriter(folder) as writer,
        contextlib.closing(
            Groups(
                parse_split(like["split"]),
                like["seed"],
                folder.parent,
                tied=near is not None and near.spec.action != "keep",
            )
        ) as groups,
        concurrent.futures.ThreadPoolExecutor(1, "shard") as thread,
        byte_progress(sum(sizes), "merge") as told,
    ):
        repeats = find_repeats(
            [
                (path, manifest["holds"]["sessions"], manifest["classes"])
                for path, manifest in shards
            ],
            names,
        )
        rules = ReadingRules.from_dict(like["rules"])
        cores = sorted({manifest["core"] for _, manifest in shards})
        making = Making(
            rules,
            like["shard"]["lines"],
            writer,
            groups,
            repeats,
            core=" and ".join(cores),
            lab=like.get("lab"),
            near=near,
        )
        done = 0
        for (path, manifest), size in zip(shards, sizes, strict=True):
            with _Reader(path, manifest) as reader:
                for parts in reader.captures():
                    with contextlib.closing(ahead(parts, thread)) as parts:
                        making.add(parts)
            done += size
            told(done)
        return making.finish(), making.failures


class _Reader:
    """A shard that is read from its first session to its last.

    Use it as a context manager.

    Raises:
        DatasetError: a file cannot be read, or does not fit the manifest.
    """

    def __init__(self, path: pathlib.Path, manifest: dict):
        self._path, self._manifest = path, manifest
        self._open = contextlib.ExitStack()

    def __enter__(self) -> _Reader:
        holds = self._manifest["holds"]
        with self._open, self._told():
            self._sessions = _Rows(self._open.enter_context(pq.ParquetFile(self._path / SESSIONS)))
            self._packets = _Rows(self._open.enter_context(pq.ParquetFile(self._path / PACKETS)))
            self._tiles = self._open.enter_context(open(self._path / TILES, "rb", buffering=0))
            version = np.lib.format.read_magic(self._tiles)
            if version != (1, 0):
                raise ValueError(f"{TILES} is of version {version}")
            shape, _, kind = np.lib.format.read_array_header_1_0(self._tiles)
            fits = shape == (holds["tiles"], TILE) and kind == np.uint8
            fits &= self._sessions.total == holds["sessions"]
            if not fits or self._packets.total != holds["packet_rows"]:
                raise ValueError("its files do not fit its manifest")
            self._flows = read_flows(self._path, holds["sessions"])
            self._open = self._open.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    def captures(self) -> Iterator[Generator[Part, None, Summary]]:
        """Yield for each capture the generator of its parts; use it up before the next."""
        end = 0
        for number, row in enumerate(self._manifest["captures"]):
            begin, end = end, end + row["kept"]["sessions"]
            yield self._parts(number, begin, end)

    def _parts(self, number: int, begin: int, end: int) -> Generator[Part, None, Summary]:
        with self._told():
            for first in range(begin, end, _ROWS):
                sessions = self._sessions.take(min(_ROWS, end - first)).drop_columns(["split"])
                counts = sessions["tiles"].to_numpy()
                for rows in consecutive(counts, _ROWS):
                    table = sessions.slice(rows.start, rows.stop - rows.start)
                    yield Part(
                        table,
                        self._read_tiles(int(counts[rows].sum())),
                        self._packets.take(int(table["packet_rows"].to_numpy().sum())),
                        _digests(table["content_hash"]),
                        self._flows[first + rows.start : first + rows.stop],
                    )
        row, shard = self._manifest["captures"][number], self._manifest["shard"]
        return Summary(
            {name: row[name] for name in ("capture", "sha256", "bytes")},
            Entry.from_dict(row),
            {name: Entry.from_dict(entry) for name, entry in shard["per_class"][number].items()},
            set(shard["used_rules"]),
            row["evicted"],
            row["fault"],
        )

    def _read_tiles(self, count: int) -> np.ndarray:
        tiles = np.empty((count, TILE), np.uint8)
        left = memoryview(tiles.reshape(-1))
        while left:
            got = self._tiles.readinto(left)
            if not got:
                raise EOFError(f"{TILES} was cut short")
            left = left[got:]
        return tiles

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Name the shard in what goes wrong with its files."""
        try:
            yield
        except (OSError, EOFError, ValueError, KeyError, pa.ArrowException) as error:
            raise DatasetError(
                f"{self._path}: cannot be read ({error}): convert this shard again, with "
                "--overwrite"
            ) from error


class _Rows:
    """The rows of a Parquet file in turn."""

    def __init__(self, file: pq.ParquetFile):
        self.total = file.metadata.num_rows
        self._none = file.schema_arrow.empty_table()
        self._batches = file.iter_batches(_ROWS)
        self._held: pa.RecordBatch | None = None

    def take(self, count: int) -> pa.Table:
        """Return the next rows, so many."""
        parts = []
        while count:
            if not self._held:
                self._held = next(self._batches, None)
                if self._held is None:
                    raise EOFError("it has fewer rows than its manifest says")
            part = self._held.slice(0, count)
            self._held = self._held.slice(len(part))
            count -= len(part)
            parts.append(part)
        return pa.Table.from_batches(parts) if parts else self._none


def _digests(names: pa.ChunkedArray) -> np.ndarray:
    """Return content hashes, uint8 [N, 16], of their names."""
    return np.frombuffer(bytes.fromhex("".join(names.to_pylist())), np.uint8).reshape(-1, 16)
