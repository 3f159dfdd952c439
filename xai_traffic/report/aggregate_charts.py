"""Charts of aggregates as inline SVG, which take the page's colours, light or dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xai_traffic.report.intervals import ends, hundredfold
from xai_traffic.report.markup import percent, text

WIDTH, HEIGHT, LEFT, BASE = 1060, 120, 44, 18


def share_bar(row: Mapping[str, Any], top: float) -> str:
    """Return a horizontal bar of a mean share, its interval over it, and a mark of the size.

    Args:
        row: `share`, `low`, `high` and `size`, parts of 1.
        top: the share whose bar is full.
    """

    def at(share: float) -> float:
        return 1000 * min(max(share / top, 0.0), 1.0)

    low, high, size = at(row["low"]), at(row["high"]), at(row["size"])
    return (
        '<svg class="span" viewBox="0 0 1000 16" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="back" y="3" width="1000" height="10"/>'
        f'<rect class="mean" y="3" width="{at(row["share"]):.1f}" height="10"/>'
        f'<rect class="reach" x="{low:.1f}" y="7" width="{max(high - low, 1):.1f}" height="2"/>'
        f'<rect class="size" x="{max(size - 2, 0):.1f}" width="4" height="16"/></svg>'
    )


def position_chart(packets: Sequence[Mapping[str, Any]]) -> str:
    """Return bars of the packets' mean shares, parted by direction, with intervals.

    A dashed line tells in how many of the sessions there is such a packet: its scale is 0 to 100 %.

    Args:
        packets: as `evaluation.aggregates.packet_means` returns them.
    """
    places = max(len(packets), 16)
    step = (WIDTH - LEFT) / places
    top = ceiling(max((row["high"] for row in packets), default=0.0))

    def tall(share: float) -> float:
        return HEIGHT * min(share / top, 1.0)

    base = HEIGHT + 8
    parts = [
        f'<svg class="positions" viewBox="0 0 {WIDTH} {HEIGHT + BASE + 8}" role="img" '
        'aria-label="mean share of each packet position; the table below has the numbers">'
    ]
    for part in (0.5, 1.0):
        y = 8 + HEIGHT * (1 - part)
        digits = 0 if top >= 0.1 else 1
        parts.append(
            f'<line class="rule" x1="{LEFT}" x2="{WIDTH}" y1="{y:g}" y2="{y:g}"/>'
            f'<text x="{LEFT - 6}" y="{y + 4:g}" text-anchor="end">'
            f"{percent(part * top, digits)}</text>"
        )
    line = []
    for row in packets:
        number = row["packet"]
        left, wide = LEFT + (number + 0.14) * step, 0.72 * step
        y = float(base)
        parts.append(f"<g><title>{text(_words(row))}</title>")
        for way, name in enumerate(("initiator", "responder")):
            height = tall(row[name])
            y -= height
            parts.append(
                f'<rect class="d{way}" x="{left:.1f}" y="{y:.2f}" width="{wide:.1f}" '
                f'height="{height:.2f}"/>'
            )
        parts.append("</g>")
        middle = left + wide / 2
        low, high = base - tall(row["low"]), base - tall(row["high"])
        parts.append(
            f'<line class="reach" x1="{middle:.1f}" x2="{middle:.1f}" '
            f'y1="{low:.2f}" y2="{high:.2f}"/>'
        )
        has = base - HEIGHT * row["frequency"]
        line += [
            f"{LEFT + number * step:.1f},{has:.1f}",
            f"{LEFT + (number + 1) * step:.1f},{has:.1f}",
        ]
        if number % (1 if len(packets) <= 32 else 4) == 0:
            parts.append(
                f'<text x="{middle:.1f}" y="{base + 14}" text-anchor="middle">{number}</text>'
            )
    parts.append(
        f'<polyline class="has" points="{" ".join(line)}"/>'
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH}" y1="{base}" y2="{base}"/></svg>'
    )
    return "".join(parts)


def _words(row: Mapping[str, Any]) -> str:
    return (
        f"packet {row['packet']}: {100 * row['share']:.1f} % ({ends(row, hundredfold('.1f'))}), "
        f"in {100 * row['frequency']:.0f} % of the sessions"
    )


def ceiling(largest: float) -> float:
    """Return a round number at or above the largest share."""
    for top in (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8):
        if largest <= top:
            return top
    return 1.0
