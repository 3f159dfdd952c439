"""Make the limits of both cores so small that small inputs meet them.

`python tests/fuzz/small_limits.py FROM USUAL SMALL` copies the headers of the C core into two
folders: with its usual limits, but memory taken in small steps, which saves most of the time of a
run; and with small limits. `set_in_python()` sets those in the NumPy core.
"""

from __future__ import annotations

import pathlib
import re
import sys

LIMITS = {
    "MAX_RECORD": 1500,
    "MAX_INTERFACES": 3,
    "MAX_DATAGRAMS": 3,
    "MAX_WAITING": 3,
    "MAX_WAITING_BYTES": 500,
    "FARTHEST_TRANSPORT": 200,
    "MAX_OPTIONS": 32,
}
"""Values of the C core's names."""

STEPS = {"POOL_BLOCK": 64, "LARGE_PAGE": 64}
SMALL_STEPS = {"POOL_BLOCK": 8, "LARGE_PAGE": 64}
"""How the C core takes memory: items at a time, and the size from which on it wants large pages."""

FEWER = {
    "2 * ((uint64_t)core->slot_mask + 1) : 1024": "2 * ((uint64_t)core->slot_mask + 1) : 8",
    "return (uint32_t)mix(": "return 3 & (uint32_t)mix(",
}
"""A smaller table of sessions, and hashes that meet in it."""


def write_headers(
    source: pathlib.Path, folder: pathlib.Path, limits: dict[str, int], fewer: dict[str, str]
) -> None:
    """Copy the headers of the C core with other numbers, and with some texts replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    found = set()
    for path in sorted(source.glob("core*.h")):
        text = path.read_text(encoding="utf-8")
        for name, value in limits.items():
            text, count = re.subn(rf"\b{name} = [^,}}]+?(?=\s*[,}}])", f"{name} = {value}", text)
            found |= {name} if count else set()
        for there, instead in fewer.items():
            found |= {there} if there in text else set()
            text = text.replace(there, instead)
        (folder / path.name).write_text(text, encoding="utf-8")
    missing = {*limits, *fewer} - found
    if missing:
        raise SystemExit(f"the C core has no {sorted(missing)} any more: mend small_limits.py")


def set_in_python() -> None:
    """Set the same limits in the NumPy core of this process."""
    from xai_traffic.capture.core_numpy import formats, fragments, ip_headers

    names = {
        formats: {
            "MAX_RECORD": LIMITS["MAX_RECORD"],
            "MAX_INTERFACES": LIMITS["MAX_INTERFACES"],
            "OPTIONS_READ": LIMITS["MAX_OPTIONS"],
            "MAX_PACKET_BLOCK": LIMITS["MAX_RECORD"] + 65_536,
        },
        fragments: {
            "MAX_DATAGRAMS": LIMITS["MAX_DATAGRAMS"],
            "MAX_HELD": LIMITS["MAX_WAITING"],
            "MAX_HELD_BYTES": LIMITS["MAX_WAITING_BYTES"],
        },
        ip_headers: {"FARTHEST_TRANSPORT": LIMITS["FARTHEST_TRANSPORT"]},
    }
    for module, values in names.items():
        for name, value in values.items():
            if not hasattr(module, name):
                raise SystemExit(f"{module.__name__} has no {name} any more: mend small_limits.py")
            setattr(module, name, value)


if __name__ == "__main__":
    headers, usual, small = map(pathlib.Path, sys.argv[1:])
    write_headers(headers, usual, STEPS, {})
    write_headers(headers, small, LIMITS | SMALL_STEPS, FEWER)
