"""Text and numbers as HTML: whatever comes out of captures is escaped here, and only here."""

from __future__ import annotations

import base64
import hashlib
import html

from xai_traffic.terminal import printable


def text(value: object) -> str:
    """Return a value as HTML text that is safe in elements and in quoted attributes.

    Control and direction characters are made visible, so that no name can reorder what stands
    beside it.
    """
    return html.escape(printable(value), quote=True)


def percent(share: float, digits: int = 1) -> str:
    """Return a share as per cent with a no-break space: "43.1 %"; tiny ones as "< 0.1 %"."""
    least = 10.0 ** -(digits + 2)
    if 0 < share < least:
        return f"&lt;\u00a0{100 * least:.{digits}f}\u00a0%"
    return f"{100 * share:.{digits}f}\u00a0%"


def count(number: int, one: str, many: str | None = None) -> str:
    """Return "1 packet" or "2,000 packets"."""
    return f"{number:,}\u00a0{one if number == 1 else many or one + 's'}"


def data_uri(png: bytes) -> str:
    """Return a PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def content_hash(source: str) -> str:
    """Return the hash that a content security policy names an inline style or script by."""
    digest = hashlib.sha256(source.encode("utf-8")).digest()
    return "'sha256-" + base64.b64encode(digest).decode("ascii") + "'"
