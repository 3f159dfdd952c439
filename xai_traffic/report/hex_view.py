"""The bytes of a packet as a static HTML hex dump, each byte on the colour of its attribution."""

from __future__ import annotations

import itertools

import numpy as np

from xai_traffic.report.explained import Explained
from xai_traffic.report.markup import text

ACROSS = 16
LEVELS = 8
"""Steps of colour; `report.css` has a class for each: p1..p8 for, n1..n8 against the verdict."""


def heat_levels(signed: np.ndarray) -> np.ndarray:
    """Return int levels -LEVELS..LEVELS of attributions, by the square root of their size.

    The root keeps the middle visible: a session's largest byte often has ten times the next.
    Anything under 1/400 of the largest is level 0.

    Args:
        signed: float of any shape, all bytes of the session, so that packets compare.
    """
    sizes = np.abs(signed)
    largest = sizes.max(initial=0.0)
    if not largest:
        return np.zeros(signed.shape, int)
    root = np.sqrt(sizes / largest)
    levels = np.where(root < 0.05, 0, np.ceil(LEVELS * root))
    return (np.sign(signed) * levels).astype(int)


def hex_view(explained: Explained, row: int, levels: np.ndarray) -> str:
    """Return one packet's hex dump as HTML.

    Args:
        row: which packet.
        levels: int [n, 256] of the session, see `heat_levels`.
    """
    length = int(explained.packets[row]["length"])
    data = explained.bytes[row, :length]
    lines = []
    for start in range(0, length, ACROSS):
        end = min(start + ACROSS, length)
        keys = [(int(levels[row, i]), bool(explained.hidden[row, i])) for i in range(start, end)]
        left, place = [], start
        for key, group in itertools.groupby(keys):
            size = len(list(group))
            part = data[place : place + size].tobytes().hex(" ")
            # The shortest of elements, for there are thousands of them.
            left.append(f"<i class={_classes(key)}>{part}</i>" if any(key) else part)
            place += size
        fill = " " * (3 * (start + ACROSS - end))
        lines.append(
            f'<span class="offset">{start:04x}</span>  {" ".join(left)}{fill}  '
            f"{text(_letters(data[start:end]))}"
        )
    return '<pre class="hex">' + "\n".join(lines) + "</pre>"


def _classes(key: tuple[int, bool]) -> str:
    """Return the value of a class attribute, quoted where it must be."""
    level, masked = key
    names = [f"{'p' if level > 0 else 'n'}{abs(level)}"] if level else []
    found = " ".join(names + ["masked"] * masked)
    return f'"{found}"' if " " in found else found


def _letters(part: np.ndarray) -> str:
    return "".join(chr(value) if 32 <= value < 127 else "." for value in part)
