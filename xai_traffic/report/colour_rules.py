"""annotated.colorfilters: Wireshark's colour rules for the comments of an annotated capture.

View > Coloring Rules > Import takes the file. A hue is a class; it is the deeper the larger the
packet's share in the verdict is: heat 4 to 1, then all other packets of the class. The first rule
of Wireshark's list that fits a packet counts.

A line is `@name@filter@[background][foreground]`, colours of three 16-bit numbers, so neither name
nor filter may hold an @.
"""

from __future__ import annotations

import colorsys
import pathlib
from collections.abc import Sequence

from xai_traffic.report.comments import HEAT, quoted
from xai_traffic.terminal import printable

HUES = {"malware": 0.0, "benign": 1 / 3}
"""Red and green for the two classes whose names say what they are; others get other hues."""

_LIGHTEST, _DEEPEST = 0.1, 0.62


def write_colour_rules(path: pathlib.Path, classes: Sequence[str]) -> None:
    """Write the rules of some classes; those of the larger shares come first."""
    lines = ["# Colours of verdicts and shares: View > Coloring Rules > Import"]
    hues = class_hues(classes)
    for level in range(len(HEAT), -1, -1):
        for name in classes:
            colour = colorsys.hsv_to_rgb(hues[name], _saturation(level), 1.0)
            rule = f"{name}, heat {level}" if level else f"{name}, other packets"
            safe = printable(rule).replace("@", "(at)")
            lines.append(f"@{safe}@{packet_filter(name, level)}@{_numbers(colour)}[0,0,0]")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def packet_filter(name: str, level: int) -> str:
    """Return Wireshark's display filter for packets of a verdict, and of a heat if not 0."""
    parts = [f"xai-traffic: verdict {quoted(name)},"]
    if level:
        parts.append(f" %, heat {level} of {len(HEAT)},")
    return " && ".join(f"frame.comment contains {_literal(part)}" for part in parts)


def class_hues(classes: Sequence[str]) -> dict[str, float]:
    """Return a hue from 0 to 1 for each class, those without a known one evenly apart."""
    free = [name for name in classes if name.lower() not in HUES]
    spread = {name: (place + 0.5) / len(free) for place, name in enumerate(free)}
    return {name: HUES.get(name.lower(), spread.get(name, 0.0)) for name in classes}


def _saturation(level: int) -> float:
    return _LIGHTEST + (_DEEPEST - _LIGHTEST) * level / len(HEAT)


def _numbers(colour: tuple[float, float, float]) -> str:
    return "[" + ",".join(str(round(part * 65535)) for part in colour) + "]"


def _literal(text: str) -> str:
    """Return text as a string of the filter language, without an @."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("@", "\\x40")
    return f'"{escaped}"'
