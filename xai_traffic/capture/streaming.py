"""Hand over the sessions of a capture while it is read, each once, as soon as it is known.

A session of a file is known when it ends: when the session rule ends it, or the capture does.
A live stream may have no end: there a session is also known when it has all its tiles, when it was
quiet for a while, or when its tiles must make room; its counts are those of that moment, and what
follows of it is left out.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator

import numpy as np
import pyarrow as pa

from xai_traffic.capture.batches import CaptureReader
from xai_traffic.capture.core import Batch
from xai_traffic.capture.live import is_live, timed_chunks
from xai_traffic.capture.reader import capture_name, open_chunks
from xai_traffic.capture.records import ENDS
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import Sessions, choose_sessions, gather
from xai_traffic.capture.tables import packet_table, session_table
from xai_traffic.capture.tile_store import TileStore

GROUP = 256
"""Sessions handed over at once, at most."""

QUIET_AFTER = 60.0
"""Seconds without a packet after which a session of a live stream is handed over."""

DELAY = 0.5
"""Seconds that a session of a live stream waits for others to make up a group, at most."""

TICK = 0.2
"""Seconds to wait for more of a live stream, before looking at what is due."""

GRACE = 1.0
"""Seconds in which a live stream that is stopped may still give what is under way."""

PENDING = 128 << 20
"""Bytes of tiles that wait for the end of their sessions in a live stream, at most."""

EVICTED = ENDS.index("evicted")
_EARLIEST, _LATEST = -(2**63), 2**63 - 1


class SessionStream:
    """Iterate over the sessions of a capture as they are known, `Sessions` of at most GROUP each.

    The rows of their tables are in the order of the sessions' ends, `end` says of what kind.

    Args:
        path: capture, "-" for standard input.
        rules: how to read it.
        name: what the tables call the capture, its path by default.
        live: whether it is a live stream; by default what is not a file on disk is one. Sessions of
            layout ustc28 are handed over at their ends all the same: their tiles are no packets.
        quiet_after: seconds, by the clock of the capture, after which a session of a live stream is
            handed over; 0 waits for the ends as with a file.
        stop: asked again and again; once true, the capture ends there.
        pending: bytes of tiles that may wait; where there are more of a live stream, the sessions
            that were quiet longest are handed over as "evicted", those of a file lie on disk.

    Attributes:
        packets: packet records so far.
        dropped: packets dropped so far by reason.
        fault: why reading stopped before the end, None if it did not; set when all is read.
        stopped: whether `stop` ended it.

    Raises:
        CaptureError: it cannot be opened; from the iterator: nothing of it can be read.
        ConfigError: filter or mask have an error.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        rules: ReadingRules,
        name: str | None = None,
        *,
        live: bool | None = None,
        quiet_after: float = QUIET_AFTER,
        stop: Callable[[], bool] = lambda: False,
        pending: int = PENDING,
    ):
        self.rules, self.name = rules, name or capture_name(path)
        self.live = is_live(path) if live is None else live
        self.stopped = False
        self._early = self.live and quiet_after > 0 and rules.layout != "ustc28"
        self._quiet_ns = round(quiet_after * 1e9)
        self._stop, self._pending = stop, pending
        chunks = open_chunks(path)
        chunks = timed_chunks(chunks, TICK) if self.live else chunks
        self._reader = CaptureReader(
            path, rules, early=self._early, chunks=self._until_stopped(chunks)
        )
        self._store: TileStore | None = None  # until the first batch shows how wide tiles are
        self._dropped: Counter[str] = Counter()
        self._ready: deque[np.ndarray] = deque()  # SESSION rows
        self._ready_count, self._ready_since = 0, 0.0
        self._clock: int | None = None  # time of the latest packet, ns, and when it was read
        self._clock_read = 0.0
        self._expired = _EARLIEST
        self._groups = self._read()

    def __iter__(self) -> Iterator[Sessions]:
        return self

    def __next__(self) -> Sessions:
        return next(self._groups)

    @property
    def packets(self) -> int:
        return self._reader.packets

    @property
    def dropped(self) -> dict[str, int]:
        return {**self._reader.dropped, **self._dropped}

    @property
    def fault(self) -> str | None:
        return self._reader.fault

    def close(self) -> None:
        """Close the capture before its end."""
        self._groups.close()

    def _read(self) -> Generator[Sessions, None, None]:
        with contextlib.ExitStack() as to_close:
            to_close.enter_context(contextlib.closing(self._reader))
            for batch in self._reader:
                if self._store is None:
                    self._store = TileStore(batch.tiles.shape[1])
                    to_close.enter_context(contextlib.closing(self._store))
                self._take(batch)
                if self._early:
                    self._expire()
                yield from self._due()
            while self._ready:
                yield self._group()

    def _until_stopped(self, chunks: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
        with contextlib.closing(chunks):
            for chunk in chunks:
                yield chunk
                if self._stop():
                    if not self.stopped:
                        self.stopped, asked = True, time.monotonic()
                        self._reader.stop()
                    if not self.live or time.monotonic() - asked >= GRACE:
                        return

    def _take(self, batch: Batch) -> None:
        if len(batch.packets):
            self._store.add(batch.tiles, batch.packets, only_whole=self._early)
            self._clock, self._clock_read = int(batch.packets["time_ns"][-1]), time.monotonic()
        self._end(batch.sessions)

    def _end(self, sessions: np.ndarray) -> None:
        """Make sessions ready to be handed over, but for those that the rules drop."""
        if not len(sessions):
            return
        self._store.seal(sessions["session"])
        kept, dropped = choose_sessions(sessions, self.rules)
        self._dropped.update(dropped)
        if dropped:
            held = np.isin(sessions["session"], kept["session"])
            self._store.take(sessions["session"][~held])
            sessions = sessions[held]
        if len(sessions):
            self._ready_since = self._ready_since if self._ready else time.monotonic()
            self._ready.append(sessions)
            self._ready_count += len(sessions)

    def _expire(self) -> None:
        """Make ready what was quiet for long, by the capture's clock, which goes on by itself."""
        if self._clock is None:
            return
        now = self._clock + round((time.monotonic() - self._clock_read) * 1e9)
        # A look at all sessions takes time; one wrong clock in a packet must not stop the looking.
        if now - self._expired >= self._quiet_ns // 10 or now < self._expired:
            self._expired = now
            self._end(self._reader.expire(max(now - self._quiet_ns, _EARLIEST)))
        times = self._store.last_times() if self._store.bytes > self._pending else ()
        if len(times):
            middle = int(np.partition(times, len(times) // 2)[len(times) // 2])
            rows = self._reader.expire(min(middle + 1, _LATEST)).copy()
            rows["end"] = EVICTED
            self._end(rows)

    def _due(self) -> Iterator[Sessions]:
        while self._ready_count >= GROUP:
            yield self._group()
        if self.live and self._ready and time.monotonic() - self._ready_since >= DELAY:
            yield self._group()

    def _group(self) -> Sessions:
        """Take the next ready sessions, put their tiles together and forget them."""
        parts, wanted = [], GROUP
        while self._ready and wanted:
            part = self._ready.popleft()
            if len(part) > wanted:
                self._ready.appendleft(part[wanted:])
            parts.append(part[:wanted])
            wanted -= len(parts[-1])
        ended = np.concatenate(parts)
        self._ready_count -= len(ended)
        self._ready_since = time.monotonic()
        tiles, packets = self._store.take(ended["session"])
        held = gather(tiles, packets, ended, self.rules)
        table = session_table(
            held.sessions,
            self.name,
            held.packet_rows,
            community_id_seed=self.rules.community_id_seed,
        )
        place = np.searchsorted(held.sessions["session"], ended["session"])
        return Sessions(
            table=table.take(pa.array(place)),
            tiles=held.tiles,
            packets=packet_table(held.packets),
            dropped={},
            fault=None,
            rules=self.rules,
        )
