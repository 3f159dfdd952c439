"""Say which file a capture is: its SHA-256 and size, as it lies on disk."""

from __future__ import annotations

import hashlib
import os
import threading
from types import TracebackType

from xai_traffic.capture.reader import STANDARD_INPUT

Facts = dict[str, str | int | None]

_PIECE = 256 << 10
"""Bytes hashed at a time: they stay in the processor's cache from reading to hashing."""


class FileFacts:
    """Hash a file in a thread of its own, beside what else is done with it.

    Use it as a context manager; left early, it ends the thread.

    Args:
        path: the file, "-" for standard input.
    """

    def __init__(self, path: str | os.PathLike):
        self._path, self._left = path, threading.Event()
        self._facts: Facts = {"sha256": None, "bytes": None}
        self._thread = threading.Thread(target=self._hash, name="hash", daemon=True)

    def __enter__(self) -> FileFacts:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left.set()
        self._thread.join()

    def get(self) -> Facts:
        """Wait for `sha256` (in hex) and `bytes` of the file and return them.

        Both are None for standard input and pipes, and where the file cannot be read to its end:
        its fault says why.
        """
        self._thread.join()
        return self._facts

    def _hash(self) -> None:
        try:
            if os.fspath(self._path) == STANDARD_INPUT or not os.path.isfile(self._path):
                return
            digest, size = hashlib.sha256(), 0
            piece = memoryview(bytearray(_PIECE))
            with open(self._path, "rb", buffering=0) as stream:
                while (count := stream.readinto(piece)) and not self._left.is_set():
                    digest.update(piece[:count])
                    size += count
            if not count:
                self._facts = {"sha256": digest.hexdigest(), "bytes": size}
        except OSError:
            return


def facts_of_file(path: str | os.PathLike) -> Facts:
    """Return what `FileFacts.get` does."""
    with FileFacts(path) as facts:
        return facts.get()
