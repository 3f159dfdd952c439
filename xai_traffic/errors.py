"""The errors a user can mend: each says what was wrong, where, and what to do."""

from __future__ import annotations


class XaiTrafficError(Exception):
    """Base of all errors whose message is meant for the user; the command exits with 1."""


class CaptureError(XaiTrafficError):
    """A capture that cannot be read at all.

    Args:
        capture: path as the user gave it.
        reason: what is wrong and, where there is one, the remedy.
        offset: byte offset in the (decompressed) stream, None where it does not apply.
        packet: 1-based number of the packet concerned, None where it does not apply.
    """

    def __init__(
        self, capture: str, reason: str, *, offset: int | None = None, packet: int | None = None
    ):
        # A file name may hold bytes that are no text, and reports are written as UTF-8.
        where = str(capture).encode("utf-8", "backslashreplace").decode()
        if packet is not None:
            where += f", packet {packet}"
        if offset is not None:
            where += f", byte offset {offset}"
        super().__init__(f"{where}: {reason}")
        self.capture, self.reason, self.offset, self.packet = capture, reason, offset, packet


class DatasetError(XaiTrafficError):
    """A dataset folder that is missing, incomplete or made by rules that do not fit."""


class ConfigError(XaiTrafficError):
    """A configuration that contradicts itself or its data; the message names key and remedy."""


class RunError(XaiTrafficError):
    """A run folder that is missing, unfinished or asked for something it cannot do."""


class PeerError(RunError):
    """Another process of the same training is gone, and this one cannot go on alone."""
